"""Replies that come too late, on lines whose frames do not say which request they answer; pure.

RTU and ASCII frames carry no transaction.  When a reply misses its deadline and comes while the
next request waits, a naive master takes it for the answer to that one, and stays one reply behind
for ever.  Closing the connection does not help: the reply waits in the gateway's serial buffer.

Two facts are enough to be safe.  A slave answers in the order in which it was asked, so a reply
that only the newest request can have caused proves that everything older has come or never will.
And a reply shows its unit, its function code and its length.  So each request that went without a
reply is kept here as *owed*.  A frame that fits something owed is never believed to be new: it is
taken off the list and thrown away.  Before a request whose answer would look like one that is owed,
another is sent whose answer does not (`Clearance.sync`): a shorter read, another block, or one
value by another function code, which a slave without that table refuses, and that will do as well.
When it is answered, the unit owes nothing any more.  Where no such request can be found, the unit
rests until nothing can still come.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from ingest.modbus.request import ReadRequest, Request

Shape = tuple[int, int, object]
_TWIN = {1: 2, 2: 1, 3: 4, 4: 3}


@dataclass(frozen=True, slots=True)
class _Owed:
    shapes: frozenset[Shape]
    until_s: float


class Verdict(Enum):
    """Whose reply a frame is."""

    OURS = "only the request that waits can have caused it"
    LATE = "it answers, or may answer, an older request"
    FOREIGN = "nobody asked for it"


@dataclass(frozen=True, slots=True)
class Clearance:
    """What may be sent: the request itself, *sync* before it, or nothing until *rest_until_s*."""

    sync: ReadRequest | None = None
    rest_until_s: float | None = None


@dataclass
class LateReplies:
    """What the slaves of one line still owe; times in seconds of any rising clock.

    *horizon_s* is how long after it was missed a reply is thought possible at most.
    """

    horizon_s: float
    _owed: dict[int, list[_Owed]] = field(default_factory=dict)

    def missed(self, request: Request, now_s: float) -> None:
        """*request* went without its reply."""
        owed = self._owed.setdefault(request.unit, [])
        owed.append(_Owed(frozenset(_shapes(request)), now_s + self.horizon_s))

    def owes(self, unit: int, now_s: float) -> bool:
        """Whether a reply of *unit* may still come."""
        return bool(self._live(unit, now_s))

    def clearance(self, request: Request, others: Iterable[ReadRequest], now_s: float) -> Clearance:
        """Say whether *request* may be sent; *others* are reads that its unit can answer."""
        owed = self._live(request.unit, now_s)
        if not owed:
            return Clearance()
        free_at_s = {
            shape: entry.until_s for entry in owed for shape in entry.shapes
        }  # of several that look alike the last one counts
        if _answer(request) not in free_at_s:
            return Clearance()
        rest_until_s = free_at_s[_answer(request)]
        for candidate in _candidates(request, others):
            if (shape := _answer(candidate)) not in free_at_s:
                return Clearance(sync=candidate)
            rest_until_s = min(rest_until_s, free_at_s[shape])
        return Clearance(rest_until_s=rest_until_s)

    def judge(self, request: Request | None, unit: int, pdu: bytes, now_s: float) -> Verdict:
        """Say whose reply a frame is; *request* is the one that waits, None if none does.

        What is late is taken off the list, with everything older of that unit.
        """
        shape = _shape(unit, pdu)
        owed = self._live(unit, now_s)
        for place, entry in enumerate(owed):
            if shape in entry.shapes:
                del owed[: place + 1]
                return Verdict.LATE
        if request is not None and shape in _shapes(request):
            owed.clear()
            return Verdict.OURS
        return Verdict.FOREIGN

    def _live(self, unit: int, now_s: float) -> list[_Owed]:
        owed = self._owed.get(unit)
        if not owed:
            return []
        owed[:] = [entry for entry in owed if entry.until_s > now_s]
        return owed


def _answer(request: Request) -> Shape:
    """Return what the answer to *request* looks like."""
    if isinstance(request, ReadRequest):
        return request.unit, request.function, request.data_bytes
    return request.unit, request.function, request.echo


def _shapes(request: Request) -> tuple[Shape, Shape]:
    """Return what the two possible replies look like: the answer, and a refusal."""
    return _answer(request), (request.unit, request.function | 0x80, None)


def _shape(unit: int, pdu: bytes) -> Shape:
    function = pdu[0] if pdu else 0
    if function & 0x80:
        return unit, function, None
    if function in _TWIN:
        return unit, function, len(pdu) - 2
    return unit, function, pdu


def _candidates(request: Request, others: Iterable[ReadRequest]) -> Iterator[ReadRequest]:
    """Yield reads whose answers differ: known ones, then one value by each other function code."""
    known = [other for other in others if other.unit == request.unit]
    yield from known
    for function in (_TWIN.get(request.function, 3), 3, 4, 1, 2):
        if function != request.function:
            yield ReadRequest(request.unit, function, request.address, 1)
