"""The page in a real Chromium: it lives, says when it cannot, comes back, and stays at home."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest
from playwright import sync_api
from playwright.sync_api import expect

from devices.quality import Quality
from greenhouse.pack_folder import PackFolder
from tests.api.alert_desk import AlertBase, MemoryDesk
from tests.api.base import BEARER, Base, make_base
from tests.api.serving import Served

pytestmark = pytest.mark.browser

TEMPERATURE = "climate-1.air_temperature"
S = 1_000_000


def now_us() -> int:
    return time.time_ns() // 1000


def served_now(base: Base) -> Served:
    """Serve the application that tests share over *base*, by the real clock."""
    app = base.shared_app()
    app.state.services = replace(base.services(), now_us=now_us)
    return Served(app)


class Live:
    """The served page of a base whose clock is the real one."""

    def __init__(self, base: Base) -> None:
        self.base = base
        self.served = served_now(base)

    def put(self, value: float, code: str = TEMPERATURE, quality: int = 0, age_s: int = 0) -> None:
        self.base.memory.put(code, now_us() - age_s * S, value, quality)


@pytest.fixture(scope="module")
def chromium(chromium_path: str) -> Iterator[sync_api.Browser]:
    options = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path, args=options)
        yield browser
        browser.close()


@pytest.fixture
def live() -> Iterator[Live]:
    made = Live(make_base(open_loopback_reads=True))
    made.put(20.0, age_s=1)
    made.put(71.6, "climate-1.relative_humidity", age_s=720)
    made.put(90_000, "climate-1.co2", int(Quality.PHYSICAL_RANGE))
    made.put(3.1, "station.wind_speed", int(Quality.FLAT_LINE))
    made.served.start()
    yield made
    made.served.stop()


class Pages:
    """Opens pages and notes what they complain about and whom they ask."""

    def __init__(self, chromium, url: str) -> None:
        self._chromium = chromium
        self._url = url
        self._contexts: list = []
        self._complaints: list[str] = []
        self._strangers: list[str] = []
        self.failures_expected = False

    def __call__(self, path: str = "/?lang=zh", **options: object):
        context = self._chromium.new_context(**options)
        self._contexts.append(context)
        page = context.new_page()
        page.on("request", lambda asked: self._note_request(asked.url))
        page.on("pageerror", lambda error: self._complaints.append(str(error)))
        page.on("console", self._note_console)
        page.goto(self._url + path)
        return page

    def _note_request(self, url: str) -> None:
        if not url.startswith(self._url + "/"):
            self._strangers.append(url)

    def _note_console(self, said) -> None:
        failed = "Failed to load resource" in said.text
        if said.type in ("error", "warning") and not (failed and self.failures_expected):
            self._complaints.append(said.text)

    def close(self) -> None:
        for context in self._contexts:
            context.close()
        assert self._strangers == []
        assert self._complaints == []


@pytest.fixture
def open_page(chromium, live) -> Iterator[Pages]:
    """Open pages; in the end none may have complained or asked for anything elsewhere."""
    pages = Pages(chromium, live.served.url)
    yield pages
    pages.close()


def text(page, code: str, part: str = "value") -> str:
    return row(page, code).locator(f".{part}").inner_text()


def state(page, code: str) -> str:
    return row(page, code).get_attribute("class")


def row(page, code: str):
    return page.locator(f'[data-series="{code}"]')


def wait_for_status(page, status: str, timeout_s: float = 10) -> None:
    page.wait_for_selector(f'#status[data-state="{status}"]', timeout=timeout_s * 1000)


def test_values_change_by_themselves(live, open_page):
    page = open_page()
    wait_for_status(page, "live")
    assert text(page, TEMPERATURE) == "20.0"
    live.put(23.46)
    expect(row(page, TEMPERATURE).locator(".value")).to_have_text("23.5", timeout=10_000)
    assert page.locator("#status-text").inner_text() == "实时"


def test_marks_appear_and_go_by_themselves(live, open_page):
    page = open_page("/?lang=en")
    wait_for_status(page, "live")
    assert state(page, "climate-1.co2") == "row bad"
    assert state(page, "climate-1.relative_humidity") == "row stale"
    assert state(page, "probe-nl.air_temperature") == "row unseen"
    assert text(page, "probe-nl.air_temperature") == "–"
    assert text(page, "probe-nl.air_temperature", "why") == "no data yet"
    live.put(410.0, "climate-1.co2")
    live.put(70.0, "climate-1.relative_humidity", int(Quality.STEP))
    expect(row(page, "climate-1.co2")).to_have_class("row ok", timeout=10_000)
    expect(row(page, "climate-1.relative_humidity")).to_have_class("row suspect", timeout=10_000)
    assert text(page, "climate-1.relative_humidity", "why") == (
        "the value changed faster than it can"
    )
    chips = page.locator("#summary .chip:visible").all_inner_texts()
    assert chips == ["2 suspect", "6 without data"]


def test_an_old_value_is_grey_and_italic_and_a_normal_one_has_no_colour(live, open_page):
    page = open_page()
    style = """code => { const s = getComputedStyle(document.querySelector(
        `[data-series="${code}"] .value`)); return [s.fontStyle, s.color]; }"""
    ink = page.evaluate("() => getComputedStyle(document.body).color")
    assert page.evaluate(style, TEMPERATURE) == ["normal", ink]
    assert page.evaluate(style, "climate-1.relative_humidity") == ["italic", "rgb(89, 97, 106)"]
    assert page.evaluate(style, "climate-1.co2")[1] == "rgb(154, 82, 0)"


def test_a_server_that_is_gone_is_said_at_once_and_its_return_is_noticed(live, open_page):
    open_page.failures_expected = True
    page = open_page()
    wait_for_status(page, "live")
    live.served.stop()
    wait_for_status(page, "reconnecting")
    assert page.locator("#status-text").inner_text() == "正在重连"
    page.wait_for_selector("#banner:not([hidden])", timeout=15_000)
    assert "连接已中断" in page.locator("#banner").inner_text()
    live.put(31.25)
    live.served.start()
    wait_for_status(page, "live", timeout_s=8)
    assert page.locator("#banner").is_hidden()
    assert text(page, TEMPERATURE) in ("31.2", "31.3")


def test_a_database_that_is_away_is_told_from_a_lost_connection(live, open_page):
    open_page.failures_expected = True
    page = open_page("/?lang=en")
    wait_for_status(page, "live")
    live.base.memory.away = True
    page.wait_for_selector("#banner:not([hidden])", timeout=10_000)
    assert "history database does not answer" in page.locator("#banner").inner_text()
    live.base.memory.away = False
    wait_for_status(page, "live", timeout_s=8)
    assert page.locator("#banner").is_hidden()


def test_no_number_looks_fresh_half_a_minute_after_the_connection_was_lost(live, open_page):
    open_page.failures_expected = True
    page = open_page()
    page.clock.install()
    page.reload()
    wait_for_status(page, "live")
    live.served.stop()
    page.clock.run_for(4_000)
    wait_for_status(page, "reconnecting")
    page.clock.run_for(32_000)
    expect(page.locator("body[data-lost]")).to_have_count(1)
    value = page.locator(f'[data-series="{TEMPERATURE}"] .value')
    assert value.evaluate("one => getComputedStyle(one).fontStyle") == "italic"
    live.served.start()
    page.clock.run_for(8_000)
    expect(page.locator("body[data-lost]")).to_have_count(0)


def test_new_sensors_and_new_lines_appear_without_a_reload(live, open_page):
    whole = live.base.registry
    live.base.registry = replace(whole, devices=whole.devices[:1])
    page = open_page()
    page.clock.install()
    page.reload()
    wait_for_status(page, "live")
    page.evaluate("window.sameDocument = true")
    expect(page.locator(".row")).to_have_count(4)
    drawn = page.locator(".spark path").count()
    live.put(21.0, age_s=60)
    live.put(3.0, "station.global_radiation", age_s=60)
    live.base.registry = whole
    page.clock.run_for(65_000)
    expect(page.locator(".row")).to_have_count(10)
    assert page.locator(".spark path").count() > drawn
    assert page.evaluate("window.sameDocument")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/?lang=zh", "/?lang=en", "/?lang=en&site=house-1"])
def test_a_phone_never_scrolls_sideways(open_page, path, scheme):
    page = open_page(path, viewport={"width": 390, "height": 844}, color_scheme=scheme)
    wait_for_status(page, "live")
    widths = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert widths == [390, 390]


def test_values_can_be_read_without_javascript(open_page):
    page = open_page(java_script_enabled=False)
    assert text(page, TEMPERATURE) == "20.0"
    assert "未启用脚本" in page.locator("noscript").inner_text()


def test_the_language_is_one_click_away_and_stays(open_page):
    page = open_page("/?lang=zh")
    page.get_by_role("link", name="English").click()
    assert page.locator("h1").inner_text() == "Live values"
    page.goto(page.url.partition("?")[0])
    assert page.locator("html").get_attribute("lang") == "en"


def test_an_injected_script_does_not_run(chromium, live):
    page = chromium.new_page()  # its console complains, as it must
    page.goto(live.served.url)
    blocked = page.evaluate("""() => new Promise(done => {
        document.addEventListener('securitypolicyviolation',
                                  event => done(event.effectiveDirective));
        const script = document.createElement('script');
        script.src = 'data:text/javascript,window.injected = true';
        document.head.append(script);
    })""")  # fmt: skip
    assert blocked == "script-src-elem"
    assert page.evaluate("window.injected") is None
    page.close()


SAYS = json.dumps({"age_s": "{n}s", "age_min": "{n}min", "age_h": "{n}h", "age_d": "{n}d",
                   "no_data": "none", "show_age_after_s": 120, "reasons": {"step": "too fast"},
                   "on": "on", "off": "off"})  # fmt: skip


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("ageText(59.9, says)", "59s"),
        ("ageText(60, says)", "1min"),
        ("ageText(172799, says)", "47h"),
        ("ageText(172800, says)", "2d"),
        ("numberText(null, 1)", "–"),
        ("numberText(-0.04, 1)", "0.0"),
        ("numberText(-3.25, 2)", "-3.25"),
        ("switchText(1, says)", "on"),
        ("switchText(0.5, says)", None),
        ("stateOf({observed_at: null, stale: true})", "unseen"),
        ("stateOf({observed_at: 'x', stale: true, quality: 'bad'})", "stale"),
        ("stateOf({observed_at: 'x', stale: false, quality: 'good'})", "ok"),
        ("noteOf({observed_at: 'x', age_s: 5, quality_reasons: ['step', 'simulated']}, says)",
         "too fast"),
        ("noteOf({observed_at: 'x', age_s: 150, quality_reasons: []}, says)", "2min"),
        ("[1, 2, 3, 4, 9].map(n => retryMs(n, 0.5))", [1000, 2000, 4000, 5000, 5000]),
        ("[0, 1].map(random => Math.round(retryMs(4, random)))", [3500, 6500]),
    ],
)  # fmt: skip
def test_the_script_decides_as_the_server_does(module, call, expected):
    assert module(call) == expected


@pytest.fixture(scope="module")
def module(chromium):
    """Call the functions of live.js in a page of its own."""
    live = Live(make_base(open_loopback_reads=True))
    live.served.start()
    page = chromium.new_page()
    page.goto(live.served.url)
    path = page.locator("script[type=module]").get_attribute("src")
    yield lambda call: page.evaluate(
        f"async () => {{ const says = {SAYS};"
        f" const {{ ageText, numberText, switchText, stateOf, noteOf, retryMs }}"
        f" = await import('{path}'); return {call}; }}"
    )
    page.close()
    live.served.stop()


def test_an_alert_appears_by_itself_and_says_who_has_taken_it(chromium, tmp_path):
    base = AlertBase(**vars(make_base(open_loopback_reads=True)))
    base.folder = PackFolder(tmp_path / "packs")
    base.desk = MemoryDesk(base.registry, base.folder, now_us=now_us())
    served = served_now(base)
    served.start()
    pages = Pages(chromium, served.url)
    try:
        page = pages("/?lang=zh")
        wait_for_status(page, "live")
        assert page.locator(".alert").count() == 0
        base.desk.read(("climate-2.air_temperature", now_us() - 20 * 60 * S, [42] * 20))
        alert = page.locator(".alert")
        expect(alert).to_have_class("alert critical", timeout=10_000)
        assert alert.locator(".level").inner_text() == "严重"
        path = f"/api/v1/alerts/{alert.get_attribute('data-alert')}/acknowledge"
        headers = BEARER | {"X-Actor": "李伟".encode()}
        httpx.post(served.url + path, json={}, headers=headers).raise_for_status()
        expect(alert).to_have_class("alert critical taken", timeout=10_000)
        assert "李伟 已确认" in alert.locator(".since").inner_text()
    finally:
        pages.close()
        served.stop()
