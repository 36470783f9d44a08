"""Dead letters: received, not understood, kept whole until somebody mends the profile."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from devices.dead_letter import DeadLetter
from devices.topic import Template
from storage.instant import fits, instant, microseconds
from storage.outcome import Outcome, put_columns
from storage.pool import Connection, Pool
from storage.statements import statements

_PAGE = 200


@dataclass(frozen=True, slots=True)
class KeptLetter:
    """A dead letter as it is kept.

    *replayed_at* is when it was last handed in again, None while it waits.
    """

    id: str
    letter: DeadLetter
    replayed_at: datetime | None


class DeadLetterStore:
    """The dead letters behind *pool*; reads may raise the errors of `Pool.run`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def put(self, letters: Sequence[DeadLetter]) -> Outcome:
        """Keep *letters* whole; never raises for what the database does.

        One that is kept already is a duplicate, and waits again if it had been replayed: it has
        failed once more.  Only the reason and what is shown of the topic lose characters that the
        database cannot hold.
        """
        if any(not fits(letter.received_at_us) for letter in letters):
            return Outcome("refused", reason="received_at outside the years 1 to 9999")
        rows = [_row(letter) for letter in {letter.id: letter for letter in letters}.values()]
        columns = {name: [row[name] for row in rows] for name in _COLUMNS}

        return await put_columns(self._pool, _SQL["put"], columns, len(letters))

    async def list(
        self,
        limit: int,
        code: str | None = None,
        source: str | None = None,
        before: str | None = None,
    ) -> list[KeptLetter]:
        """Return up to *limit* letters, the newest first.

        *before* is the id of the last letter of the page before this one.
        """
        arguments = {"limit": limit, "code": code, "source": source, "before": before}
        return [*await self._read("list", arguments)]

    async def get(self, letter_id: str) -> KeptLetter | None:
        """Return one letter, None when it is not kept (any more)."""
        found = await self._read("get", {"id": letter_id})
        return found[0] if found else None

    async def stream(
        self, code: str | None = None, source: str | None = None, *, replayed: bool = False
    ) -> AsyncIterator[KeptLetter]:
        """Yield letters to replay, the oldest first, a page of them in memory.

        With *replayed*, those that were handed in before come too.  To replay one, mark it first
        and then hand it in: should it fail again, `put` makes it wait again.
        """
        after: KeptLetter | None = None
        while True:
            page = await self._read(
                "page",
                {
                    "limit": _PAGE,
                    "code": code,
                    "source": source,
                    "replayed": replayed,
                    "after_at": instant(after.letter.received_at_us) if after else None,
                    "after_id": after.id if after else None,
                },
            )
            for kept in page:
                yield kept
            if len(page) < _PAGE:
                return
            after = page[-1]

    async def mark_replayed(self, ids: Sequence[str], at: datetime | None) -> int:
        """Note that *ids* were handed in again at the aware time *at*; return how many are kept.

        None takes the note back, for a letter that could not be handed in; it is wanted again.
        """
        arguments = {"ids": [*ids], "at": at}

        async def mark(connection: Connection) -> int:
            return (await connection.execute(_SQL["mark_replayed"], arguments)).rowcount

        return await self._pool.run(mark)

    async def want(
        self,
        code: str | None = None,
        source: str | None = None,
        ids: Sequence[str] | None = None,
    ) -> int:
        """Ask a running service to hand letters in again; return how many that is.

        Only letters that wait: of reason *code*, of *source*, among *ids*, where those are given.
        """
        arguments = {"code": code, "source": source, "ids": None if ids is None else [*ids]}

        async def want(connection: Connection) -> int:
            return (await connection.execute(_SQL["want"], arguments)).rowcount

        return await self._pool.run(want)

    async def want_topic(self, topic: Template) -> int:
        """Ask for all waiting letters of the MQTT topics that *topic* means; return how many."""
        arguments = {**_topic_arguments(topic), "limit": _WANTED_AT_A_TIME}

        async def want(connection: Connection) -> int:
            return (await connection.execute(_SQL["want_topic"], arguments)).rowcount

        asked = 0
        while some := await self._pool.run(want):
            asked += some
        return asked

    async def want_on(self, code: str, topic: str, below: str, until_us: int) -> int:
        """Ask for letters of reason *code* to be handed in again; return how many that is.

        Those that wait, came until *until_us*, and are on *topic* or on one that begins with
        *below*.
        """
        arguments = {"code": code, "topic": topic, "below": below, "until": instant(until_us)}

        async def want(connection: Connection) -> int:
            return (await connection.execute(_SQL["want_on"], arguments)).rowcount

        return await self._pool.run(want)

    async def wanted(self, limit: int) -> Sequence[KeptLetter]:
        """Return up to *limit* letters that somebody asked for, the oldest first."""
        return await self._read("wanted", {"limit": limit})

    async def still_wanted(self) -> int:
        """Return how many letters that somebody asked for were not handed in yet."""

        async def count(connection: Connection) -> int:
            row = await (await connection.execute(_SQL["still_wanted"])).fetchone()
            return row[0] if row is not None else 0

        return await self._pool.run(count)

    async def counts(self) -> dict[str, int]:
        """Return how many letters wait to be replayed, by code of the reason."""

        async def count(connection: Connection) -> dict[str, int]:
            return {code: n async for code, n in await connection.execute(_SQL["counts"])}

        return await self._pool.run(count)

    async def _read(self, name: str, arguments: Mapping[str, object]) -> Sequence[KeptLetter]:
        return await self._pool.rows(_SQL[name], arguments, _kept)


