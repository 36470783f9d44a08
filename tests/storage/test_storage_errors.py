"""Which word each state of the server stands for."""

from __future__ import annotations

import psycopg
import pytest
from psycopg_pool import PoolTimeout

from storage.errors import (
    DatabaseMisconfigured,
    DatabaseUnavailable,
    DataRefused,
    reason,
    trouble,
    wrapped,
)

STATES = [
    ("08006", "unavailable"),  # connection failure
    ("57P01", "unavailable"),  # admin shutdown
    ("57P02", "unavailable"),  # crash shutdown
    ("57P03", "unavailable"),  # cannot connect now
    ("57014", "unavailable"),  # our statement timeout
    ("40001", "unavailable"),  # serialisation failure
    ("40P01", "unavailable"),  # deadlock
    ("53100", "unavailable"),  # disk full
    ("53200", "unavailable"),  # out of memory
    ("53300", "unavailable"),  # too many connections
    ("55P03", "unavailable"),  # lock not available
    ("25P03", "unavailable"),  # idle in transaction for too long
    ("58030", "unavailable"),  # input or output error
    ("0A000", "unavailable"),  # cached plan must not change result type
    ("22003", "refused"),  # numeric value out of range
    ("22008", "refused"),  # datetime field overflow
    ("23502", "refused"),  # not null
    ("23514", "refused"),  # check
    ("21000", "refused"),  # a row twice in one statement
    ("28P01", "misconfigured"),  # wrong password
    ("3D000", "misconfigured"),  # no such database
    ("42P01", "misconfigured"),  # no such table
    ("42501", "misconfigured"),  # no permission
    ("25006", "misconfigured"),  # read-only
]


@pytest.mark.parametrize(("state", "kind"), STATES)
def test_a_state_has_its_word(state: str, kind: str):
    error = psycopg.errors.lookup(state)("what happened")
    assert trouble(error) == kind
    assert state in reason(error)


def test_errors_without_a_state_are_told_by_their_kind():
    assert trouble(psycopg.OperationalError("server closed the connection")) == "unavailable"
    assert trouble(PoolTimeout("none in 2 s")) == "unavailable"
    assert trouble(ConnectionRefusedError()) == "unavailable"
    assert trouble(psycopg.DataError("cannot contain NUL")) == "refused"
    assert trouble(UnicodeEncodeError("utf-8", "\udc00", 0, 1, "surrogates")) == "refused"


def test_an_error_that_is_not_the_databases_is_raised():
    with pytest.raises(KeyError):
        trouble(KeyError("ours"))


def test_wrapping_keeps_word_and_text():
    for error, made in (
        (psycopg.errors.DiskFull("no room"), DatabaseUnavailable),
        (psycopg.errors.UndefinedTable("no table"), DatabaseMisconfigured),
        (psycopg.errors.CheckViolation("no"), DataRefused),
    ):
        assert isinstance(wrapped(error), made)
        assert trouble(wrapped(error)) == trouble(error)
        assert str(error) in str(wrapped(error))


def test_a_reason_is_one_line():
    assert "\n" not in reason(psycopg.OperationalError("a\n  b\nc"))
