"""Site files on the disk: with the profiles beside them, checked for what their buses can do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from devices.codecs.mapped import MappingCodec
from devices.codecs.mapping_case import check_case as check_mapping_case
from devices.codecs.registers import RegisterCodec
from devices.codecs.sample import Codec
from devices.document import Document, load
from devices.errors import DocumentError, Mistake
from devices.profile import Profile, read_profile
from devices.profile_case import check_case, read_cases
from devices.profile_library import shipped_profile, shipped_profile_names
from devices.registry import Registry
from devices.series import Transport
from devices.site_file import MODBUS_PAYLOAD, SiteFile, Slave, read_site_file
from devices.sparkplug import node_filters
from devices.topic import Template, filters_of, least
from greenhouse.alerting.rules import rule_mistakes
from greenhouse.pack_folder import PackFolder
from ingest.modbus.assembly import Attached, bus_mistakes, bus_warnings, dtu_mistakes

PROFILES = "profiles"
DEVICES = "devices"
MAPPINGS = "mappings"


def read_site_files(file: Path, unwritten: Mapping[Path, str] | None = None) -> SiteFile:
    """Read *file*, every profile in the folder ``profiles`` beside it, its devices and mappings.

    *unwritten* are texts of device and mapping files that are read as if they were there.

    Raises `DocumentError` with every mistake in all of them, a bus that cannot keep up included;
    OSError and UnicodeDecodeError for what cannot be read at all.
    """
    mistakes: list[Mistake] = []
    own = own_profiles(file.parent / PROFILES, mistakes)
    text = file.read_text("utf-8")
    try:
        devices = _part_files(file, DEVICES, "code", unwritten or {}, mistakes)
        mappings = _part_files(file, MAPPINGS, "mapping", unwritten or {}, mistakes)
        site_file = read_site_file(text, str(file), own, devices, mappings)
    except DocumentError as error:
        raise DocumentError([*mistakes, *error.mistakes]) from error
    mistakes += _bus_mistakes(site_file)
    mistakes += _mapping_mistakes(site_file)
    mistakes += rule_mistakes(site_file, PackFolder.of(file))
    if mistakes:
        raise DocumentError(mistakes)
    return site_file


def folder_of(file: Path) -> Path:
    """Return the folder of what belongs to the site file *file*: ``site.d`` for ``site.yaml``."""
    return file.with_name(f"{file.stem}.d")


def part_file(file: Path, folder: str, name: str) -> Path:
    """Return where the part *name* of the site file *file* lies, in `DEVICES` or `MAPPINGS`."""
    return folder_of(file) / folder / f"{name}.yaml"


def _part_files(
    file: Path, folder: str, key: str, unwritten: Mapping[Path, str], mistakes: list[Mistake]
) -> list[Document]:
    """Return what lies in *folder* of the site file *file*, each called after what its *key* says.

    Adds to *mistakes* what cannot be read, or is called otherwise.
    """
    found: list[Document] = []
    home = folder_of(file) / folder
    for part in sorted({*home.glob("*.yaml"), *(one for one in unwritten if one.parent == home)}):
        try:
            text = unwritten.get(part)
            document = load(part.read_text("utf-8") if text is None else text, str(part))
        except DocumentError as error:
            mistakes += error.mistakes
            continue
        except (OSError, UnicodeDecodeError) as error:
            mistakes.append(Mistake(str(part), 1, 1, "", str(error), "a readable text file"))
            continue
        name = document.data.get(key) if isinstance(document.data, dict) else None
        if str(name) != part.stem:
            expected = f"{part.stem}, as the file is called"
            mistakes.append(document.mistake((key,), name, expected))
        found.append(document)
    return found


def site_file_filters(site_file: SiteFile) -> tuple[str, ...]:
    """Return what to subscribe to at the broker of *site_file*."""
    return topic_filters(site_file, site_file.registry)


def topic_filters(site_file: SiteFile, registry: Registry) -> tuple[str, ...]:
    """Return what to subscribe to for *registry*, with the templates of *site_file*."""
    if site_file.broker is None:
        return ()
    templates = [Template.parse(text) for text in site_file.broker.templates]
    devices = [one for one in registry.devices if one.transport is Transport.MQTT]
    return least([*filters_of(devices, templates), *node_filters(devices)])


def own_profiles(folder: Path, mistakes: list[Mistake]) -> dict[str, Profile]:
    """Return the profiles in *folder* by name, adding to *mistakes* what is wrong with them."""
    found: dict[str, Profile] = {}
    if not folder.is_dir():
        return found
    for file in sorted(folder.glob("*.yaml")):
        try:
            profile = read_profile(file.read_text("utf-8"), str(file))
        except DocumentError as error:
            mistakes += error.mistakes
        except (OSError, UnicodeDecodeError) as error:
            mistakes.append(Mistake(str(file), 1, 1, "", str(error), "a readable text file"))
        else:
            found[profile.name] = profile
            _check_cases(folder / "cases" / file.name, profile, mistakes)
    return found


def _check_cases(file: Path, profile: Profile, mistakes: list[Mistake]) -> None:
    """Hold *profile* to the answers in *file*, if somebody wrote some down."""
    if not file.is_file():
        return
    try:
        _, cases = read_cases(file.read_text("utf-8"), str(file))
    except DocumentError as error:
        mistakes += error.mistakes
        return
    except (OSError, UnicodeDecodeError) as error:
        mistakes.append(Mistake(str(file), 1, 1, "", str(error), "a readable text file"))
        return
    for case in cases:
        expected = f"what profile {profile.name} makes of it"
        where = (str(file), case.line, 1, f"case {case.name!r}")
        mistakes += [Mistake(*where, wrong, expected) for wrong in check_case(profile, case)]


def attached(slaves: tuple[Slave, ...]) -> list[Attached]:
    """Return devices as their bus wants them: what to poll, and how often."""
    return [
        Attached(
            slave.device.code,
            slave.unit,
            slave.profile,
            {series.key: series.interval_s for series in slave.device.series},
        )
        for slave in slaves
    ]


def _bus_mistakes(site_file: SiteFile) -> list[Mistake]:
    """Return what the devices on a bus make impossible, with the arithmetic, at the bus' place."""
    data = site_file.document.data.get("buses") or []
    codes = [str(entry.get("code")) for entry in data if isinstance(entry, dict)]
    found: list[Mistake] = []
    for bus in site_file.buses:
        place = site_file.document.place(("buses", codes.index(bus.code)))
        where = (site_file.document.file, place.line, place.column, f"buses[{bus.code}]")
        texts = bus_mistakes(bus, attached(site_file.slaves.get(bus.code, ())))
        expected = "devices that the bus can serve in time, each with a unit of its own"
        found += [Mistake(*where, text, expected) for text in texts]
        expected = "a registration packet that no other DTU sends"
        found += [Mistake(*where, text, expected) for text in dtu_mistakes(bus, site_file.buses)]
    return found


