import pytest

from tests.api.base import Base, make_base


@pytest.fixture
def base() -> Base:
    """A base whose reads need a token."""
    return make_base()
