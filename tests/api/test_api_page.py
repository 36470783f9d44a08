"""The page without a browser: what the server draws, in both languages, in every state."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.dashboard import texts
from api.dashboard.sparkline import HEIGHT, WIDTH, sparkline
from api.dashboard.view import number, state_of
from api.health import DatabaseHealth, Health
from api.newest import Newest
from devices.quality import Quality
from devices.registry import Registry
from tests.api.base import MINUTE_US, NOW_US, make_base

DASHBOARD = Path(texts.__file__).parent
TEMPERATURE = "climate-1.air_temperature"


class Page(HTMLParser):
    """Rows by series: classes, attributes and the texts of their parts; and all text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: dict[str, dict[str, str]] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._row: dict[str, str] | None = None
        self._part = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.append((tag, given))
        if tag == "li":
            self._row = {"state": given["class"].removeprefix("row ")}
            self.rows[given["data-series"]] = self._row
        if given.get("class"):
            self._part = given["class"]

    def handle_endtag(self, tag):
        if tag == "li":
            self._row = None

    def handle_data(self, data):
        self.text += data
        if self._row is not None and data.strip():
            self._row[self._part] = (self._row.get(self._part, "") + data).strip()


async def page(base, path="/", **headers) -> Page:
    async with base.client(headers=dict(base.client().headers) | headers) as client:
        response = await client.get(path)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/html")
    return Page(response.text)


@pytest.fixture
def filled(base):
    for minute in range(120, 0, -1):
        base.memory.put(TEMPERATURE, NOW_US - minute * MINUTE_US, 20 + minute / 100)
    base.memory.put(TEMPERATURE, NOW_US - 3_000_000, 21.54)
    base.memory.put("climate-1.relative_humidity", NOW_US - 12 * MINUTE_US, 71.6)
    base.memory.put("climate-1.co2", NOW_US - 1_000_000, 90_000, int(Quality.PHYSICAL_RANGE))
    base.memory.put("station.wind_speed", NOW_US - 1_000_000, -0.01, int(Quality.FLAT_LINE))
    return base


async def test_values_stand_in_the_page_without_any_script(filled):
    rows = (await page(filled)).rows
    assert next(iter(rows)) == "station.global_radiation"  # the base stands above its houses
    assert set(rows) == set(filled.registry.series)
    good = rows[TEMPERATURE]
    assert (good["state"], good["value"], good["unit"]) == ("ok", "21.5", "°C")
    assert "why" not in good


async def test_an_old_value_is_marked_and_shown_with_its_age(filled):
    row = (await page(filled)).rows["climate-1.relative_humidity"]
    assert (row["state"], row["value"], row["why"]) == ("stale", "72", "12 分钟前")


async def test_a_bad_and_a_doubtful_value_say_why(filled):
    rows = (await page(filled, "/?lang=en")).rows
    assert rows["climate-1.co2"]["state"] == "bad"
    assert rows["climate-1.co2"]["why"] == "the value is physically impossible"
    assert rows["station.wind_speed"]["state"] == "suspect"
    assert rows["station.wind_speed"]["value"] == "0.0"  # not -0.0
    assert rows["station.wind_speed"]["why"] == "the value has not moved for too long"


async def test_a_sensor_never_seen_is_a_dash_and_not_a_zero(filled):
    row = (await page(filled)).rows["probe-nl.air_temperature"]
    assert (row["state"], row["value"], row["why"]) == ("unseen", "–", "暂无数据")


async def test_the_summary_counts_what_is_not_normal(filled):
    shown = await page(filled, "/?lang=en")
    assert all(text in shown.text for text in ("1 bad", "1 suspect", "1 stale", "6 without data"))


@pytest.mark.parametrize(
    ("path", "headers", "language", "title"),
    [
        ("/", {}, "zh-CN", "温室监控"),
        ("/?lang=en", {}, "en", "Greenhouse monitor"),
        ("/?lang=xx", {}, "zh-CN", "温室监控"),
        ("/", {"Accept-Language": "en-GB,en;q=0.9,zh;q=0.8"}, "en", "Greenhouse monitor"),
        ("/", {"Accept-Language": "zh-TW,zh;q=0.9,en;q=0.8"}, "zh-CN", "温室监控"),
        ("/", {"Accept-Language": "de, fr;q=0.5"}, "zh-CN", "温室监控"),
        ("/", {"Accept-Language": "en;q=x"}, "zh-CN", "温室监控"),
        ("/", {"Accept-Language": "zh", "Cookie": "lang=en"}, "en", "Greenhouse monitor"),
        ("/?lang=zh", {"Cookie": "lang=en"}, "zh-CN", "温室监控"),
    ],
)
async def test_the_page_speaks_the_language_asked_for_chosen_or_preferred(
    filled, path, headers, language, title
):
    shown = await page(filled, path, **headers)
    assert ("html", {"lang": language}) in shown.tags
    assert title in shown.text


