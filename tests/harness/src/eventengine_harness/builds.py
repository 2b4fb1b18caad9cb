"""Building the real components from source or registries, into the user's cache.

Each function returns the path of a finished build and makes it first if the
cache has none for the present inputs (module files and checksums, flags, tool
versions). The Go modules lie in tests/cluster/builds/, one per program family
because their dependencies clash; Kafka's jars come by the pom in
tests/kafka/broker/. go.sum and Maven's checksums vouch for what is fetched.
"""

from __future__ import annotations

import json
import platform
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from eventengine_harness import debian_packages, keda_sources
from eventengine_harness.caching import cached, key_of
from eventengine_harness.exceptions import CommandError, HarnessError
from eventengine_harness.locations import BUILDS, TESTS
from eventengine_harness.running import run, run_fetching

KUBERNETES_PROGRAMS = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "kubectl",
)
HELM_MODULES = {4: ("helm", "helm.sh/helm/v4/cmd/helm"), 3: ("helm3", "helm.sh/helm/v3/cmd/helm")}
KARPENTER_MODULE = "sigs.k8s.io/karpenter"
KEDA_MODULE = "github.com/kedacore/keda/v2"
CERT_MANAGER_MODULE = "github.com/cert-manager/cert-manager"
PAUSE_SOURCE = Path(__file__).resolve().parent / "programs" / "pause.c"
BROKER_POM = TESTS / "kafka" / "broker" / "pom.xml"
GO_BUILD_SECONDS_MAX = 1800.0
FETCH_SECONDS_MAX = 600.0
LINK_FLAGS = "-s -w"
STATIC_LINK_FLAGS = ("-static", "-O2", "-Wall", "-Werror")


def kubernetes() -> Path:
    """The folder of the six Kubernetes programs (about ten minutes the first time)."""
    version = _required_version(BUILDS / "kubernetes" / "go.mod", "k8s.io/kubernetes")
    major, minor, _ = version.removeprefix("v").split(".", 2)
    stamp = "k8s.io/component-base/version"
    link_flags = (
        f"-s -w -X {stamp}.gitVersion={version} -X {stamp}.gitMajor={major} -X {stamp}.gitMinor={minor}"
    )
    packages = [f"k8s.io/kubernetes/cmd/{name}" for name in KUBERNETES_PROGRAMS]
    return _go_programs(f"Kubernetes {version}", "kubernetes", packages, link_flags)


def helm(major: int = 4) -> Path:
    """The helm program of a major version."""
    folder, package = HELM_MODULES[major]
    return _go_programs(f"helm {major}", folder, [package], LINK_FLAGS) / "helm"


def kwok() -> Path:
    """The program that plays nodes and their kubelets."""
    return _go_programs("kwok", "kwok", ["sigs.k8s.io/kwok/cmd/kwok"], LINK_FLAGS) / "kwok"


def karpenter() -> Path:
    """Karpenter with its provider of KWOK nodes (about two minutes the first time)."""
    return _go_programs("Karpenter", "karpenter", ["sigs.k8s.io/karpenter/kwok"], LINK_FLAGS) / "kwok"


def karpenter_definitions() -> tuple[Path, ...]:
    """The folders of Karpenter's CustomResourceDefinitions and of its provider's."""
    module = _module_folder("karpenter", KARPENTER_MODULE)
    return module / "pkg" / "apis" / "crds", module / "kwok" / "apis" / "crds"


def keda() -> Path:
    """The folder of KEDA's `operator` and `adapter`, with few triggers (see `keda_sources`; about four minutes)."""
    folder = BUILDS / "keda"
    stand_ins = folder / "_stand_ins"
    packages = [f"{KEDA_MODULE}/cmd/{name}" for name in ("operator", "adapter")]

    def build(destination: Path) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            module = Path(scratch)
            keda_sources.copy_trimmed(_module_folder("keda", KEDA_MODULE), stand_ins, module / "keda")
            shutil.copyfile(folder / "go.sum", module / "go.sum")
            replaced = f"{(folder / 'go.mod').read_text()}\nreplace {KEDA_MODULE} => ./keda\n"
            (module / "go.mod").write_text(replaced)
            _compile("KEDA", module, packages, LINK_FLAGS, destination)

    files = [folder / "go.mod", folder / "go.sum", *stand_ins.rglob("*.go"), Path(keda_sources.__file__)]
    return cached("keda", key_of(files=files, words=[_go_version(folder), LINK_FLAGS, *packages]), build)


def keda_manifests() -> Path:
    """The folder of KEDA's own manifests (`crd/bases`, `rbac` and others), as its Go module has them."""
    return _module_folder("keda", KEDA_MODULE) / "config"


def cert_manager() -> Path:
    """cert-manager's controllers, those that issue from an authority in the cluster."""
    return _go_programs("cert-manager", "cert-manager", ["."], LINK_FLAGS) / "cert-manager"