def _mapping_mistakes(site_file: SiteFile) -> list[Mistake]:
    """Return what mappings make of their own cases otherwise than these say."""
    return [
        Mistake(mapping.file, case.line, 1, f"case {case.name!r}", wrong, "what the case says")
        for mapping in site_file.mappings.values()
        for case in mapping.cases
        for wrong in check_mapping_case(mapping, case)
    ]


def warnings(site_file: SiteFile) -> list[str]:
    """Return what a person should look at though it is not wrong."""
    found = [
        warning
        for bus in site_file.buses
        for warning in bus_warnings(bus, attached(site_file.slaves.get(bus.code, ())))
    ]
    # Not a mistake: a device must be on the screen before anybody knows what it says in winter.
    found += [
        f"{mapping.file}: mapping {mapping.name} has no case (a payload as it came, its readings)"
        for mapping in site_file.mappings.values()
        if not mapping.cases
    ]
    return found


class Codecs(Mapping[str, Codec]):
    """Every codec by the payload name of its devices; those of register profiles and mappings are
    made when somebody asks, for there are many and a base has few.
    """

    def __init__(self, plain: Mapping[str, Codec], site_file: SiteFile) -> None:
        self._made = dict(plain)
        self._own = {
            MODBUS_PAYLOAD + slave.profile.name: slave.profile
            for slaves in site_file.slaves.values()
            for slave in slaves
        }
        self._mappings = site_file.mappings
        shipped = (MODBUS_PAYLOAD + name for name in shipped_profile_names())
        self._names = [*plain, *self._mappings, *{*shipped, *self._own}]

    def __getitem__(self, name: str) -> Codec:
        """Return the codec for payload *name*; raise KeyError if there is none."""
        if name not in self._made:
            if name not in self._names:
                raise KeyError(name)
            self._made[name] = self._make(name)
        return self._made[name]

    def _make(self, name: str) -> Codec:
        if name in self._mappings:
            return MappingCodec(self._mappings[name])
        profile = self._own.get(name) or shipped_profile(name.removeprefix(MODBUS_PAYLOAD))
        return RegisterCodec(profile)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
