"""The page: current values of every house, drawn on the server, kept fresh by `static/live.js`."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import jinja2
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from api.auth import may_read
from api.catalogue import SeriesFilter, select_series, sites_below, zone_of
from api.dashboard.alert_lines import MOST_READ, alert_lines
from api.dashboard.sparkline import Sparkline, sparkline
from api.dashboard.texts import Language, choose_language, texts
from api.dashboard.view import SHOW_AGE_AFTER_S, Card, cards
from api.instants import format_instant
from api.newest import newest_of
from api.parameters import ServicesIn, is_registry_unknown
from api.problems import request_id_of
from api.services import Services
from devices.names import site_name
from devices.quality import BAD_MASK, REASONS, SUSPECT_MASK
from devices.quantity import QUANTITIES, Quantity
from devices.reading import Batch
from devices.registry import Registry
from devices.series import Series
from devices.site import SiteKind
from storage.errors import DatabaseMisconfigured, DatabaseUnavailable
from storage.history import Step

log = logging.getLogger(__name__)

EVERY_MS = 3_000
SPARK_HOURS = 3
MAX_SPARKS = 300
LINES_FOR_US = 30_000_000
_YEAR_S = 365 * 86_400
_OPEN_ALERTS = {"open": "true", "limit": str(MOST_READ)}
_FOLDER = Path(__file__).parent
_SCRIPT_TEXTS = (
    "live", "reconnecting", "connection_lost", "database_away", "no_access", "no_data", "updated",
    "n_bad", "n_suspect", "n_stale", "n_unseen", "age_s", "age_min", "age_h", "age_d", "on", "off",
)  # fmt: skip

router = APIRouter(include_in_schema=False)


class _Immutable(StaticFiles):
    """Files under a path that changes with them, so that browsers may keep them for ever."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = f"public, max-age={_YEAR_S}, immutable"
        return response


def _digest(folder: Path) -> str:
    """Return a short name for what the files in *folder* hold."""
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


class _Lines:
    """Lines that were drawn a moment ago: they move on by a pixel in three minutes.

    A page costs the database more for its lines than for all else, and every open page asks for
    itself again each minute.
    """

    def __init__(self) -> None:
        self._drawn: dict[tuple[int, ...], tuple[int, Mapping[str, Sparkline]]] = {}

    def get(self, ids: Sequence[int], now_us: int) -> Mapping[str, Sparkline] | None:
        """Return the lines of *ids* if they are fresh enough."""
        drawn_at_us, lines = self._drawn.get(tuple(ids), (0, {}))
        return lines if now_us - drawn_at_us < LINES_FOR_US else None

    def put(self, ids: Sequence[int], now_us: int, lines: Mapping[str, Sparkline]) -> None:
        """Remember *lines*, and forget what is too old for anybody."""
        fresh = {key: one for key, one in self._drawn.items() if now_us - one[0] < LINES_FOR_US}
        self._drawn = {**fresh, tuple(ids): (now_us, lines)}


class Pages:
    """Templates and static files, and the newest readings that were last seen.

    The latter are what the page shows, with their age, while the database is away.
    """

    def __init__(self) -> None:
        self.static = f"/static/{_digest(_FOLDER / 'static')}"
        self.forget()
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_FOLDER / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    def forget(self) -> None:
        """Forget what was last seen."""
        self.remembered = Batch.empty()
        self.lines = _Lines()

    def render(self, template: str, request: Request, **values: Any) -> str:
        """Return *template* in the reader's language."""
        language = _language(request)
        other: Language = "en" if language == "zh" else "zh"
        query = {key: value for key, value in request.query_params.items() if key != "lang"}
        return self._environment.get_template(template).render(
            t=texts(language),
            static=self.static,
            other_language=texts(other)["language"],
            other_language_query=urlencode(query | {"lang": other}),
            **values,
        )


def install(app: FastAPI) -> None:
    """Serve the page at ``/`` and its files under ``/static``."""
    pages = Pages()
    app.state.pages = pages
    app.mount(pages.static, _Immutable(directory=_FOLDER / "static"), name="static")
    app.include_router(router)


def _language(request: Request) -> Language:
    return choose_language(
        request.query_params.get("lang"),
        request.cookies.get("lang"),
        request.headers.get("accept-language", ""),
    )


@router.get("/")
async def overview(services: ServicesIn, request: Request) -> HTMLResponse:
    """Return the current values of every house, or of those below ``?site=``."""
    pages: Pages = request.app.state.pages
    language = _language(request)
    words = texts(language)
    if not may_read(request):
        heading, text = words["unauthorized_title"], words["unauthorized_text"]
        answer = HTMLResponse(_plain(pages, request, heading, text), 401)
        answer.headers["WWW-Authenticate"] = 'Bearer realm="greenhouse"'
    else:
        try:
            values = await _values(services, pages, request, language)
            answer = HTMLResponse(pages.render("live.html", request, **values))
        except Exception:  # whatever it was: logged and counted as a 500, as in api.shell
            # But somebody is looking: the number of the log line helps them, JSON does not.
            number = request_id_of(request)
            log.exception("request %s failed: the page", number)
            text = words["error_text"].replace("{id}", number)
            answer = HTMLResponse(_plain(pages, request, words["error_title"], text), 500)
    answer.headers["Vary"] = "Accept-Language, Cookie"
    if request.query_params.get("lang") == language:
        answer.set_cookie("lang", language, max_age=_YEAR_S, httponly=True, samesite="lax")
    return answer


