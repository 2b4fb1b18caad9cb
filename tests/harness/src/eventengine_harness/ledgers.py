"""The ledger of an instance: what it makes, written down before it is made.

An instance (a cluster, a loopback control plane, a broker) owns one folder in
the run folder, with `ledger.json`, logs and data. The ledger names processes,
cgroups, network interfaces and changed kernel settings, so that a later process
can remove all of it when the owner was killed.

Who owns an instance is decided by a file lock that the owner holds as long as it
lives; the kernel drops it with the process, however that ends. So an instance is
  - owned: the lock is held;
  - detached: nobody holds it and the ledger says that it was left running;
  - abandoned: nobody holds it and the ledger does not say so. Any later start sweeps it.

Ordering rule of a sweep: processes first (they hold everything else), then
cgroups, interfaces, mounts, settings, at last the folder with the ledger.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import secrets
import shutil
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from eventengine_harness.exceptions import (
    CommandError,
    DeadlineError,
    HarnessError,
    InUseError,
    LeftoverError,
)
from eventengine_harness.locations import run_folder
from eventengine_harness.processes import ProcessIdentity, end_processes, find_marked
from eventengine_harness.running import run, say
from eventengine_harness.waiting import wait_for

# Components are started by several threads at once.
_WRITING = threading.RLock()

LEDGER_FILE = "ledger.json"
LEDGER_VERSION = 1
SWEEP_ROUNDS_MAX = 5
CGROUP_DEADLINE_SECONDS = 15.0
# The kernel drops a dead process's lock a moment after it closes the process's pipes.
LOCK_PATIENCE_SECONDS = 2.0


def boot_id() -> str:
    """Identifies this boot of the machine: pids of another one mean nothing."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@dataclass
class Ledger:
    """What one instance made; every change is on disk before it happens in the world."""

    name: str
    marker: str = field(default_factory=lambda: secrets.token_hex(8))
    boot: str = field(default_factory=boot_id)
    owner_pid: int = field(default_factory=os.getpid)
    detached: bool = False
    processes: list[dict[str, Any]] = field(default_factory=list)
    cgroups: list[str] = field(default_factory=list)
    interfaces: list[str] = field(default_factory=list)
    settings: dict[str, str] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    version: int = LEDGER_VERSION

    @property
    def folder(self) -> Path:
        """The instance's own folder."""
        return run_folder() / self.name

    def write(self) -> None:
        """Replace the file as a whole, so that a reader never sees half of it."""
        with _WRITING:
            self.folder.mkdir(parents=True, exist_ok=True)
            scratch = self.folder / f"{LEDGER_FILE}.new"
            with scratch.open("w") as handle:
                json.dump(asdict(self), handle, indent=1)
                handle.flush()
                os.fsync(handle.fileno())
            scratch.rename(self.folder / LEDGER_FILE)

    @classmethod
    def read(cls, folder: Path) -> Ledger | None:
        """Read an instance's ledger; None if there is none."""
        try:
            content = json.loads((folder / LEDGER_FILE).read_text())
        except FileNotFoundError:
            return None
        if content.get("version") != LEDGER_VERSION:
            raise HarnessError(
                f"{folder / LEDGER_FILE} has version {content.get('version')}, "
                f"this checkout knows {LEDGER_VERSION}: end it with the checkout that started it"
            )
        return cls(**content)

    def record_process(self, name: str, identity: ProcessIdentity) -> None:
        """Write down a process (its marker covers the moment before this)."""
        with _WRITING:
            self.processes.append({"name": name, **asdict(identity)})
            self.write()

    def record_cgroup(self, path: Path) -> None:
        """Write down a cgroup that is about to be made."""
        self.cgroups.append(str(path))
        self.write()

    def record_interface(self, name: str) -> None:
        """Write down a network interface of the machine that is about to be made."""
        self.interfaces.append(name)
        self.write()

    def record_setting(self, path: Path) -> None:
        """Keep the value of a kernel setting that is about to be changed by a component."""
        with contextlib.suppress(OSError):
            self.settings[str(path)] = path.read_text().strip()
            self.write()

    def identities(self) -> list[ProcessIdentity]:
        """The recorded processes of this boot."""
        if self.boot != boot_id():
            return []
        return [ProcessIdentity(entry["pid"], entry["start_ticks"]) for entry in self.processes]


class Instance:
    """An owned instance: its ledger, and the lock that says it is ours."""

    def __init__(self, ledger: Ledger, lock_descriptor: int) -> None:
        self.ledger = ledger
        self._lock_descriptor = lock_descriptor

    @property
    def folder(self) -> Path:
        """The instance's own folder."""
        return self.ledger.folder

    @classmethod
    def create(cls, name: str, *, wait_seconds: float = 0.0) -> Instance:
        """Become the owner of a new instance; sweeps every abandoned one first.

        Raises InUseError if an instance of this name is up. With `wait_seconds`
        it waits that long for the owner to end (not for a detached one, which
        has nobody to end it).
        """
        sweep_abandoned()
        descriptor = _take_lock(name, wait_seconds)
        try:
            former = Ledger.read(run_folder() / name)
            if former is not None and former.detached and former.boot == boot_id():
                raise InUseError(
                    f"{name} is up in the background; end it with `python -m eventengine_harness {name} down`"
                )
            if former is not None:
                sweep(former)
            ledger = Ledger(name)
            shutil.rmtree(ledger.folder, ignore_errors=True)
            ledger.write()
        except BaseException:
            os.close(descriptor)
            raise
        return cls(ledger, descriptor)

    @classmethod
    def take_over(cls, name: str) -> Instance | None:
        """Become the owner of a detached or abandoned instance; None if there is none."""
        if not (run_folder() / name).is_dir():
            return None
        descriptor = _take_lock(name, 0.0)
        ledger = Ledger.read(run_folder() / name)
        if ledger is None:
            shutil.rmtree(run_folder() / name, ignore_errors=True)
            _drop_lock(name, descriptor)
            return None
        return cls(ledger, descriptor)

    def detach(self) -> None:
        """Leave the instance running without an owner; `take_over` gets it back."""
        self.ledger.detached = True
        self.ledger.write()
        os.close(self._lock_descriptor)

    def end(self) -> None:
        """Remove everything that the ledger names, then the folder and the lock."""
        sweep(self.ledger)
        _drop_lock(self.ledger.name, self._lock_descriptor)


