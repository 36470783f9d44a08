"""``greenhouse devices``: who is described, who is not yet, and how one becomes the other."""

from __future__ import annotations

import getpass
import time
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from devices.document import load
from devices.errors import DocumentError
from devices.series import Transport
from greenhouse.console import load_settings, load_site_file, refuse, with_database

if TYPE_CHECKING:
    from api.onboarding import Found, Tried
    from devices.guess_quantity import GuessedValue
    from devices.unclaimed import HeardMessage
    from greenhouse.onboarding import Onboarding
    from storage.unclaimed import Claim

T = TypeVar("T")
_FILE = click.Path(path_type=Path, dir_okay=False)
_SHOWN = 160  # characters of a sample on a line
_MOST_ACTOR = 120


@click.group()
def devices() -> None:
    """List devices; see unknown ones, try what they send, and claim them."""


@devices.command("list")
@click.argument("file", type=_FILE)
@click.option("--claims", is_flag=True, help="Ask the database who claimed each, and when.")
def list_devices(file: Path, claims: bool) -> None:
    """List the devices of a site FILE with their topics and where they are described."""
    from devices.topic import Template, topics_of

    site_file = load_site_file(file)
    broker = site_file.broker
    templates = [Template.parse(text) for text in broker.templates] if broker else []
    claimed = _claims() if claims else {}
    document = site_file.document
    places = {
        str(entry.get("code")): ("devices", index)
        for index, entry in enumerate(document.data.get("devices") or ())
    }
    for device in site_file.registry.devices:
        where = device.transport.value
        if device.transport is Transport.MQTT:
            where = ", ".join(topic.text for topic in topics_of(device, templates)) or where
        click.echo(f"{device.code}  at {device.site}  {device.payload}  {where}")
        if (path := places.get(device.code)) is not None:
            click.echo(f"    {document.file_of(path)}:{document.place(path).line}")
        if (claim := claimed.get(device.code)) is not None:
            click.echo(f"    claimed by {claim.actor} {_clock(claim.claimed_at_us)}")
        click.echo(f"    {', '.join(series.code for series in device.series)}")


@devices.command("unclaimed")
@click.argument("unclaimed_id", metavar="[ID]", required=False)
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 200))
def unclaimed(unclaimed_id: str | None, limit: int) -> None:
    """Show devices that nobody has described yet; of one with an ID all there is to know."""

    async def work(desk: Onboarding) -> tuple[list[Found], int]:
        if unclaimed_id is not None:
            return [await desk.get(unclaimed_id)], 1
        found, total = await desk.list(limit, 0)
        return [*found], total

    found, total = _with_desk(Path("site.yaml"), work)
    for one in found:
        for line in _summary(one):
            click.echo(line)
    if unclaimed_id is not None:
        for line in _proposal_lines(found[0]):
            click.echo(line)
    else:
        click.echo(f"{len(found)} of {total} unclaimed devices")


_DESCRIPTION = (
    click.option("--code", help="Code of the new device."),
    click.option("--site", help="Code of the site it stands at."),
    click.option("--placement", help="inside, outdoor, root_zone, ..."),
    click.option("--entry", type=_FILE, help="YAML file with a device entry, or a part of one."),
    click.option("--mapping", type=_FILE, help="YAML file with a new mapping."),
    click.option("--guessed", is_flag=True, help="Take what was guessed for what is not said."),
)


def _described(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_DESCRIPTION):
        command = option(command)
    return command