def cert_manager_definitions() -> Path:
    """The folder of cert-manager's CustomResourceDefinitions."""
    return _module_folder("cert-manager", CERT_MANAGER_MODULE) / "deploy" / "crds"


def definitions() -> dict[str, Path]:
    """Where all of these definitions lie; fetches them, so that no test has to."""
    return {
        "karpenter": karpenter_definitions()[0],
        "cert-manager": cert_manager_definitions(),
        "keda": keda_manifests(),
    }


def metrics_decoder() -> Path:
    """The program that decodes answers of the metrics APIs with the types of k8s.io/metrics."""
    return _go_programs("the metrics decoder", "metrics-decoder", ["."], LINK_FLAGS) / "metrics-decoder"


def pause() -> Path:
    """The static program that does nothing but hold namespaces open."""
    debian_packages.ensure_installed(("gcc", "libc6-dev"))
    compiler = run(["gcc", "-dumpfullversion"]).strip()
    words = [*STATIC_LINK_FLAGS, compiler, platform.machine()]

    def build(folder: Path) -> None:
        run(["gcc", *STATIC_LINK_FLAGS, "-s", "-o", folder / "pause", PAUSE_SOURCE])

    return cached("pause", key_of(files=[PAUSE_SOURCE], words=words), build) / "pause"


def kafka() -> Path:
    """The folder of the jars of an Apache Kafka broker and its command-line classes."""

    def build(folder: Path) -> None:
        debian_packages.ensure_installed(debian_packages.KAFKA)
        run_fetching(
            [
                *("mvn", "--batch-mode", "--file", BROKER_POM),
                "dependency:copy-dependencies",
                f"-DoutputDirectory={folder}",
            ],
            "fetching Apache Kafka's jars",
            timeout_seconds=FETCH_SECONDS_MAX,
        )

    return cached("kafka", key_of(files=[BROKER_POM], words=["jars"]), build)


def everything() -> dict[str, Path]:
    """Build all of it, one after the other; returns the paths by name."""
    return {
        "kubernetes": kubernetes(),
        "helm": helm(4),
        "helm3": helm(3),
        "kwok": kwok(),
        "karpenter": karpenter(),
        "cert-manager": cert_manager(),
        "keda": keda(),
        "metrics-decoder": metrics_decoder(),
        "pause": pause(),
        "kafka": kafka(),
    }


def _required_version(module_file: Path, module: str) -> str:
    for line in module_file.read_text().splitlines():
        words = line.removeprefix("require").split()
        if len(words) >= 2 and words[0] == module:
            return words[1]
    raise HarnessError(f"{module_file} requires no {module}")


def _go_programs(title: str, module: str, packages: Sequence[str], link_flags: str) -> Path:
    return go_programs(title, BUILDS / module, module, packages, link_flags)


def go_programs(
    title: str, folder: Path, kind: str, packages: Sequence[str], link_flags: str = LINK_FLAGS
) -> Path:
    """Build programs of the Go module in `folder` into the cache of that kind; returns where they lie.

    Each is named like the last part of its package. The module's own sources are part of the cache's key.
    """
    files = [path for path in folder.rglob("*") if path.suffix in {".go", ".mod", ".sum"}]
    words = [_go_version(folder), link_flags, *packages]

    def build(destination: Path) -> None:
        _compile(title, folder, packages, link_flags, destination)

    return cached(kind, key_of(files=files, folder=folder, words=words), build)


def _compile(title: str, folder: Path, packages: Sequence[str], link_flags: str, destination: Path) -> None:
    debian_packages.ensure_installed(debian_packages.GO)
    run_fetching(
        [
            *("nice", "-n", "5", _go(), "build", "-v", "-trimpath", "-mod=readonly", "-buildvcs=false"),
            *("-ldflags", link_flags, "-o", f"{destination}/", *packages),
        ],
        f"building {title}",
        environment={"CGO_ENABLED": "1"},
        folder=folder,
        timeout_seconds=GO_BUILD_SECONDS_MAX,
    )


def _go_version(folder: Path) -> str:
    """Of the toolchain that builds the module in `folder`."""
    return run([_go(), "version"], folder=folder)


def _module_folder(build: str, module: str) -> Path:
    """Where the sources of a Go module lie that a build requires, fetched if need be."""
    command = [_go(), "mod", "download", "-json", module]
    answer = json.loads(run(command, folder=BUILDS / build, timeout_seconds=FETCH_SECONDS_MAX))
    return Path(answer["Dir"])


def _go() -> str:
    found = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if found is None:
        raise HarnessError(
            "Go is missing (1.26 or newer): install it from https://go.dev/dl/ and put its bin folder on PATH"
        )
    try:
        run([found, "version"])
    except CommandError as error:
        raise HarnessError(f"Go at {found} does not run: {error}") from error
    return found
