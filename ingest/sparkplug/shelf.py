"""The certificates of edge nodes over a restart: one small file a node, beside the spool."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from pathlib import Path

import msgspec

from ingest.sparkplug.session import NodeState, recalled
from ingest.whole_file import write_each_whole

_log = logging.getLogger(__name__)


class Shelf:
    """Files in *folder*; each is always whole.  Both calls block on the disk for a moment."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self) -> list[NodeState]:
        """Return what an earlier process knew; a file that cannot be read is logged and left out.

        Its node is then unknown until it is born again.
        """
        found: list[NodeState] = []
        for file in sorted(self._folder.glob("*.json")):
            try:
                state = msgspec.json.decode(file.read_bytes(), type=NodeState)
            except (OSError, msgspec.DecodeError) as error:
                _log.error("sparkplug: the certificate in %s cannot be read: %s", file, error)
            else:
                found.append(recalled(state))
        return found

    def save(self, states: Iterable[NodeState]) -> None:
        """Keep *states* over a loss of power; raises OSError where the disk cannot."""
        self._folder.mkdir(mode=0o750, exist_ok=True)
        write_each_whole({self._file(state): msgspec.json.encode(state) for state in states})

    def _file(self, state: NodeState) -> Path:
        name = hashlib.blake2b(str(state.name).encode(), digest_size=16).hexdigest()
        return self._folder / f"{name}.json"
