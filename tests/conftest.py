"""What holds for every test: a clean environment, no task left behind, and an honest last line."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings

# The settings of whoever runs the tests are none of the tests' business.
_KEPT = (
    "GREENHOUSE_TEST_",
    "GREENHOUSE_SERVICES",
    "GREENHOUSE_REQUIRE_SERVICES",
    "GREENHOUSE_DATA_DIR",
)
for _name in [name for name in os.environ if name.startswith("GREENHOUSE_")]:
    if not _name.startswith(_KEPT):
        del os.environ[_name]

# The service is started in hundreds of processes, and more than half of a start is compiling where
# nothing is kept: some environments forbid that, so here it has a place of its own.
sys.dont_write_bytecode = False
sys.pycache_prefix = str(Path(sys.prefix) / "bytecode")
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix

pytest_plugins = ["tests.fix_services"]

# How long an example takes tells of the machine, which others use too, and not of the project.
settings.register_profile("project", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("project")


@pytest_asyncio.fixture
async def _no_task_left() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    if left:
        # A task that was cancelled may still need a turn or two of the loop to end.
        _, left = await asyncio.wait(left, timeout=0.2)
    if left:
        names = ", ".join(sorted(f"{task.get_name()} ({task.get_coro()})" for task in left))
        pytest.fail(f"the test left {len(left)} task(s) running: {names}", pytrace=False)


@pytest.fixture(autouse=True)
def _leak_check(request: pytest.FixtureRequest) -> None:
    """Fail an async test that leaves a task running; set up first, so it looks last."""
    function = getattr(request, "function", None)
    if inspect.iscoroutinefunction(inspect.unwrap(function) if function else None):
        request.getfixturevalue("_no_task_left")


def pytest_collection_finish() -> None:
    """Keep what was imported and collected out of every later look for garbage."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def _garbage_of_this_file() -> Iterator[None]:
    """Find what a file forgot to close while its name still stands over the blame."""
    yield
    gc.collect()


_LONGEST = (
    *("test_durability", "test_durability_kills", "test_demo", "test_alerts_live"),
    *("test_durability_backlog", "test_durability_inlets", "test_campus_logs"),
)


def _turn(item: pytest.Item) -> int:
    if item.path.stem in _LONGEST:
        return _LONGEST.index(item.path.stem)
    return len(_LONGEST) + (item.path.parent.name != "system")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs the services by the fixtures it asks for; the longest files go first.

    Files are handed to the workers in this order: a long one at the end would leave a worker idle.
    """
    from tests.fix_services import SERVICE_FIXTURES

    items.sort(key=_turn)

    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if SERVICE_FIXTURES.intersection(fixtures):
            item.add_marker("services")
        if "chromium_path" in fixtures:
            item.add_marker("browser")


def _left_out(reporter: pytest.TerminalReporter) -> list[str]:
    reasons: Counter[str] = Counter()
    for report in reporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reasons[reason.removeprefix("Skipped: ")] += 1
    return [f"{count} test(s): {reason}" for reason, count in reasons.most_common()]


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say as the last section what was left out and why."""
    left_out = _left_out(terminalreporter)
    if left_out:
        terminalreporter.section("left out")
        for line in left_out:
            terminalreporter.line(line)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """Leave the closing line where scripts/test finds it."""
    result = yield
    target = os.environ.get("GREENHOUSE_TEST_CLOSING_FILE")
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if target and reporter is not None:
        parts, _ = reporter.build_summary_stats_line()
        closing = ", ".join(text for text, _ in parts)
        left_out = "; ".join(_left_out(reporter)) or "nothing"
        Path(target).write_text(f"{closing}; left out: {left_out}\n")
    return result