def _plain(pages: Pages, request: Request, heading: str, text: str) -> str:
    return pages.render("plain.html", request, heading=heading, text=text)


@dataclass(frozen=True, slots=True)
class _Shown:
    """What the database gave for the page; *away* when it did not answer."""

    newest: Batch
    sparks: Mapping[str, Sparkline]
    away: bool


async def _values(
    services: Services, pages: Pages, request: Request, language: Language
) -> dict[str, Any]:
    registry, words, now_us = services.registry(), texts(language), services.now_us()
    asked = request.query_params.get("site", "")
    here = registry.site.get(asked)
    series = select_series(registry, SeriesFilter(site=here.code if here else None))
    too_many = len(series) > services.settings.limits.max_page
    shown = await _ask(services, pages, [] if too_many else series, now_us)
    away = shown.away or await is_registry_unknown(services)
    newest = newest_of(registry, [] if too_many else series, shown.newest, now_us)
    found = cards(registry, newest, shown.sparks, language, words)
    below = sorted(sites_below(registry, here.code)) if here else None
    zone = zone_of(registry, series[0]) if series else "Asia/Shanghai"
    name = site_name(here)[0 if language == "zh" else 1] if here else ""
    return {
        "cards": found,
        "alerts": await alert_lines(services, registry, below, language, words),
        "counted": lambda state: sum(card.count(state) for card in found),
        "houses": _houses(registry, found),
        "points": len(series),
        "too_many": too_many,
        "empty_registry": not registry.series and not away,
        "sites": _sites(registry, language, words),
        "here": name,
        "here_code": here.code if here else "",
        "database_away": away,
        "latest_url": "/api/v1/latest?" + urlencode({"unseen": "true"} | _site_query(asked, here)),
        "alerts_url": "/api/v1/alerts?" + urlencode(_OPEN_ALERTS | _site_query(asked, here)),
        "every_ms": EVERY_MS,
        "timezone": zone,
        "now_iso": format_instant(now_us),
        "now_local": _local_time(now_us, zone),
        "spark_hours": SPARK_HOURS,
        "script_texts": _script_texts(language, words),
        "version": request.app.version,
    }


def _site_query(asked: str, here: object) -> dict[str, str]:
    return {"site": asked} if here else {}


async def _ask(services: Services, pages: Pages, series: Sequence[Series], now_us: int) -> _Shown:
    """Ask for newest readings and lines; what is remembered stands in when nobody answers."""
    if not series:
        return _Shown(Batch.empty(), {}, away=False)
    ids = [services.registry().series_ids[one.code] for one in series]
    try:
        newest = await services.history.latest(ids)
        sparks = pages.lines.get(ids, now_us)
        if sparks is None:
            sparks = await _sparks(services, series, ids, now_us)
            pages.lines.put(ids, now_us, sparks)
    except (DatabaseUnavailable, DatabaseMisconfigured):
        return _Shown(pages.remembered, {}, away=True)
    if len(newest) >= len(pages.remembered):
        pages.remembered = newest
    return _Shown(newest, sparks, away=False)


async def _sparks(
    services: Services, series: Sequence[Series], ids: Sequence[int], now_us: int
) -> dict[str, Sparkline]:
    """Return the lines of the last hours from minute means; none for a page of very many."""
    if len(series) > MAX_SPARKS:
        return {}
    start_us = now_us - SPARK_HOURS * 3_600_000_000
    rolled = await services.history.rolled(ids, start_us, now_us, Step.MINUTE)
    lines = {
        one.code: sparkline(
            rolled[number].start_us,
            rolled[number].mean,
            start_us,
            now_us,
            interval_us=int(one.interval_s * 1e6),
            least_span=_least_span(QUANTITIES[one.quantity]),
        )
        for one, number in zip(series, ids, strict=True)
    }
    return {code: line for code, line in lines.items() if line is not None}


def _least_span(quantity: Quantity) -> float:
    """Return what a line's height stands for at least: a few steps of the last digit shown."""
    return min(4 * 10.0**-quantity.decimals, quantity.high - quantity.low)


def _houses(registry: Registry, found: Sequence[Card]) -> int:
    return sum(registry.site[card.code].kind is SiteKind.GREENHOUSE for card in found)


def _sites(
    registry: Registry, language: Language, words: Mapping[str, str]
) -> list[dict[str, str]]:
    """Return links to the bases and what lies above them; houses are cards, not links."""
    inner = (SiteKind.GREENHOUSE, SiteKind.ZONE)
    wide = [site for site in registry.sites if site.kind not in inner]
    if len(wide) < 2:
        return []
    at = 0 if language == "zh" else 1
    links = [{"code": site.code, "name": site_name(site)[at]} for site in wide[:200]]
    return [{"code": "", "name": words["all_sites"]}, *links]


def _local_time(now_us: int, zone: str) -> str:
    instant = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=now_us)
    return instant.astimezone(ZoneInfo(zone)).strftime("%H:%M:%S")


def _script_texts(language: Language, words: Mapping[str, str]) -> str:
    """Return what the script says, as JSON for a data attribute: no script stands in the page."""
    marked = BAD_MASK | SUSPECT_MASK
    reasons = {
        one.name: one.zh if language == "zh" else one.en for one in REASONS if one.bit & marked
    }
    chosen: dict[str, Any] = {key: words[key] for key in _SCRIPT_TEXTS}
    chosen |= {"reasons": reasons, "show_age_after_s": SHOW_AGE_AFTER_S}
    return json.dumps(chosen, ensure_ascii=False)