async def test_a_chosen_language_is_remembered(filled):
    async with filled.client() as client:
        response = await client.get("/?lang=en")
    cookie = response.headers["set-cookie"]
    assert cookie.startswith("lang=en;")
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie


async def test_switching_the_language_keeps_the_site(filled):
    links = [
        a["href"] for tag, a in (await page(filled, "/?site=house-1&lang=en")).tags if tag == "a"
    ]
    assert "?site=house-1&lang=zh" in links


async def test_a_site_shows_what_is_below_it_and_asks_for_no_more(filled):
    shown = await page(filled, "/?site=house-nl")
    assert list(shown.rows) == ["probe-nl.air_temperature"]
    (main,) = [attributes for tag, attributes in shown.tags if tag == "main"]
    assert main["data-latest"] == "/api/v1/latest?unseen=true&site=house-nl"
    assert main["data-timezone"] == "Europe/Amsterdam"


async def test_an_unknown_site_shows_everything(filled):
    assert len((await page(filled, "/?site=%3Cscript%3E")).rows) == len(filled.registry.series)


async def test_zones_stand_in_the_card_of_their_house(filled):
    shown = await page(filled)
    assert "北区 · 土壤与基质" in shown.text
    cards = [a["aria-labelledby"] for tag, a in shown.tags if tag == "section"]
    assert cards == ["name-base-1", "name-house-1", "name-house-2", "name-house-nl"]


async def test_a_name_from_a_device_is_text_and_never_markup(filled):
    async with filled.client() as client:
        text = (await client.get("/?lang=en")).text
    assert "=1+1 &lt;b&gt;battery&lt;/b&gt;" in text
    assert "<b>battery" not in text


async def test_nothing_in_the_page_needs_an_exception_from_the_policy(filled):
    filled.settings = make_base().settings
    for tag, attributes in (await page(filled)).tags:
        assert "style" not in attributes, tag
        assert not any(name.startswith("on") for name in attributes), tag
        assert tag != "style"
        for name in ("src", "href"):
            if attributes.get(name):
                assert not attributes[name].startswith(("http", "//")), attributes
        if tag == "script":
            assert attributes["src"].startswith("/static/")


async def test_the_last_values_stay_readable_while_the_database_is_away(filled):
    app = filled.shared_app()
    async with filled.client(app=app) as client:
        before = Page((await client.get("/")).text)
        filled.memory.away = True
        filled.now_us += 5 * MINUTE_US
        response = await client.get("/")
    after = Page(response.text)
    assert response.status_code == 200
    assert "历史数据库不可用" in after.text
    assert "历史数据库不可用" not in before.text.replace("\n", "")
    assert after.rows[TEMPERATURE]["value"] == "21.5"
    assert after.rows[TEMPERATURE]["state"] == "stale"
    assert after.rows[TEMPERATURE]["why"] == "5 分钟前"


async def test_a_page_first_opened_without_a_database_shows_dashes(filled):
    filled.memory.away = True
    shown = await page(filled)
    assert {row["value"] for row in shown.rows.values()} == {"–"}


async def test_a_service_without_sites_says_what_to_do_first(base):
    base.registry = Registry()
    shown = await page(base, "/?lang=en")
    assert "No points yet" in shown.text
    assert "greenhouse apply site.yaml" in shown.text


async def test_before_the_registry_is_known_the_page_says_that_the_database_is_away(base):
    base.registry = Registry()
    base.health = Health("1", DatabaseHealth(reachable=False))
    shown = await page(base, "/?lang=en")
    assert "The history database does not answer" in shown.text
    assert "No points yet" not in shown.text


async def test_a_city_is_shown_site_by_site(filled):
    limits = replace(filled.settings.limits, max_page=5)
    filled.settings = replace(filled.settings, limits=limits)
    shown = await page(filled, "/?lang=en")
    assert shown.rows == {}
    assert "Too many points here (10); choose a site" in shown.text
    assert len((await page(filled, "/?site=house-1")).rows) == 4


async def test_a_stranger_gets_a_page_that_says_why(base):
    async with base.client(headers={"Accept-Language": "en"}) as client:
        response = await client.get("/")
    assert response.status_code == 401
    assert "A token is needed" in response.text
    assert "climate-1" not in response.text


async def test_a_failure_of_ours_is_a_page_with_the_number_of_its_log_line(base, caplog):
    async def broken(series_ids=None):
        raise RuntimeError("a secret detail")

    base.memory.latest = broken
    async with base.client() as client:
        response = await client.get("/?lang=en")
    assert response.status_code == 500
    assert response.headers["x-request-id"] in response.text
    assert response.headers["x-request-id"] in caplog.text
    assert "secret" not in response.text


async def test_static_files_may_be_kept_for_ever_and_are_open(base):
    async with base.client(headers={}) as client:
        shown = Page((await client.get("/")).text)
        paths = [a["href"] for tag, a in shown.tags if tag == "link"]
        for path in paths:
            response = await client.get(path)
            assert response.status_code == 200, path
            assert "immutable" in response.headers["cache-control"]
            assert "content-security-policy" in response.headers
        assert (
            await client.get(paths[0].rpartition("/")[0] + "/..%2f..%2fapp.py")
        ).status_code == 404


