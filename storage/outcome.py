"""What became of something that was offered to the database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from storage.errors import reason, trouble

Kind = Literal["written", "unavailable", "refused", "misconfigured"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """``written`` is durable; anything else kept nothing, and *reason* is one line for the log.

    *inserted* rows were new, *duplicates* were there already, *conflicts* of those held another
    value.  ``unavailable``: offer the same again.  ``refused``: some row can never be taken.
    ``misconfigured``: nothing can be taken until a person mends something.
    """

    kind: Kind
    inserted: int = 0
    duplicates: int = 0
    conflicts: int = 0
    reason: str = ""

    @staticmethod
    def failed(error: BaseException) -> Outcome:
        """Return the outcome that *error* stands for; raise one that is not the database's."""
        return Outcome(trouble(error), reason=reason(error))
