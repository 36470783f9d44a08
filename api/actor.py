"""Who does something over HTTP: the header ``x-actor`` or ``actor`` in the body, and plain texts.

The name is recorded as it is told; the token is what opens the door.
"""

from __future__ import annotations

import unicodedata
from typing import Annotated, TypeVar

import msgspec
from fastapi import Header

from api.problems import Finding, Problem, invalid_query, shown

MOST_ACTOR = 120

Body = TypeVar("Body")
ActorHeader = Annotated[
    str | None, Header(description="who does it, in UTF-8; or `actor` in the body")
]


def decoded(body: bytes, decoder: msgspec.json.Decoder[Body], slug: str) -> Body:
    """Return *body* as what *decoder* makes of it; raise the 422 *slug* that says what is wrong."""
    try:
        return decoder.decode(body)
    except msgspec.DecodeError as error:
        what, _, where = str(error).partition(" - at `$")
        place = f"body{where.rstrip('`')}"
        finding = Finding(place, shown(body[:60].decode("utf-8", "replace")), what)
        raise refused(slug, finding) from error
    except RecursionError as error:
        raise refused(slug, Finding("body", "a nest without end", "fewer levels")) from error


def refused(slug: str, *findings: Finding) -> Problem:
    """Return the 422 *slug* of a body that cannot be meant; its detail is the first finding."""
    detail = invalid_query(*findings).detail
    return Problem(422, slug, detail, findings=findings)


def actor_of(x_actor: str | None, actor: str, findings: list[Finding]) -> str:
    """Return the name of who asks, adding to *findings* what is wrong with it."""
    named = header_text(x_actor)
    if named is None:
        findings.append(Finding("header.X-Actor", shown(x_actor), "text in UTF-8"))
    elif named and actor and named != actor:
        findings.append(Finding("body.actor", shown(actor), "the same name as in X-Actor"))
    name = (named or actor).strip()
    if not 0 < len(name) <= MOST_ACTOR or not is_plain(name):
        expected = f"the name of who does it, 1 to {MOST_ACTOR} characters without controls"
        findings.append(Finding("body.actor", shown(name) if name else "nothing", expected))
    return name


def author_of(x_actor: str | None, said: str, text: str, slug: str) -> str:
    """Return the name of who asks without a body, and says *text* in the query as *said*.

    Raises the 422 *slug* that names what is wrong with either.
    """
    findings: list[Finding] = []
    by = actor_of(x_actor, "", findings)
    check_plain(f"query.{said}", text, findings)
    if findings:
        raise refused(slug, *findings)
    return by


def check_plain(where: str, text: str, findings: list[Finding]) -> None:
    """Add to *findings* where *text* has controls in it; lines may end."""
    if not is_plain(text.replace("\n", "")):
        findings.append(Finding(where, shown(text), "text without controls"))


def header_text(given: str | None) -> str | None:
    """Return a header that was sent in UTF-8, which the server read as Latin-1; None if it is not.

    Names are Chinese as often as not.
    """
    try:
        return (given or "").encode("latin-1").decode("utf-8").strip()
    except UnicodeDecodeError:
        return None


def is_plain(text: str) -> bool:
    """Whether *text* has neither control characters nor halves of characters."""
    return not any(unicodedata.category(one) in ("Cc", "Cs") for one in text)
