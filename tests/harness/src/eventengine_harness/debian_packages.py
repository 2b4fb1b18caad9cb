"""The Debian packages that the real components come from or need.

Installs what is missing, and only then asks for root. When the installation fails, one
that was broken off is brought to its end and the package index is fetched again. A service
that a package starts (etcd, containerd) is left alone and never used: ours run
on free ports or in namespaces of their own.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from eventengine_harness.caching import locked
from eventengine_harness.exceptions import CommandError, HarnessError
from eventengine_harness.locations import user_cache
from eventengine_harness.running import run, run_showing_progress

CONTROL_PLANE = ("etcd-server",)
NODE = (
    "busybox-static",
    "conntrack",
    "containerd",
    "containernetworking-plugins",
    "gcc",
    "iproute2",
    "iptables",
    "kmod",
    "libc6-dev",
    "nftables",
    "procps",
    "runc",
    "util-linux",
)
IMAGES = ("buildah", "mmdebstrap")
JAVA = ("openjdk-17-jre-headless",)
KAFKA = ("maven", *JAVA)
# Debian's own Go is too old to start the pinned toolchain, so Go is expected to be there.
GO = ("ca-certificates", "gcc", "git", "libc6-dev")


def missing(packages: Iterable[str]) -> list[str]:
    """Return the packages that are not installed, sorted."""
    absent = []
    for package in sorted(set(packages)):
        try:
            status = run(["dpkg-query", "-W", "-f=${Status}", package])
        except CommandError:
            status = ""
        if "install ok installed" not in status:
            absent.append(package)
    return absent


def ensure_installed(packages: Iterable[str]) -> None:
    """Install the missing ones among `packages` with apt-get."""
    absent = missing(packages)
    if not absent:
        return
    if os.geteuid() != 0:
        raise HarnessError(
            f"Debian packages are missing: {' '.join(absent)}. "
            f"Install them as root: apt-get install {' '.join(absent)}"
        )
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends"]
    environment = {"DEBIAN_FRONTEND": "noninteractive"}
    with locked(user_cache() / "apt.lock", "Debian packages"):
        absent = missing(absent)
        if not absent:
            return
        title = f"installing {' '.join(absent)}"
        try:
            run_showing_progress([*install, *absent], title, environment=environment)
        except CommandError:
            # An installation that was broken off keeps apt-get from anything else until it is brought to its end.
            run_showing_progress(
                ["dpkg", "--configure", "-a"], "ending what was begun", environment=environment
            )
            run_showing_progress(
                ["apt-get", "update", "-qq"], "fetching the package index", environment=environment
            )
            run_showing_progress([*install, *absent], title, environment=environment)