@devices.command("try")
@click.argument("file", type=_FILE)
@click.argument("unclaimed_id", metavar="[ID]", required=False)
@_described
@click.option("--payload", default="", help="A payload alone, without a device.")
@click.option("--topic", help="Topic of a message that is given here.")
@click.option("--sample", type=_FILE, help="File with the bytes of that message.")
def try_device(
    file: Path,
    unclaimed_id: str | None,
    code: str | None,
    site: str | None,
    placement: str | None,
    entry: Path | None,
    mapping: Path | None,
    guessed: bool,
    payload: str,
    topic: str | None,
    sample: Path | None,
) -> None:
    """Show the readings that a description would give beside a site FILE; nothing is saved.

    The messages are those of the unclaimed device ID, or the one given by --topic and --sample.
    """
    from api.onboarding import Proposal

    given = _entry(entry, code, site, placement)
    text = _text(mapping) if mapping is not None else ""
    own = [_heard(topic, sample)] if topic is not None and sample is not None else []
    if (topic is None) != (sample is None):
        refuse("got one of --topic and --sample, expected both or none")
    if unclaimed_id is None and not own:
        refuse("got no message, expected the ID of an unclaimed device, or --topic and --sample")

    async def work(desk: Onboarding) -> Tried:
        if unclaimed_id is None:
            return await desk.attempt(Proposal(given or None, text, payload), own)
        found = await desk.get(unclaimed_id)
        samples = [*found.unclaimed.samples, *own]
        if not given and not guessed:
            return await desk.attempt(Proposal(None, text, payload), samples)
        proposal = desk.proposed(found, given, text, guessed=guessed)
        return await desk.attempt(proposal, samples)

    tried = _with_desk(file, work)
    for line in _tried_lines(tried):
        click.echo(line)


@devices.command("claim")
@click.argument("file", type=_FILE)
@click.argument("unclaimed_id", metavar="ID")
@_described
@click.option("--actor", help="Who claims; the name of the login if left out.")
def claim(
    file: Path,
    unclaimed_id: str,
    code: str | None,
    site: str | None,
    placement: str | None,
    entry: Path | None,
    mapping: Path | None,
    guessed: bool,
    actor: str | None,
) -> None:
    """Make a device of the unclaimed ID: write its files beside the site FILE, register it.

    A running service takes it up within seconds, and reads again what the device sent before.
    """
    given = _entry(entry, code, site, placement)
    text = _text(mapping) if mapping is not None else ""
    who = (actor or getpass.getuser()).strip()
    if not 0 < len(who) <= _MOST_ACTOR:
        refuse(f"got actor {who!r}, expected a name of 1 to {_MOST_ACTOR} characters")

    async def work(desk: Onboarding) -> list[str]:
        found = await desk.get(unclaimed_id)
        proposal = desk.proposed(found, given, text, guessed=guessed)
        claimed = await desk.claim(found, proposal, who)
        return [
            *(f"wrote {file.parent / name}" for name in claimed.files),
            f"device {claimed.device} with {', '.join(claimed.series)}, claimed by {who}",
            f"registry revision {claimed.revision}; a running service reads its"
            f" {claimed.waiting} messages again",
        ]

    for line in _with_desk(file, work):
        click.echo(line)


def _with_desk(file: Path, work: Callable[[Onboarding], Coroutine[None, None, T]]) -> T:
    """Run *work* with a desk for the site file *file*; say in words why it does not come about."""
    from api.onboarding import ClaimNotWritten, OnboardingRefused, UnknownUnclaimed
    from greenhouse.onboarding import Onboarding
    from storage.pool import Pool

    settings = load_settings()

    async def with_pool() -> T:
        async with Pool(settings.dsn) as pool:
            return await work(Onboarding(file, pool))

    try:
        return with_database(with_pool())
    except UnknownUnclaimed as error:
        refuse(f"got {error}, expected the id of one that greenhouse devices unclaimed lists")
    except OnboardingRefused as error:
        count = len(error.mistakes)
        refuse(f"{error}\n{count} mistake{'s' if count > 1 else ''}; nothing was written")
    except ClaimNotWritten as error:
        refuse(f"nothing was changed: {error}")


