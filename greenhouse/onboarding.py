"""From a device that nobody has described to one in the registry, without a restart.

    proposal ─▶ read with the whole site file ─▶ who claims is on record ─▶ files ─▶ registry

The files lie in ``<site file without .yaml>.d/`` and say everything by themselves; the database has
only who wrote them and when.  Whoever ingests takes up the new registry, and with it the files, as
after `greenhouse apply`, from whichever process that was done.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import math
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from api.onboarding import (
    Claimed,
    ClaimNotWritten,
    Found,
    OnboardingRefused,
    Proposal,
    Tried,
    TriedReading,
    UnknownUnclaimed,
    Unreadable,
)
from devices.codecs.library import CODECS
from devices.codecs.mapped import MappingCodec
from devices.codecs.sample import Codec
from devices.document import load
from devices.errors import DecodeError, DocumentError, Mistake
from devices.guess import MAPPED, guess, where_of, write_yaml
from devices.guess_quantity import GuessedValue, guess_value
from devices.mapping import read_mapping
from devices.profile import read_profile
from devices.profile_case import given_reads, read_by
from devices.quantity import QUANTITIES
from devices.registry import Registry
from devices.series import Device
from devices.site_file import DEFAULT_TOPIC, SiteFile, is_code
from devices.topic import Template, topics_of
from devices.unclaimed import HeardMessage, Unclaimed
from greenhouse.site_files import DEVICES, MAPPINGS, Codecs, folder_of, part_file, read_site_files
from ingest.collector import Arrival
from ingest.decoder import Decoder
from ingest.whole_file import remove, write_new
from storage.dead_letters import DeadLetterStore
from storage.errors import DataRefused
from storage.pool import Pool
from storage.registry import RegistryStore
from storage.unclaimed import Claim, UnclaimedStore

_log = logging.getLogger(__name__)

_LOCK_EVERY_S = 0.05
_LOCK_TRIES = 300


class Onboarding:
    """An `api.onboarding.OnboardingDesk` for the site file *file* and the database behind *pool*.

    *taken_up* is awaited after a claim, so that the registry of this process follows at once.
    """

    def __init__(
        self,
        file: Path,
        pool: Pool,
        taken_up: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._file = file
        self._store = UnclaimedStore(pool)
        self._letters = DeadLetterStore(pool)
        self._registry = RegistryStore(pool)
        self._taken_up = taken_up

    async def list(self, limit: int, offset: int) -> tuple[Sequence[Found], int]:
        """Return unclaimed devices, those heard last first, and how many there are in all."""
        found = await self._store.list(limit, offset)
        return await asyncio.to_thread(_guessed, found), await self._store.count()

    async def get(self, unclaimed_id: str) -> Found:
        """Return one, or raise `UnknownUnclaimed`."""
        found = await self._store.get(unclaimed_id)
        if found is None:
            raise UnknownUnclaimed(unclaimed_id)
        return (await asyncio.to_thread(_guessed, [found]))[0]

    def proposed(
        self, found: Found, given: Mapping[str, Any], mapping: str, *, guessed: bool
    ) -> Proposal:
        """Return *given* with where *found* is heard and, if *guessed*, all that was guessed."""
        one = found.unclaimed
        code = str(given.get("code") or "")
        entry = {**given}
        if guessed:
            likely = guess(one, CODECS, code)
            entry = {**likely.entry(one, code, ""), **given}
            if not mapping and entry["payload"] == f"{MAPPED}{code}":
                mapping = likely.mapping
        for key in ("topic", "address"):
            if key not in given:
                entry.pop(key, None)
        if not {"topic", "address"} & given.keys():
            entry |= where_of(one, code)
        return Proposal(entry, mapping)

    async def attempt(self, proposal: Proposal, samples: Sequence[HeardMessage]) -> Tried:
        """Return what *samples* would give; raise `OnboardingRefused` for a wrong proposal."""
        return await asyncio.to_thread(self._attempt, proposal, samples)

    def _attempt(self, proposal: Proposal, samples: Sequence[HeardMessage]) -> Tried:
        if proposal.profile:
            return _tried_registers(proposal)
        if proposal.entry is None:
            return _tried_values(_codec_of(proposal), samples)
        files = self._files(proposal)
        site_file = self._read(files)
        device = site_file.registry.device[_code(proposal)]
        return replace(_tried_readings(site_file, device, samples), files=self._shown(files))

    async def claim(self, found: Found, proposal: Proposal, actor: str) -> Claimed:
        """Make a device of *found*: write its files, have the registry take them up."""
        one = found.unclaimed
        async with _only_one(folder_of(self._file)):
            files = self._files(proposal)
            site_file = await asyncio.to_thread(self._read, files)
            device = site_file.registry.device[_code(proposal)]
            if not _is_heard(site_file, device, one):
                raise OnboardingRefused([self._elsewhere(device, one)])
            shown = self._shown(files)
            now_us = time.time_ns() // 1000
            claim = Claim(one.id, one.pattern, device.code, actor, now_us, shown)
            try:
                number = await self._store.begin_claim(claim)
                revision = await self._write_and_apply(files, site_file)
            except DataRefused as error:
                where = self._elsewhere(device, one)
                expected = "text that the database can hold"
                raise OnboardingRefused(
                    [replace(where, key="", got=str(error), expected=expected)]
                ) from error
            await self._store.end_claim(number, revision)
        _log.info("%s claimed %s as device %s", actor, one.pattern, device.code)
        if self._taken_up is not None:
            await self._taken_up()
        series = tuple(series.code for series in device.series)
        return Claimed(device.code, series, shown, revision, actor, one.messages)

    async def _write_and_apply(self, files: Mapping[Path, str], site_file: SiteFile) -> int:
        """Write *files*, bring the database to *site_file*; take the files back if that fails."""
        try:
            await asyncio.to_thread(write_new, files)
        except OSError as error:
            raise ClaimNotWritten(str(error)) from error
        try:
            changes = await self._registry.apply(site_file.registry, site_file.retention_s)
        except BaseException:  # cancelled too: files without their revision must not stay
            await asyncio.to_thread(remove, files)
            raise
        return changes.revision

    def _files(self, proposal: Proposal) -> dict[Path, str]:
        """Return the texts to write for *proposal*; raise `OnboardingRefused` where they cannot be.

        A file that is there already is somebody's: it is never written over.
        """
        entry = dict(proposal.entry or {})
        mistakes: list[Mistake] = []
        named = [(DEVICES, "code", entry.get("code"), write_yaml(entry), "the device")]
        if proposal.mapping:
            name = _mapping_name(proposal.mapping, mistakes)
            named.append((MAPPINGS, "mapping", name, proposal.mapping, "the mapping"))
        files: dict[Path, str] = {}
        for folder, key, name, text, what in named:
            if not isinstance(name, str) or not is_code(name):
                shown = repr(name) if name else "nothing"
                expected = f"a code for {what}: lower-case letters, digits, - and _"
                mistakes.append(Mistake(folder, 1, 1, key, shown, expected))
                continue
            file = part_file(self._file, folder, name)
            if file.exists():
                where = str(file.relative_to(self._file.parent))
                mistakes.append(Mistake(where, 1, 1, key, repr(name), f"{what} to be a new one"))
            files[file] = text
        if mistakes:
            raise OnboardingRefused(mistakes)
        return files

    def _shown(self, files: Mapping[Path, str]) -> dict[str, str]:
        """Return *files* by their names as seen from the site file: nobody needs to know more."""
        return {str(file.relative_to(self._file.parent)): text for file, text in files.items()}

    def _read(self, files: Mapping[Path, str]) -> SiteFile:
        """Return the site file as it would be with *files*; raise `OnboardingRefused`."""
        try:
            return read_site_files(self._file, files)
        except DocumentError as error:
            home = f"{self._file.parent}{os.sep}"
            mistakes = [replace(one, file=one.file.removeprefix(home)) for one in error.mistakes]
            raise OnboardingRefused(mistakes) from error
        except (OSError, UnicodeDecodeError) as error:
            mistake = Mistake(self._file.name, 1, 1, "", str(error), "a readable text file")
            raise OnboardingRefused([mistake]) from error

    def _elsewhere(self, device: Device, one: Unclaimed) -> Mistake:
        where = str(part_file(self._file, DEVICES, device.code).relative_to(self._file.parent))
        key = next((name for name in ("topic", "address") if name in device.settings), "code")
        got = repr(device.settings.get(key, device.code))
        topics = ", ".join(sample.topic for sample in one.samples[:3])
        return Mistake(where, 1, 1, key, got, f"what makes {topics} the topics of the device")


def _code(proposal: Proposal) -> str:
    return str((proposal.entry or {}).get("code"))


def _guessed(found: Sequence[Unclaimed]) -> list[Found]:
    return [Found(one, guess(one, CODECS)) for one in found]


def _codec_of(proposal: Proposal) -> Codec:
    """Return the codec that is tried alone; raise `OnboardingRefused` where there is none."""
    if proposal.mapping:
        try:
            return MappingCodec(read_mapping(proposal.mapping, "mapping"))
        except DocumentError as error:
            raise OnboardingRefused(error.mistakes) from error
    codec = CODECS.get(proposal.payload)
    if codec is None:
        expected = "a payload of docs/reference/payloads.md, a mapping, or a device"
        shown = repr(proposal.payload) if proposal.payload else "nothing"
        raise OnboardingRefused([Mistake("body", 1, 1, "payload", shown, expected)])
    return codec


def _tried_values(codec: Codec, samples: Sequence[HeardMessage]) -> Tried:
    """Return the values that *codec* reads in *samples*, under the payload's own keys."""
    values: dict[str, float | None] = {}
    unreadable: list[Unreadable] = []
    ignored = 0
    for message in samples:
        try:
            decoded = codec.decode(message.payload)
        except DecodeError as error:
            unreadable.append(Unreadable(message.topic, error.code, error.text))
            continue
        for sample in decoded:
            ignored += sample.ignored
            values |= sample.values
    guessed = tuple(guess_value(key, value) for key, value in values.items())
    return Tried(values=guessed, unreadable=tuple(unreadable), ignored_fields=ignored)


