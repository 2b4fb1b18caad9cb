"""A real Kubernetes node: containerd, the kubelet with the static CPU manager, kube-proxy.

Runs inside a cluster's sandbox. Owns the configuration files of the three, the
CNI configuration, and importing images. The cpuset of a Guaranteed pod with
whole CPUs is exclusive among pods; processes of the machine it keeps out by
nothing, so everything else is started on the shared CPU by `taskset`.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from eventengine_harness import archives
from eventengine_harness.accesses import KubernetesAccess, condition_of
from eventengine_harness.control_planes import ControlPlane, succeeds
from eventengine_harness.exceptions import DeadlineError
from eventengine_harness.processes import ComponentProcess, Launcher, tail_of
from eventengine_harness.sandboxes import NODE_ADDRESS, Sandbox
from eventengine_harness.waiting import wait_for

POD_RANGE = "10.244.0.0/24"
CLUSTER_DNS_ADDRESS = "10.96.0.10"
CNI_PROGRAMS = Path("/usr/lib/cni")
PAUSE_IMAGE = "eventengine.test/pause:1"
SHELL_IMAGE = "eventengine.test/shell:1"
BUSYBOX = Path("/bin/busybox")
SHELL_COMMANDS = ("cat", "env", "grep", "id", "ls", "nc", "nproc", "sh", "sleep", "wget")
SYSTEM_RESERVED_CPU = "100m"
CPU_MANAGER_RECONCILE_SECONDS = 2
NODE_DEADLINE_SECONDS = 60.0
IMPORT_DEADLINE_SECONDS = 180.0


@dataclass
class Node:
    """Starts the node's components in a sandbox and joins them to a control plane.

    Attributes:
        folder: For configuration, containerd's and the kubelet's data. A real disk.
        launcher: Starts processes inside the sandbox.
        sandbox: Where helper commands run.
        control_plane: What the node joins.
        cgroup: The cgroup that all pods live below, as the kubelet wants it ("/name").
        pause_program: What the pause image holds.
    """

    folder: Path
    launcher: Launcher
    sandbox: Sandbox
    control_plane: ControlPlane
    cgroup: str
    pause_program: Path
    components: dict[str, ComponentProcess] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The node's name in the cluster."""
        return self.control_plane.node_name

    @property
    def containerd_socket(self) -> Path:
        """Containerd's socket; a path of the machine's file system, too."""
        return self.folder / "containerd" / "containerd.sock"

    def start_containerd(self) -> None:
        """Start containerd and give it the pause image and the shell image of tests."""
        self.folder.mkdir(parents=True, exist_ok=True)
        network = self.folder / "cni"
        network.mkdir()
        (network / "10-pods.conflist").write_text(json.dumps(_network(self.folder)))
        (self.folder / "containerd").mkdir()
        runtime = self.folder / "runc-on-all-cpus"
        # containerd is confined by taskset, and a process inherits that for good: the kernel
        # would still apply it within a pod's own cpuset, and keep pods off the other cores.
        everywhere = f"0-{(os.cpu_count() or 1) - 1}"
        runtime.write_text(f'#!/bin/sh\nexec taskset --cpu-list {everywhere} runc "$@"\n')
        runtime.chmod(0o755)
        configuration = self.folder / "containerd.toml"
        configuration.write_text(_containerd_configuration(self.folder, self.containerd_socket))
        containerd = self.launcher.launch("containerd", ["containerd", "--config", configuration])
        self.components["containerd"] = containerd
        question = [*self.sandbox.prefix, *ctr(self.containerd_socket, "version")]
        containerd.wait_ready(lambda: succeeds(question), "containerd", NODE_DEADLINE_SECONDS)
        self.import_image(
            archives.write_image(
                self.folder / "pause.tar",
                PAUSE_IMAGE,
                files={"pause": self.pause_program},
                links={},
                command=["/pause"],
            )
        )
        self.import_image(
            archives.write_image(
                self.folder / "shell.tar",
                SHELL_IMAGE,
                files={"bin/busybox": BUSYBOX},
                links={f"bin/{name}": "busybox" for name in SHELL_COMMANDS},
                command=["/bin/sh", "-c", "sleep 1000000"],
            )
        )

    def start_kubelet_and_proxy(self) -> None:
        """Start the kubelet and kube-proxy; `wait_until_ready` tells when pods can run."""
        certificates = self.control_plane.certificates
        kubelet = self.control_plane.write_kubeconfig("kubelet", certificates.kubelet)
        resolver = self.folder / "resolv.conf"
        # No cluster DNS runs, and a pod has no business with the machine's resolvers.
        resolver.write_text("options timeout:1 attempts:1\n")
        configuration = self.folder / "kubelet.yaml"
        configuration.write_text(yaml.safe_dump(self._kubelet_configuration(resolver)))
        programs = self.control_plane.programs
        self.components["kubelet"] = self.launcher.launch(
            "kubelet",
            [
                programs / "kubelet",
                f"--config={configuration}",
                f"--kubeconfig={kubelet}",
                f"--root-dir={self.folder / 'kubelet'}",
                f"--cert-dir={self.folder / 'kubelet-certificates'}",
                f"--hostname-override={self.name}",
                f"--node-ip={NODE_ADDRESS}",
            ],
        )
        proxy = self.control_plane.write_kubeconfig("kube-proxy", certificates.kube_proxy)
        self.components["kube-proxy"] = self.launcher.launch(
            "kube-proxy",
            [
                programs / "kube-proxy",
                f"--kubeconfig={proxy}",
                "--proxy-mode=nftables",
                f"--cluster-cidr={POD_RANGE}",
                f"--hostname-override={self.name}",
                # The connection table's size is the machine's, not ours.
                "--conntrack-max-per-core=0",
                "--conntrack-tcp-timeout-established=0",
                "--conntrack-tcp-timeout-close-wait=0",
            ],
        )

    def wait_until_ready(self, access: KubernetesAccess) -> None:
        """Wait until the node is Ready and takes pods."""

        def ready() -> bool:
            for component in self.components.values():
                component.check()
            node = access.get("node", self.name)
            return (
                node is not None
                and condition_of(node, "Ready").get("status") == "True"
                and not node["spec"].get("taints")
            )

        try:
            wait_for(ready, f"node {self.name} Ready", NODE_DEADLINE_SECONDS)
        except DeadlineError as error:
            log = self.components["kubelet"].log
            raise DeadlineError(f"{error}; the end of {log}:\n{tail_of(log)}") from error

    def import_image(self, archive: Path) -> None:
        """Import an image archive (`docker save` or OCI layout), so that pods can run it."""
        import_image(self.sandbox, self.containerd_socket, archive)

    def images(self) -> list[str]:
        """The references of the images that the node has."""
        return self.sandbox.run(ctr(self.containerd_socket, "images", "list", "--quiet")).split()

    def _kubelet_configuration(self, resolver: Path) -> dict[str, Any]:
        certificates = self.control_plane.certificates
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(certificates.authority.certificate)},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(certificates.kubelet.certificate),
            "tlsPrivateKeyFile": str(certificates.kubelet.key),
            "address": NODE_ADDRESS,
            "containerRuntimeEndpoint": f"unix://{self.containerd_socket}",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": self.cgroup,
            "failCgroupV1": False,
            "failSwapOn": False,
            "cpuManagerPolicy": "static",
            "cpuManagerReconcilePeriod": f"{CPU_MANAGER_RECONCILE_SECONDS}s",
            # The static policy rounds this up to one shared core, and leaves all the rest
            # of that core allocatable to pods that are not pinned.
            "systemReserved": {"cpu": SYSTEM_RESERVED_CPU},
            "clusterDNS": [CLUSTER_DNS_ADDRESS],
            "clusterDomain": "cluster.local",
            "resolvConf": str(resolver),
            "podLogsDir": str(self.folder / "pod-logs"),
            "volumePluginDir": str(self.folder / "volume-plugins"),
            # A nearly full disk of the machine is no reason to evict a test's pods, or to
            # remove images that no registry could give back.
            "evictionHard": {
                "memory.available": "50Mi",
                "nodefs.available": "1%",
                "imagefs.available": "1%",
            },
            "imageGCHighThresholdPercent": 100,
            "imageMaximumGCAge": "0s",
            "enableServer": True,
            "registerNode": True,
        }