def _claims() -> dict[str, Claim]:
    """Return the newest claim of each device."""
    from storage.pool import Pool
    from storage.unclaimed import UnclaimedStore

    settings = load_settings()

    async def read() -> dict[str, Claim]:
        async with Pool(settings.dsn) as pool:
            found = await UnclaimedStore(pool).claims(limit=10_000)
            return {one.device: one for one in reversed(found)}

    return with_database(read())


def _entry(
    file: Path | None, code: str | None, site: str | None, placement: str | None
) -> dict[str, Any]:
    """Return the device entry in *file* with what the options say."""
    entry: dict[str, Any] = {}
    if file is not None:
        try:
            data = load(_text(file), str(file)).data
        except DocumentError as error:
            refuse(str(error))
        if not isinstance(data, dict):
            refuse(f"{file}: got no mapping of keys, expected a device entry")
        entry = data
    said = {"code": code, "site": site, "placement": placement}
    return entry | {name: one for name, one in said.items() if one is not None}


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        refuse(f"{file}: cannot be read: {error}")


def _heard(topic: str, sample: Path) -> HeardMessage:
    from devices.unclaimed import HeardMessage

    try:
        payload = sample.read_bytes()
    except OSError as error:
        refuse(f"{sample}: cannot be read: {error}")
    return HeardMessage(topic, payload, len(payload), time.time_ns() // 1000)


def _summary(found: Found) -> Iterator[str]:
    one = found.unclaimed
    every = f", one every {one.interval_s:.0f} s" if one.interval_s is not None else ""
    yield f"{one.id}  {one.pattern}"
    last = _clock(one.last_at_us)
    yield f"    {one.messages} messages, {one.bytes} bytes, the last {last}{every}"
    for sample in one.samples[:3]:
        yield f"    {sample.topic}: {_excerpt(sample.payload)}"
    for form in found.guess.formats[:3]:
        yield f"    {form.payload}  {form.confidence:.0%}: {form.why}"
    for value in found.guess.values:
        yield f"    {_value_line(value)}"
    if found.guess.time is not None:
        yield f"    time at {found.guess.time.path} ({found.guess.time.format})"


def _value_line(value: GuessedValue) -> str:
    number = "nothing" if value.value is None else f"{value.value:g}"
    if not value.quantity:
        return f"{value.key} = {number}: {value.why}"
    name = f"{value.quantity}.{value.channel}" if value.channel else value.quantity
    tenths = f", times {value.scale:g}" if value.scale != 1.0 else ""
    shown = f"{value.key} = {number} may be {name} in {value.unit}{tenths}"
    return f"{shown}  {value.confidence:.0%}: {value.why}"


def _proposal_lines(found: Found) -> Iterator[str]:
    """Yield what --entry and --mapping may begin with."""
    from devices.guess import write_yaml

    one = found.unclaimed
    entry = found.guess.entry(one, one.device or "CODE", one.site or "SITE")
    yield "# a device entry"
    yield write_yaml(entry).rstrip()
    if found.guess.mapping:
        yield "# a mapping"
        yield found.guess.mapping.rstrip()


def _tried_lines(tried: Tried) -> Iterator[str]:
    for name, text in tried.files.items():
        yield f"# {name}, if it were claimed"
        yield text.rstrip()
    for one in tried.readings:
        value = "no reading" if one.value is None else f"{one.value:g} {one.unit}"
        doubt = f"  quality {one.quality_bits}" if one.quality_bits else ""
        yield f"{_clock(one.observed_at_us)}  {one.series} = {value}{doubt}"
    for guessed in tried.values:
        yield _value_line(guessed)
    for bad in tried.unreadable:
        yield f"{bad.topic}: {bad.code} {bad.text}"
    count = len(tried.readings) or len(tried.values)
    yield f"{count} values, {len(tried.unreadable)} messages unreadable at least in part"


def _clock(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _excerpt(payload: bytes) -> str:
    text = payload[:_SHOWN].decode("utf-8", "backslashreplace")
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return shown + (f" ... ({len(payload)} bytes)" if len(payload) > _SHOWN else "")
