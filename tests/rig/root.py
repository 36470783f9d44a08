"""Where real servers come from without docker: a Debian folder that holds them.

    GREENHOUSE_SERVICES_DIR (default ~/.cache/greenhouse-monitor)
      root/              a Debian trixie with PostgreSQL 17, TimescaleDB and mosquitto
        srv/greenhouse/  the data of every server, seen inside the root as /srv/greenhouse
      state.json         what `scripts/services up` has started
      lock               held while any of this is made or changed

The root is built under another name and renamed when it is complete, so a killed build never counts
as ready.  Its servers run in it by chroot, each under its own user, so building and using it takes
the rights of root.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.rig.place import (
    TIMESCALE,
    FolderPlace,
    Kind,
    Place,
    as_options,
    own_name,
    owner_is_gone,
    postmaster_is_ready,
    remove_place,
)

SUITE = "trixie"
PACKAGES = ("postgresql-17-timescaledb", "mosquitto")
POSTGRES_BIN = "/usr/lib/postgresql/17/bin"
MOSQUITTO = "/usr/sbin/mosquitto"
# Where servers keep their data, as seen from inside.
INNER_HOME = "/srv/greenhouse"

_COMPLETE = ".complete"
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ENVIRONMENT = {"PATH": _SYSTEM_PATH, "LANG": "C.UTF-8", "TZ": "UTC"}
_USERS: dict[Kind, str] = {"database": "postgres", "broker": "mosquitto"}

Say = Callable[[str], None]


class ServicesUnavailable(Exception):
    """This machine cannot run the real services; the message says why and what would help."""


def services_dir() -> Path:
    """Return the folder outside the repository that holds the root, the data and the state."""
    if chosen := os.environ.get("GREENHOUSE_SERVICES_DIR"):
        return Path(chosen).expanduser().absolute()
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "greenhouse-monitor"


@contextlib.contextmanager
def locked(folder: Path, say: Say) -> Iterator[None]:
    """Hold the folder's lock; say so once when another process has it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another process that is preparing the services")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class DebianRoot:
    """A complete root folder; the `Backend` of machines without docker."""

    name = "debian"

    def __init__(self, path: Path) -> None:
        self.path = path
        # `INNER_HOME` as seen from outside.
        self.home = path / INNER_HOME.lstrip("/")

    def make_place(self, kind: Kind, name: str, port: int, *, keeps_running: bool = False) -> Place:
        """Make a folder for one server, or find that of an earlier one that kept running."""
        user = _USERS[kind]
        folder = self.home / ("shared" if keeps_running else "private") / name
        if not folder.exists():
            folder.parent.mkdir(exist_ok=True)
            self._make_folder(folder, user)
        return FolderPlace(
            folder,
            environment=dict(_ENVIRONMENT),
            inside=self.inside,
            around=lambda command: self.command(user, *command, dies_with_parent=not keeps_running),
            hand_over=lambda path: os.chown(path, *self._ids_of(user)),
            tidy=remove_place,
            keeps_running=keeps_running,
        )

    def make_cluster(self, place: Place, port: int) -> tuple[list[str], str, Callable[[], bool]]:
        """Copy the initialised cluster (faster than initdb) unless there is one already."""
        assert isinstance(place, FolderPlace)
        data = place.folder / "data"
        template, password = self._template_cluster()
        if not data.exists():
            partial = place.folder / "data.partial"
            shutil.rmtree(partial, ignore_errors=True)
            subprocess.run(["cp", "-a", "--reflink=auto", str(template), str(partial)], check=True)
            partial.rename(data)

        settings = [
            *TIMESCALE,
            # A socket's path in the root would be of no use outside of it.
            "unix_socket_directories=",
            # In files of the place, which go with it; in the kernel a killed server's would stay.
            "dynamic_shared_memory_type=mmap",
        ]
        command = [f"{POSTGRES_BIN}/postgres", "-D", place.inner("data"), *as_options(settings)]
        return command, password, lambda: postmaster_is_ready(place, data)

    def broker_command(self, place: Place) -> list[str]:
        """Return the command of the root's own mosquitto."""
        return [MOSQUITTO, "-c", place.inner("mosquitto.conf")]

    def sweep(self) -> None:
        """Remove the private places of sessions that are gone."""
        for left_over in (self.home / "private").glob("*_*_*"):
            if owner_is_gone(left_over.name):
                remove_place(left_over)

    def inside(self, path: Path) -> str:
        """Return how *path*, which lies in the root, is called inside."""
        return "/" + str(path.relative_to(self.path))

    def command(self, user: str, *argv: str, dies_with_parent: bool = False) -> list[str]:
        """Return the command line that runs *argv* in the root as *user*.

        No process stays in between: the pid of the command is the pid of the server.
        """
        drop = ["/usr/bin/setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"]
        if dies_with_parent:
            drop += ["--pdeathsig", "INT"]
        chroot = shutil.which("chroot", path=_SYSTEM_PATH) or "chroot"
        return [chroot, str(self.path), *drop, *argv]

    def run(self, user: str, *argv: str) -> str:
        """Run a short command in the root and return what it printed; raise when it fails."""
        done = subprocess.run(
            self.command(user, *argv),
            env=_ENVIRONMENT,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(argv)} failed with {done.returncode}:\n{done.stdout}")
        return done.stdout

    def _template_cluster(self) -> tuple[Path, str]:
        """Return an initialised data folder that is only ever copied, and its password."""
        folder = self.home / "template-17"
        with (self.home / "template.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                partial = self.home / "template-17.partial"
                shutil.rmtree(partial, ignore_errors=True)
                self._make_folder(partial, "postgres")
                password = partial / "password"
                password.touch(mode=0o600)
                password.write_text(secrets.token_hex(16))
                os.chown(password, *self._ids_of("postgres"))
                self.run(
                    "postgres",
                    f"{POSTGRES_BIN}/initdb",
                    f"--pgdata={self.inside(partial)}/data",
                    "--username=postgres",
                    f"--pwfile={self.inside(password)}",
                    "--auth=scram-sha-256",
                    "--encoding=UTF8",
                    "--locale=C.UTF-8",
                    "--no-sync",
                )
                partial.rename(folder)
            return folder / "data", (folder / "password").read_text()

    def _ids_of(self, user: str) -> tuple[int, int]:
        for line in (self.path / "etc/passwd").read_text().splitlines():
            name, _, uid, gid, *_ = line.split(":")
            if name == user:
                return int(uid), int(gid)
        raise LookupError(f"no user {user} in {self.path}")

    def _make_folder(self, folder: Path, user: str) -> None:
        folder.mkdir(mode=0o700)
        os.chown(folder, *self._ids_of(user))


def find_root() -> DebianRoot | None:
    """Return the root when it is complete and this process may use it, else None."""
    path = services_dir() / "root"
    if os.geteuid() == 0 and (path / _COMPLETE).exists():
        return DebianRoot(path)
    return None


def why_no_root() -> str | None:
    """Return why a root cannot be built or used here, or None when it can."""
    if not sys.platform.startswith("linux"):
        return "no docker engine answers, and building the services needs Debian"
    if os.geteuid() != 0:
        return "no docker engine answers, and building the services needs root"
    if not _is_debian_family() and not shutil.which("debootstrap", path=_SYSTEM_PATH):
        return "no docker engine answers, and this is neither Debian nor has it debootstrap"
    return None


def build_root(say: Say) -> DebianRoot:
    """Return the root, building it first when there is none; the caller holds the lock."""
    if reason := why_no_root():
        raise ServicesUnavailable(reason)
    folder = services_dir()
    path = folder / "root"
    if (path / _COMPLETE).exists():
        return DebianRoot(path)
    for left_over in [path, *folder.glob("root.partial.*")]:
        _remove_tree(left_over)
    _require_debootstrap(say)
    partial = folder / f"root.partial.{own_name(0)}"
    say(
        f"building {path}: Debian {SUITE} with {', '.join(PACKAGES)} (about 700 MB, 1 to 3 minutes)"
    )
    _debootstrap(partial, folder / "debootstrap.log", say)
    _prepare(DebianRoot(partial))
    partial.rename(path)
    say("services are built")
    return DebianRoot(path)


def _is_debian_family() -> bool:
    release = Path("/etc/os-release")
    if not release.exists():
        return False
    return bool(re.search(r"^ID(_LIKE)?=.*debian", release.read_text(), re.MULTILINE))


def _require_debootstrap(say: Say) -> None:
    if shutil.which("debootstrap", path=_SYSTEM_PATH):
        return
    say("installing debootstrap")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "update", "-qq"],
        ["apt-get", "install", "-qq", "-y", "--no-install-recommends", "debootstrap"],
    ):
        done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
        if done.returncode != 0:
            raise ServicesUnavailable(
                f"debootstrap could not be installed: {' '.join(command)}: "
                f"{(done.stderr or done.stdout).strip()[-400:]}"
            )


