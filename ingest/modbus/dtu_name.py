"""Which DTU is calling, by the first bytes that it sends; pure.

A DTU says its name in a registration packet, which its owner has set.  One that can only send
heartbeats is known by those.  Many DTUs of a maker send the same heartbeat, so where there is a
registration the heartbeat says nothing of who it is, and is passed over if it comes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DtuName:
    """How one DTU makes itself known.

    *registration* is what it sends first; *heartbeat* what it sends now and then, which makes it
    known where there is no registration.
    """

    code: str
    registration: bytes = b""
    heartbeat: bytes = b""

    def __post_init__(self) -> None:
        if not self.registration and not self.heartbeat:
            raise ValueError(f"DTU {self.code}: a registration packet or a heartbeat is needed")

    @property
    def greeting(self) -> bytes:
        """What it is known by."""
        return self.registration or self.heartbeat


@dataclass(frozen=True, slots=True)
class Recognition:
    """What the first bytes of a call say.

    *code* is the DTU, None if none is recognised (yet); *used* bytes of what was heard are its
    name, and heartbeats before that.  *undecided* says that more bytes may say something else: a
    longer name, or a name at all.
    """

    code: str | None
    used: int
    undecided: bool


def recognise(names: Sequence[DtuName], heard: bytes) -> Recognition:
    """Say who is calling, from all that was *heard* so far."""
    at = 0
    while True:
        rest = heard[at:]
        longer = any(name.greeting.startswith(rest) and name.greeting != rest for name in names)
        said = [name for name in names if rest.startswith(name.greeting)]
        if said:
            best = max(said, key=lambda name: len(name.greeting))
            return Recognition(best.code, at + len(best.greeting), longer)
        beats = [name.heartbeat for name in names if name.heartbeat]
        beat = next((beat for beat in beats if rest.startswith(beat)), b"")
        if longer or not beat:
            return Recognition(None, at, longer or any(b.startswith(rest) for b in beats))
        at += len(beat)


def name_mistakes(names: Sequence[DtuName]) -> list[tuple[str, str]]:
    """Return (code, what is wrong) for DTUs that could be taken for each other."""
    found: list[tuple[str, str]] = []
    for place, name in enumerate(names):
        for other in names[:place]:
            if name.greeting == other.greeting:
                text = f"is known by {name.greeting!r}, and so is {other.code}"
                found.append((name.code, text))
        if name.registration:
            continue
        same = [n.code for n in names if n.registration and n.heartbeat == name.heartbeat]
        if same:
            beat = f"its heartbeat {name.heartbeat!r} alone"
            found.append((name.code, f"is known by {beat}, and {', '.join(same)} sends the same"))
    return found
