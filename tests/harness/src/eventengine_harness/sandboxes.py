"""A sandbox: process, mount and network namespaces of their own for one cluster.

Everything of a cluster runs below the sandbox's first process. When that one is
killed, the kernel kills every process in the sandbox (containerd's shims and the
pods' too), and with them go the mounts and the network namespaces, the CNI
plugin's included. That is what makes teardown solid: it takes one kill, and it
can't forget anything. Only cgroups and the files of the instance's folder have
to be removed by hand; the ledger names them.

The machine reaches the node by one veth pair and a route to one address, so
that a test process talks to the API server and to Kafka as if they were remote.
/run, /var/log and /var/lib are private to the sandbox: what the components write
to fixed places there never reaches the machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eventengine_harness.exceptions import CommandError, HarnessError
from eventengine_harness.ledgers import Ledger
from eventengine_harness.locations import REPOSITORY, user_cache
from eventengine_harness.processes import Launcher, child_of
from eventengine_harness.running import run
from eventengine_harness.waiting import wait_for

NODE_ADDRESS = "10.99.0.1"
HOST_ADDRESS = "10.99.0.254"
NODE_PREFIX_LENGTH = 24
NODE_INTERFACE = "node0"
HOST_INTERFACE = "eventengine0"
PRIVATE_FOLDERS = (Path("/run"), Path("/var/log"), Path("/var/lib"))
CGROUP_ROOT = Path("/sys/fs/cgroup")
START_DEADLINE_SECONDS = 10.0

# The kubelet changes these for the whole machine; teardown puts them back.
KERNEL_SETTINGS = (
    Path("/proc/sys/vm/overcommit_memory"),
    Path("/proc/sys/vm/panic_on_oom"),
    Path("/proc/sys/kernel/panic"),
    Path("/proc/sys/kernel/panic_on_oops"),
    Path("/proc/sys/kernel/keys/root_maxkeys"),
    Path("/proc/sys/kernel/keys/root_maxbytes"),
)


@dataclass(frozen=True)
class Sandbox:
    """A running sandbox, known by the pid of its first process."""

    init_pid: int

    @property
    def prefix(self) -> tuple[str, ...]:
        """What to put before a command so that it runs inside (nsenter)."""
        return ("nsenter", f"--target={self.init_pid}", "--pid", "--mount", "--net", "--")

    @property
    def network_prefix(self) -> tuple[str, ...]:
        """What to put before a command so that only its network is the sandbox's."""
        return ("nsenter", f"--net=/proc/{self.init_pid}/ns/net", "--")

    def run(self, command: Sequence[str | Path], *, timeout_seconds: float = 60.0) -> str:
        """Run a command inside to its end; returns its standard output."""
        return run([*self.prefix, *command], timeout_seconds=timeout_seconds)


def start(ledger: Ledger, launcher: Launcher, pause: Path) -> Sandbox:
    """Make the namespaces and the network between them and the machine.

    Args:
        ledger: Told of everything before it is made.
        launcher: Starts the first process; it must have no prefix.
        pause: The static program that becomes the first process.
    """
    for setting in KERNEL_SETTINGS:
        ledger.record_setting(setting)
    steps = ["mount --make-rshared /"]
    steps += [f"mount -t tmpfs -o mode=755 tmpfs {folder}" for folder in _private_folders()]
    steps += [f"exec {pause}"]
    holder = launcher.launch(
        "sandbox",
        [
            "unshare",
            *("--pid", "--net", "--mount", "--mount-proc", "--propagation", "private"),
            *("--fork", "--kill-child=SIGKILL"),
            *("sh", "-ec", "\n".join(steps)),
        ],
    )

    def first_process() -> int | None:
        holder.check()
        pid = child_of(holder.identity.pid)
        if pid is None:
            return None
        # The shell has become the pause program once its mounts are made.
        try:
            return pid if Path(f"/proc/{pid}/exe").readlink() == pause.resolve() else None
        except FileNotFoundError:
            return None

    init_pid = wait_for(first_process, "the sandbox's first process", START_DEADLINE_SECONDS)
    sandbox = Sandbox(init_pid)
    _connect(ledger, sandbox)
    return sandbox


def _private_folders() -> list[Path]:
    """The folders hidden by an empty one, but for those that hold our own files."""
    needed = [user_cache().resolve(), REPOSITORY.resolve()]
    return [
        folder
        for folder in PRIVATE_FOLDERS
        if not any(path.is_relative_to(folder.resolve()) for path in needed)
    ]


def _connect(ledger: Ledger, sandbox: Sandbox) -> None:
    if Path(f"/sys/class/net/{HOST_INTERFACE}").exists():
        raise HarnessError(
            f"the interface {HOST_INTERFACE} exists and no ledger knows it; "
            f"remove it: ip link delete {HOST_INTERFACE}"
        )
    ledger.record_interface(HOST_INTERFACE)
    run(
        [
            *("ip", "link", "add", HOST_INTERFACE, "type", "veth"),
            *("peer", "name", NODE_INTERFACE, "netns", str(sandbox.init_pid)),
        ]
    )
    inside = [
        "ip link set lo up",
        f"ip addr add {NODE_ADDRESS}/{NODE_PREFIX_LENGTH} dev {NODE_INTERFACE}",
        f"ip link set {NODE_INTERFACE} up",
        f"ip route add default via {HOST_ADDRESS}",
        "echo 1 > /proc/sys/net/ipv4/ip_forward",
    ]
    sandbox.run(["sh", "-ec", "\n".join(inside)])
    run(["ip", "addr", "add", f"{HOST_ADDRESS}/32", "dev", HOST_INTERFACE])
    run(["ip", "link", "set", HOST_INTERFACE, "up"])
    route = ["ip", "route", "add", f"{NODE_ADDRESS}/32", "dev", HOST_INTERFACE]
    try:
        run([*route, "src", HOST_ADDRESS])
    except CommandError as error:
        raise HarnessError(
            f"can't route {NODE_ADDRESS} to the sandbox; does this machine use that address? "
            f"{error.output.strip()}"
        ) from error


def make_cgroup(ledger: Ledger, name: str) -> str:
    """Make a cgroup of this name in every hierarchy (version 1 or 2) that all pods go below.

    Returns its path as the kubelet wants it ("/name").
    """
    if (CGROUP_ROOT / "cgroup.controllers").exists():
        controllers = (CGROUP_ROOT / "cgroup.controllers").read_text().split()
        _enable_controllers(CGROUP_ROOT, controllers)
        path = CGROUP_ROOT / name
        ledger.record_cgroup(path)
        path.mkdir(exist_ok=True)
        _enable_controllers(path, controllers)
        return f"/{name}"
    hierarchies = sorted(path for path in CGROUP_ROOT.iterdir() if path.is_dir())
    for hierarchy in hierarchies:
        if hierarchy.is_symlink() or not (hierarchy / "cgroup.procs").exists():
            continue
        path = hierarchy / name
        ledger.record_cgroup(path)
        path.mkdir(exist_ok=True)
        for setting in ("cpuset.cpus", "cpuset.mems"):
            # A new cpuset of version 1 is empty and can hold no process.
            if (hierarchy / setting).exists():
                (path / setting).write_text((hierarchy / setting).read_text())
    return f"/{name}"


def _enable_controllers(path: Path, controllers: Sequence[str]) -> None:
    (path / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in controllers))