_SQL = statements("dead_letters")
_WANTED_AT_A_TIME = 20_000
_INDEXED = 100  # characters of a topic that stand in the index
_COLUMNS = (
    "id",
    "source",
    "topic",
    "topic_bytes",
    "payload",
    "received_at",
    "code",
    "text",
    "flags",
)


def _row(letter: DeadLetter) -> dict[str, Any]:
    topic = _showable(letter.topic)
    as_received = None
    if topic != letter.topic:
        as_received = letter.topic.encode("utf-8", "surrogateescape")
    return {
        "id": letter.id,
        "source": letter.source,
        "topic": topic,
        "topic_bytes": as_received,
        "payload": letter.payload,
        "received_at": instant(letter.received_at_us),
        "code": letter.code,
        "text": _showable(letter.text),
        "flags": letter.flags,
    }


def _topic_arguments(topic: Template) -> dict[str, str]:
    """Return a LIKE pattern and a regular expression for the topics that *topic* means."""
    beginning = topic.filter.partition("+")[0].removesuffix("#").removesuffix("/")
    shown = beginning[:_INDEXED]
    like = "".join(f"\\{one}" if one in r"\%_" else one for one in shown)
    is_whole = topic.is_topic and len(beginning) <= _INDEXED
    levels = topic.filter.split("/")
    tail = levels[-1] == "#"
    named = levels[:-1] if tail else levels
    expression = "/".join("[^/]*" if level == "+" else _literal(level) for level in named)
    if tail:
        expression += "(/.*)?" if named else ".*"
    return {"beginning": like if is_whole else f"{like}%", "pattern": f"^{expression}$"}


def _literal(level: str) -> str:
    return "".join(one if one.isalnum() else f"\\{one}" for one in level)


def _kept(row: Mapping[str, Any]) -> KeptLetter:
    topic = row["topic"]
    if row["topic_bytes"] is not None:
        topic = row["topic_bytes"].decode("utf-8", "surrogateescape")
    letter = DeadLetter(
        row["source"],
        topic,
        row["payload"],
        microseconds(row["received_at"]),
        row["code"],
        row["text"],
        row["flags"],
    )
    return KeptLetter(row["id"], letter, row["replayed_at"])


def _showable(text: str) -> str:
    """Return *text* with the replacement character for what the server's text cannot hold."""
    valid = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    return valid.replace("\0", "\N{REPLACEMENT CHARACTER}")
