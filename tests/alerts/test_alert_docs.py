"""The reference of rules names every key, word, pack and field."""

from __future__ import annotations

import pytest

from alerts.expression import FUNCTIONS, STATISTICS
from alerts.pack_library import shipped_pack_names
from alerts.rule import (
    MESSAGE_FIELDS,
    Label,
    LevelEntry,
    PackDocument,
    Per,
    RuleEntry,
    ScheduleEntry,
    SourceEntry,
    ValidEntry,
    WhereEntry,
)
from alerts.trial import TRIAL_FIELDS
from tests.alerts.places import REPOSITORY

TEXT = (REPOSITORY / "docs/reference/rules.md").read_text("utf-8")


def keys(model):
    return [field.alias or name for name, field in model.model_fields.items()]


@pytest.mark.parametrize(
    "model",
    [PackDocument, RuleEntry, LevelEntry, WhereEntry, SourceEntry],
    ids=lambda m: m.__name__,
)
def test_every_key_of_a_pack_is_explained(model):
    assert [key for key in keys(model) if f"`{key}`" not in TEXT] == []


@pytest.mark.parametrize("model", [ScheduleEntry, ValidEntry, *TRIAL_FIELDS.values()])
def test_every_key_of_schedules_and_trials_is_shown(model):
    assert [key for key in keys(model) if f"{key}:" not in TEXT and f"`{key}`" not in TEXT] == []


def test_every_word_of_the_language_is_explained():
    words = [
        *STATISTICS,
        *FUNCTIONS,
        *(label.value for label in Label),
        *(per.value for per in Per),
    ]
    assert [word for word in words if f"`{word}`" not in TEXT] == []
    assert [name for name in MESSAGE_FIELDS if f"`{{{name}}}`" not in TEXT] == []


def test_every_shipped_pack_is_listed():
    assert [name for name in shipped_pack_names() if f"`{name}`" not in TEXT] == []
