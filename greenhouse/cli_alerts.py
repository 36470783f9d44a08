"""``greenhouse alerts``: rules tried on stored readings and on made-up ones; alerts at a glance."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from greenhouse.console import (
    UNDONE,
    load_settings,
    load_site_file,
    refuse,
    with_database,
)

if TYPE_CHECKING:
    from alerts.binding import Surroundings
    from alerts.rule import Rule
    from api.replays import Answer, Question
    from devices.registry import Registry

_LANGUAGE = click.option(
    "--lang", type=click.Choice(["zh", "en"]), default="en", show_default=True, help="Of the words."
)
_FILE = click.Path(path_type=Path, dir_okay=False)


@click.group()
def alerts() -> None:
    """Try rules on history and on made-up readings; see what stands."""


@alerts.command("replay")
@click.argument("rules")
@click.option("--since", default="30d", show_default=True, help="An instant, or how long ago: 90d.")
@click.option("--until", help="An instant, or how long ago; now if left out.")
@click.option("--limit", "limits", multiple=True, help="Another limit: RULE=34degC.")
@click.option("--compare", help="Another version of the rules, on the same readings.")
@click.option("--rule", "chosen", multiple=True, help="Only this rule; may be repeated.")
@click.option("--site", "sites", multiple=True, help="Only subjects at this site and below it.")
@click.option("--site-file", type=_FILE, help="Its tags and plantings: crops, stages.")
@click.option("--per-subject", is_flag=True, help="A line for each rule and subject.")
@click.option("--csv", "as_csv", is_flag=True, help="Every alert as a line of CSV, and no tables.")
@_LANGUAGE
def replay_command(
    rules: str,
    since: str,
    until: str | None,
    limits: tuple[str, ...],
    compare: str | None,
    chosen: tuple[str, ...],
    sites: tuple[str, ...],
    site_file: Path | None,
    per_subject: bool,
    as_csv: bool,
    lang: str,
) -> None:
    """Run RULES (a file, or the name of a shipped pack) over what the database holds.

    The engine is the one that runs live. History is read a stretch at a time, however long it is.
    """
    from api.replays import Question
    from greenhouse.replay_report import Report

    if limits and compare:
        refuse("got --limit and --compare, expected at most one of them")
    first = _chosen(_rules_of(rules), chosen)
    other = _changed(first, limits) if limits else _rules_of(compare) if compare else None
    since_us, until_us = _span(since, until)
    places = _surroundings(site_file)
    question = Question(first, since_us, until_us, None, other)
    answer, registry = with_database(_replayed(question, sites, places))
    report = Report(answer, registry, lang)
    if as_csv:
        click.echo(report.csv(), nl=False)
        return
    for text in report.texts(per_subject):
        click.echo(text)


async def _replayed(
    question: Question, sites: tuple[str, ...], places: Surroundings
) -> tuple[Answer, Registry]:
    from dataclasses import replace

    from api.replays import replay_stored
    from storage.history import History
    from storage.pool import Pool
    from storage.registry import RegistryStore

    async with Pool(load_settings().dsn) as pool:
        registry = await RegistryStore(pool).load()
        question = replace(question, sites=_below(registry, sites))
        return await replay_stored(question, registry, places, History(pool)), registry


def _below(registry: Registry, sites: tuple[str, ...]) -> frozenset[str] | None:
    from api.catalogue import sites_below
    from devices.document import nearest

    if not sites:
        return None
    for code in sites:
        if code not in registry.site:
            hint = nearest(code, registry.site)
            refuse(f"got site {code!r}, expected one that is registered ({hint or 'none'}?)")
    return frozenset().union(*(sites_below(registry, code) for code in sites))


def _rules_of(name: str) -> tuple[Rule, ...]:
    """Return the rules of a file, or of a shipped pack where there is no such file."""
    from alerts.pack_library import shipped_pack, shipped_pack_names
    from alerts.rule import read_pack
    from devices.document import nearest
    from devices.errors import DocumentError

    file = Path(name)
    if not file.exists() and name in shipped_pack_names():
        return shipped_pack(name).rules
    try:
        return read_pack(file.read_text("utf-8"), name).rules
    except DocumentError as error:
        count = len(error.mistakes)
        refuse(f"{error}\n{count} mistake{'s' if count > 1 else ''} in {name}")
    except FileNotFoundError:
        hint = nearest(name, shipped_pack_names())
        near = f"; did you mean {hint}?" if hint else ""
        refuse(f"got {name!r}, expected a file of rules, or the name of a shipped pack{near}")
    except (OSError, UnicodeDecodeError) as error:
        refuse(f"{name}: cannot be read: {error}")


def _chosen(rules: tuple[Rule, ...], words: tuple[str, ...]) -> tuple[Rule, ...]:
    from api.replays import LimitRefused, find_rule

    try:
        return tuple(find_rule(rules, word) for word in dict.fromkeys(words)) or rules
    except LimitRefused as error:
        refuse(f"--rule: {error}")


def _changed(rules: tuple[Rule, ...], limits: tuple[str, ...]) -> tuple[Rule, ...]:
    from api.replays import LimitRefused, with_limits

    wanted = {}
    for text in limits:
        rule, sign, limit = text.partition("=")
        if not sign:
            refuse(f"--limit: got {text!r}, expected a rule and its limit, such as hot=34degC")
        wanted[rule.strip()] = limit.strip()
    try:
        return with_limits(rules, wanted)
    except LimitRefused as error:
        refuse(f"--limit: {error}")


def _span(since: str, until: str | None) -> tuple[int, int]:
    """Return both ends, microseconds since 1970 UTC, none of them later than now."""
    import time

    from api.instants import moment_us

    now_us = time.time_ns() // 1000
    ends: dict[str, int] = {}
    for name, text in (("--until", until), ("--since", since)):
        try:
            ends[name] = now_us if text is None else moment_us(text, ends.get("--until", now_us))
        except ValueError as error:
            refuse(f"{name}: got {text!r}, expected {error}")
    since_us, until_us = ends["--since"], min(ends["--until"], now_us)
    if since_us >= until_us:
        refuse(f"--since: got {since!r}, expected a moment before the end and before now")
    return since_us, until_us


def _surroundings(site_file: Path | None) -> Surroundings:
    from alerts.binding import Surroundings
    from greenhouse.alerting.rules import surroundings

    return Surroundings() if site_file is None else surroundings(load_site_file(site_file).growing)


# -- trials


@alerts.command("test")
@click.argument("files", nargs=-1, type=_FILE)
@click.option("--site-file", type=_FILE, help="Also the own packs of this site file.")
def test_command(files: tuple[Path, ...], site_file: Path | None) -> None:
    """Run the trials of packs: of these FILES, or of all that are shipped.

    A FILE is a pack, whose trials lie in trials/ beside it, or trials of the pack beside them. Ends
    with code 1 where a test does not come out, with 2 where a file is wrong.
    """
    from greenhouse.pack_trials import Trial, own_trials, shipped_pack_trials, trial_of

    trials: list[Trial] = [trial_of(file) for file in files]
    if not files:
        trials += shipped_pack_trials()
    if site_file is not None:
        trials += own_trials(site_file)
    failed = wrong = tests = 0
    for trial in trials:
        outcome = trial.run()
        for line in (*outcome.mistakes, *outcome.failures):
            click.echo(line, err=True)
        failed += len(outcome.failures)
        wrong += len(outcome.mistakes)
        tests += outcome.tests
        if not outcome.tests and not outcome.mistakes:
            click.echo(f"{trial.name}: no trials")
    told = f"{len(trials)} packs, {tests} tests"
    if wrong:
        refuse(f"{told}: {wrong} mistake{'s' if wrong > 1 else ''} in the files")
    if failed:
        click.echo(f"{told}: {failed} did not come out", err=True)
        sys.exit(UNDONE)
    click.echo(f"{told}: nothing wrong")


# -- what stands


_URL = click.option("--url", help="Of the service; that of the settings if left out.")


@alerts.command("list")
@click.option("--all", "everything", is_flag=True, help="Also those that are over and seen.")
@click.option("--site", help="Only at this site and below it.")
@click.option("--rule", help="Only of this rule, * for any letters.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1000))
@_URL
@_LANGUAGE
def list_command(
    everything: bool, site: str | None, rule: str | None, limit: int, url: str | None, lang: str
) -> None:
    """List what the running service has to say, the newest first."""
    from urllib.parse import urlencode

    from greenhouse.alert_lines import alert_table

    wanted = {"attention": None if everything else "true", "site": site, "rule": rule}
    query = {key: value for key, value in wanted.items() if value} | {"limit": str(limit)}
    found = _asked(url, f"/alerts?{urlencode(query)}")
    click.echo(alert_table(found, lang))


@alerts.command("show")
@click.argument("alert")
@_URL
@_LANGUAGE
def show_command(alert: str, url: str | None, lang: str) -> None:
    """Show one ALERT, by its id, with its history."""
    from greenhouse.alert_lines import alert_lines

    for line in alert_lines(_asked(url, f"/alerts/{alert}"), lang):
        click.echo(line)


@alerts.command("ack")
@click.argument("alert")
@click.option("--by", required=True, help="Who has seen it.")
@click.option("--note", default="", help="What they say.")
@_URL
def ack_command(alert: str, by: str, note: str, url: str | None) -> None:
    """Acknowledge an ALERT, by its id."""
    after = _asked(url, f"/alerts/{alert}/acknowledge", {"note": note}, by)
    click.echo(f"{alert} acknowledged by {after['acknowledged']['by']}")


def _asked(url: str | None, path: str, body: object = None, actor: str = "") -> Any:
    from greenhouse.running_service import NotAnswered, RunningService

    try:
        return RunningService(load_settings(), url).ask(path, body, actor)
    except NotAnswered as error:
        click.echo(str(error), err=True)
        sys.exit(UNDONE)