def _tried_registers(proposal: Proposal) -> Tried:
    """Return what a register profile makes of answers of a device."""
    try:
        profile = read_profile(proposal.profile, "profile")
        samples = read_by(profile, given_reads(proposal.reads, "reads"))
    except DocumentError as error:
        raise OnboardingRefused(error.mistakes) from error
    except DecodeError as error:
        return Tried(unreadable=(Unreadable("reads", error.code, error.text),))
    points = {point.key: point for point in profile.series()}
    values = []
    for sample in samples:
        for key, value in sample.values.items():
            name = points[key].quantity or ""
            unit = QUANTITIES[name].unit
            why = "the profile says so"
            found = GuessedValue(key, value, name, unit, points[key].channel, 1.0, 1.0, why)
            values.append(found)
    return Tried(values=tuple(values))


def _tried_readings(site_file: SiteFile, device: Device, samples: Sequence[HeardMessage]) -> Tried:
    """Return what the pipeline would make of *samples* if *device* were in the registry."""
    numbers = {series.code: number for number, series in enumerate(device.series, 1)}
    registry = Registry(site_file.registry.sites, (device,), numbers, 1)
    decoder = Decoder(registry, _templates(site_file), Codecs(CODECS, site_file))
    arrivals = [Arrival("mqtt", one.topic, one.payload, one.received_at_us) for one in samples]
    decoded = decoder.decode(arrivals)
    batch = decoded.batch
    by_number = dict(enumerate(device.series, 1))
    readings = [
        TriedReading(
            series.code,
            series.quantity,
            series.channel,
            series.key,
            None if math.isnan(value) else value,
            QUANTITIES[series.quantity].unit,
            observed_at_us,
            received_at_us,
            quality,
        )
        for number, observed_at_us, received_at_us, value, quality in zip(
            batch.series_id.tolist(),
            batch.observed_at_us.tolist(),
            batch.received_at_us.tolist(),
            batch.value.tolist(),
            batch.quality.tolist(),
            strict=True,
        )
        for series in (by_number[number],)
    ]
    unreadable = [Unreadable(one.topic, one.code, one.text) for one in decoded.letters]
    return Tried(tuple(readings), (), tuple(unreadable), decoded.ignored_fields)