async def test_the_page_is_small(filled):
    async with filled.client() as client:
        response = await client.get("/", headers={"Accept-Encoding": "gzip"})
    assert int(response.headers["content-length"]) < 40_000
    assert (DASHBOARD / "static" / "live.js").stat().st_size < 25_000


def test_both_languages_have_the_same_texts_with_the_same_places():
    zh, en = (
        tomllib.loads((DASHBOARD / "locales" / name).read_text())
        for name in ("zh_CN.toml", "en.toml")
    )
    assert list(zh) == list(en)
    for key in zh:
        assert [part in zh[key] for part in ("{n}", "{time}", "{id}")] == [
            part in en[key] for part in ("{n}", "{time}", "{id}")
        ], key


def test_every_text_is_used():
    used = "".join(
        path.read_text() for path in DASHBOARD.rglob("*") if path.suffix in (".py", ".html", ".js")
    )
    words = {"air", "soil", "water", "fertigation", "weather", "inside", "outdoor", "perimeter",
             "intake_water", "drain_water", "root_zone"}  # fmt: skip
    chips = {"n_bad", "n_suspect", "n_stale", "n_unseen"}
    assert [key for key in texts.texts("zh") if key not in used and key not in words | chips] == []


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [(None, 1, "–"), (0.0, 1, "0.0"), (-0.04, 1, "0.0"), (-0.05, 1, "-0.1"), (412.5, 0, "412"),
     (1e9, 0, "1000000000"), (-3.25, 2, "-3.25")],
)  # fmt: skip
def test_numbers_have_the_places_of_their_quantity(value, decimals, text):
    assert number(value, decimals) == text


@pytest.mark.parametrize(
    ("age_s", "text"),
    [(0, "0 秒前"), (59.9, "59 秒前"), (60, "1 分钟前"), (3599, "59 分钟前"), (3600, "1 小时前"),
     (172_799, "47 小时前"), (172_800, "2 天前"), (10**9, "11574 天前")],
)  # fmt: skip
def test_an_age_is_said_in_the_largest_unit_that_people_use(age_s, text):
    assert texts.age_text(age_s, texts.texts("zh")) == text


def test_an_old_doubtful_value_counts_as_old(base):
    series = base.registry.series[TEMPERATURE]
    old = Newest(series, NOW_US, NOW_US - 10 * MINUTE_US, NOW_US, 5.0, int(Quality.STEP))
    assert state_of(old) == "stale"


# Lines.


def line(*points: tuple[float, float], columns: int = 10, interval: int = 3, span: float = 0.01):
    at = np.array([one for one, _ in points], np.int64)
    value = np.array([other for _, other in points], np.float64)
    return sparkline(at, value, 0, 100, interval_us=interval, least_span=span, columns=columns)


def test_a_line_is_drawn_through_the_means_of_its_columns():
    made = line((5, 1.0), (6, 3.0), (15, 6.0))
    assert made.path == "M4.8 22.0L14.4 2.0"
    assert (made.low, made.high) == (1.0, 6.0)


def test_a_gap_interrupts_the_line_and_a_lonely_point_is_a_dot():
    assert line((5, 1.0), (15, 2.0), (55, 3.0), (85, 1.0), (95, 1.0)).path == (
        "M4.8 22.0L14.4 12.0M52.8 2.0h.1M81.6 22.0L91.2 22.0"
    )


def test_a_slow_series_is_one_line_though_it_leaves_columns_empty():
    points = [(5, 1.0), (35, 2.0), (65, 3.0)]
    assert line(*points, interval=30).path.count("M") == 1
    assert line(*points, interval=5).path.count("M") == 3


def test_the_noise_of_the_last_digit_stays_small():
    assert line((5, 7.0), (15, 7.01), span=0.4).path == "M4.8 12.2L14.4 11.8"


def test_a_flat_line_stands_in_the_middle():
    assert line((5, 7.0), (15, 7.0)).path == "M4.8 12.0L14.4 12.0"


@pytest.mark.parametrize("points", [[], [(5, np.nan)], [(-1, 1.0)], [(100, 1.0)]])
def test_no_value_in_the_window_is_no_line(points):
    assert line(*points) is None


@given(
    st.lists(st.tuples(st.integers(-20, 120), st.floats(-1e9, 1e9)), max_size=50),
    st.integers(1, 60),
)
def test_a_line_never_leaves_its_box(points, columns):
    made = line(*points, columns=columns)
    inside = [value for at, value in points if 0 <= at < 100]
    if not inside:
        assert made is None
        return
    assert (made.low, made.high) == (min(inside), max(inside))
    for pair in made.path.replace("h.1", "").replace("L", "M").split("M")[1:]:
        x, y = map(float, pair.split())
        assert 0 <= x <= WIDTH
        assert 0 <= y <= HEIGHT
