"""Bearer tokens of machines."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable


class Tokens:
    """Bearer tokens, kept as SHA-256: they are long and random, so a plain hash is enough."""

    def __init__(self, tokens: Iterable[str] = ()) -> None:
        self._digests = tuple(_digest(token) for token in tokens)

    def accept(self, token: str) -> bool:
        """Tell whether *token* is one of them, in a time that does not say how near it comes."""
        digest = _digest(token)
        found = False
        for known in self._digests:
            found |= hmac.compare_digest(digest, known)
        return found


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