def _templates(site_file: SiteFile) -> tuple[str, ...]:
    return site_file.broker.templates if site_file.broker is not None else (DEFAULT_TOPIC,)


def _is_heard(site_file: SiteFile, device: Device, one: Unclaimed) -> bool:
    """Whether *device* has the topics on which *one* was heard, or some of them."""
    templates = [Template.parse(text) for text in _templates(site_file)]
    topics = topics_of(device, templates)
    return not one.samples or any(
        topic.match(sample.topic) is not None for sample in one.samples for topic in topics
    )


def _mapping_name(text: str, mistakes: list[Mistake]) -> object:
    try:
        data = load(text, MAPPINGS).data
    except DocumentError as error:
        mistakes += error.mistakes
        return None
    return data.get("mapping") if isinstance(data, dict) else None


@contextlib.asynccontextmanager
async def _only_one(folder: Path) -> AsyncIterator[None]:
    """Let one claim at a time write to *folder*, of all processes on this machine."""
    try:
        lock = await asyncio.to_thread(_open_lock, folder)
    except OSError as error:
        raise ClaimNotWritten(str(error)) from error
    try:
        for _ in range(_LOCK_TRIES):
            if _locked(lock):
                break
            await asyncio.sleep(_LOCK_EVERY_S)
        else:
            raise ClaimNotWritten("another claim has not ended")
        yield
    finally:
        os.close(lock)


def _open_lock(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    return os.open(folder / ".lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o640)


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