def ctr(socket: Path, *words: str | Path) -> list[str]:
    """A command line of containerd's client, in the namespace that the kubelet uses."""
    return ["ctr", f"--address={socket}", "--namespace=k8s.io", *(str(word) for word in words)]


def import_image(sandbox: Sandbox, socket: Path, archive: Path) -> None:
    """Import an image archive into the containerd behind a socket."""
    command = ctr(socket, "images", "import", archive)
    sandbox.run(command, timeout_seconds=IMPORT_DEADLINE_SECONDS)


def _network(folder: Path) -> dict[str, Any]:
    return {
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "pods0",
                "isDefaultGateway": True,
                "ipMasq": False,
                # A pod reaches itself through its own Service.
                "hairpinMode": True,
                "ipam": {
                    "type": "host-local",
                    "dataDir": str(folder / "cni-addresses"),
                    "ranges": [[{"subnet": POD_RANGE}]],
                },
            }
        ],
    }


def _containerd_configuration(folder: Path, socket: Path) -> str:
    return f"""version = 2
root = "{folder}/containerd/root"
state = "{folder}/containerd/state"
oom_score = 0

[grpc]
  address = "{socket}"

[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/containerd/opt"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  # Without this the kernel here refuses the sandbox's score, and no pod starts.
  restrict_oom_score_adj = true
  disable_apparmor = true

[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "{CNI_PROGRAMS}"
  conf_dir = "{folder}/cni"

[plugins."io.containerd.grpc.v1.cri".containerd]
  default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = false
  BinaryName = "{folder}/runc-on-all-cpus"
"""
