"""Who may read and who may write, until there are people with roles.

Every write needs a bearer token.  Every read needs one too, unless the service was told to open
reads to the machine it runs on (the demo).  A request is of this machine only if its peer is a
loopback address, it names this machine as its host (a page elsewhere whose name resolves to
127.0.0.1 does not), and no proxy has left its mark on it; what a proxy claims is never believed.
"""

from __future__ import annotations

import ipaddress

from fastapi import Request

from api.problems import Problem
from api.services import services_of

_PROXY_MARKS = ("forwarded", "via", "x-real-ip", "x-client-ip", "cf-connecting-ip")
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})


async def require_token(request: Request) -> None:
    """Let a request with a good token pass, wherever it is from; end any other with 401."""
    if not _has_token(request):
        raise _unauthorized(request)


async def require_read(request: Request) -> None:
    """Let a request with a good token pass, and one of this machine where reads are open."""
    if not may_read(request):
        raise _unauthorized(request)


def may_read(request: Request) -> bool:
    """Tell whether *request* may see readings."""
    return _has_token(request) or (
        services_of(request).settings.open_loopback_reads and is_of_this_machine(request)
    )


def is_of_this_machine(request: Request) -> bool:
    """Tell whether *request* came from this machine and through nobody's hands."""
    if any(name in _PROXY_MARKS or name.startswith("x-forwarded") for name in request.headers):
        return False
    host, _, port = request.headers.get("host", "").rpartition(":")
    if not port.isdecimal() or not host:
        host = request.headers.get("host", "")
    if host.lower() not in _LOCAL_NAMES or request.client is None:
        return False
    try:
        peer = ipaddress.ip_address(request.client.host)
    except ValueError:
        return False
    mapped = peer.ipv4_mapped if isinstance(peer, ipaddress.IPv6Address) else None
    return (mapped or peer).is_loopback


def _has_token(request: Request) -> bool:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and services_of(request).tokens.accept(token.strip())


def _unauthorized(request: Request) -> Problem:
    given = "authorization" in request.headers
    error = ', error="invalid_token"' if given else ""
    detail = "the bearer token is not known" if given else "a bearer token is needed"
    header = f'Bearer realm="greenhouse"{error}'
    return Problem(401, "unauthorized", detail, headers={"WWW-Authenticate": header})