def _debootstrap(target: Path, log: Path, say: Say) -> None:
    command = [
        "debootstrap",
        "--variant=minbase",
        f"--include={','.join(PACKAGES)}",
        SUITE,
        str(target),
    ]
    environment = os.environ | {"PATH": _SYSTEM_PATH, "LANG": "C.UTF-8"}
    # In a process and mount space of its own that ends with us, a build that is killed leaves no
    # process that goes on writing, and nothing mounted.
    apart = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if _succeeds([*apart, "true"], environment):
        command = ["setpriv", "--pdeathsig", "KILL", *apart, *command]
    started = time.monotonic()
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env=environment
        )
        try:
            while True:
                try:
                    process.wait(10)
                    break
                except subprocess.TimeoutExpired:
                    say(f"  {time.monotonic() - started:.0f} s: {_last_line(log)}")
        except BaseException:  # whatever it was, also an interrupt: nobody else would end it
            process.terminate()
            process.wait()
            raise
    if process.returncode != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
        raise ServicesUnavailable(f"debootstrap failed with {process.returncode}:\n{tail}")


def _succeeds(command: list[str], environment: dict[str, str]) -> bool:
    try:
        done = subprocess.run(command, env=environment, check=False, capture_output=True)
    except FileNotFoundError:
        return False
    return done.returncode == 0


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return lines[-1].strip() if lines else "starting"


def _prepare(root: DebianRoot) -> None:
    """Check that the servers of a fresh root run, then mark it complete."""
    root.home.mkdir(parents=True)
    root.home.chmod(0o755)
    root.run("postgres", f"{POSTGRES_BIN}/postgres", "--version")
    # mosquitto -h answers 3 and has no option that answers 0.
    if "mosquitto" not in root.run("mosquitto", "/bin/sh", "-c", f"{MOSQUITTO} -h || [ $? = 3 ]"):
        raise ServicesUnavailable("mosquitto does not run in the new root")
    for archive in (root.path / "var/cache/apt/archives").glob("*.deb"):
        archive.unlink()
    (root.path / _COMPLETE).touch()


def _remove_tree(path: Path) -> None:
    """Remove a root folder, unmounting first whatever a killed build left mounted in it."""
    if not path.exists():
        return
    mounts = [
        line.split()[4].encode().decode("unicode_escape")
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
    ]
    for mount in sorted((m for m in mounts if m.startswith(f"{path}/")), reverse=True):
        subprocess.run(["umount", mount], check=True)
    shutil.rmtree(path)