def _lock_path(name: str) -> Path:
    return run_folder() / f"{name}.lock"


def _try_lock(name: str) -> int | None:
    """Take an instance's lock; None if a live process has it."""
    path = _lock_path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        # The former owner may have unlinked the file between our open and our lock.
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        os.close(descriptor)


def _take_lock(name: str, wait_seconds: float) -> int:
    descriptor = _try_lock(name)
    if descriptor is not None:
        return descriptor
    owner = Ledger.read(run_folder() / name)
    owner_text = f"process {owner.owner_pid}" if owner else "another process"
    if wait_seconds > LOCK_PATIENCE_SECONDS:
        say(f"{name} is in use by {owner_text}; waiting up to {wait_seconds:.0f} s for its end")
    patience = max(wait_seconds, LOCK_PATIENCE_SECONDS)
    try:
        return wait_for(lambda: _try_lock(name), f"the end of {owner_text}", patience)
    except DeadlineError as error:
        raise InUseError(f"{name} is in use by {owner_text}") from error


def _drop_lock(name: str, descriptor: int) -> None:
    _lock_path(name).unlink(missing_ok=True)
    os.close(descriptor)


def instances() -> Iterator[Ledger]:
    """The ledgers of all instances on this machine, whoever owns them."""
    for path in sorted(run_folder().glob(f"*/{LEDGER_FILE}")):
        ledger = Ledger.read(path.parent)
        if ledger is not None:
            yield ledger


def sweep_abandoned() -> None:
    """Remove what killed owners left behind."""
    for ledger in list(instances()):
        descriptor = _try_lock(ledger.name)
        if descriptor is None:
            continue
        current = Ledger.read(ledger.folder)
        if current is None:
            _drop_lock(ledger.name, descriptor)
        elif current.detached and current.boot == boot_id():
            os.close(descriptor)
        else:
            say(f"removing what a killed {ledger.name} left behind")
            sweep(current)
            _drop_lock(ledger.name, descriptor)


def sweep(ledger: Ledger) -> None:
    """Remove everything that an instance made; may be repeated, and continues a broken-off one."""
    leftovers: list[str] = []
    leftovers += _end_all_processes(ledger)
    leftovers += [message for path in ledger.cgroups for message in _remove_cgroup(Path(path))]
    leftovers += [message for name in ledger.interfaces for message in _remove_interface(name, ledger)]
    leftovers += _unmount_below(ledger.folder)
    if ledger.boot == boot_id():
        _restore_settings(ledger.settings)
    if leftovers:
        raise LeftoverError(
            f"{ledger.name}: could not remove {'; '.join(leftovers)}. "
            f"`python -m eventengine_harness down` tries again"
        )
    shutil.rmtree(ledger.folder)


def _end_all_processes(ledger: Ledger) -> list[str]:
    """Kill what was recorded and what carries the marker, until none is found.

    No grace: everything here holds throw-away data, and whoever wants an orderly
    end of a component (a broker, the pods) asks for it before the sweep.
    """
    survivors: list[int] = []
    for _ in range(SWEEP_ROUNDS_MAX):
        # A killed process may have forked while the list was made; hence the rounds.
        targets = {*ledger.identities(), *find_marked(ledger.marker)}
        alive = [process for process in targets if process.pid != os.getpid() and process.is_alive()]
        if not alive:
            return []
        survivors = end_processes(alive, grace_seconds=0)
    return [f"process {pid}" for pid in survivors]


def _remove_cgroup(path: Path) -> list[str]:
    """Remove a cgroup with all below it; the kernel needs a moment after the last process."""

    def removed() -> bool:
        if not path.is_dir():
            return True
        # Deepest first, and the path itself at the end.
        for folder, _, _ in os.walk(path, topdown=False):
            try:
                Path(folder).rmdir()
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                return False
        return True

    try:
        wait_for(removed, f"the removal of {path}", CGROUP_DEADLINE_SECONDS)
    except (DeadlineError, OSError) as error:
        return [f"cgroup {path} ({error})"]
    return []


def _remove_interface(name: str, ledger: Ledger) -> list[str]:
    if ledger.boot != boot_id() or not Path(f"/sys/class/net/{name}").exists():
        return []
    try:
        run(["ip", "link", "delete", name])
    except CommandError as error:
        # Its peer's namespace may have taken it along a moment ago.
        return [] if not Path(f"/sys/class/net/{name}").exists() else [f"interface {name} ({error})"]
    return []


def _unmount_below(folder: Path) -> list[str]:
    """Unmount what is mounted in an instance's folder, the deepest first."""
    mounted = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        # The kernel writes blanks and such as octal escapes.
        point = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), line.split()[4])
        if Path(point).is_relative_to(folder):
            mounted.append(point)
    messages = []
    for point in sorted(mounted, key=len, reverse=True):
        try:
            run(["umount", point])
        except CommandError as error:
            messages.append(f"mount {point} ({error.output.strip()})")
    return messages


def _restore_settings(settings: dict[str, str]) -> None:
    for path, value in settings.items():
        with contextlib.suppress(OSError):
            if Path(path).read_text().strip() != value:
                Path(path).write_text(value)
