"""One real control plane serves all tests of this tier; each test has a namespace of its own."""

from __future__ import annotations

import secrets
from collections.abc import Generator, Iterator
from contextlib import ExitStack

import pytest
from eventengine_harness.accesses import KubernetesAccess
from eventengine_harness.control_planes import LoopbackControlPlane

from .adapters import AdapterPlane, AdapterProcess
from .fault_proxy import FaultProxy
from .hunting import Hunt
from .operators import OperatorPlane, OperatorProcess, installation_of, operating
from .spaces import Space

LOG_LENGTH_MAX = 6000


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what operator and adapter logged last where a test fails: a deadline alone tells little."""
    report = yield
    if report.failed:
        for name, fixture in getattr(item, "funcargs", {}).items():
            if isinstance(fixture, OperatorProcess | AdapterProcess):
                report.sections.append((f"end of the log ({name})", fixture.log()[-LOG_LENGTH_MAX:]))
    return report


@pytest.fixture(scope="session")
def control_plane() -> Iterator[LoopbackControlPlane]:
    """etcd, API server, controller manager and scheduler on loopback."""
    with LoopbackControlPlane() as running:
        yield running


@pytest.fixture(scope="session")
def access(control_plane: LoopbackControlPlane) -> KubernetesAccess:
    """Tools that act as cluster administrator."""
    return control_plane.access


@pytest.fixture
def namespace(access: KubernetesAccess) -> Iterator[str]:
    """A fresh namespace, deleted after the test without waiting for its end."""
    name = f"test-{secrets.token_hex(4)}"
    access.kubectl("create", "namespace", name)
    yield name
    access.delete("namespace", name, wait=False)


@pytest.fixture(scope="session")
def operator_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorPlane]:
    """A control plane for operators alone: they act on the whole cluster, and on cluster-wide objects."""
    with LoopbackControlPlane() as running:
        yield OperatorPlane(running, tmp_path_factory.mktemp("operators"))


@pytest.fixture(scope="module")
def fault_proxy(
    request: pytest.FixtureRequest, operator_plane: OperatorPlane, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FaultProxy]:
    """Between the API server and the operator of a module that wants it there; see `proxy`."""
    kubeconfig = operator_plane.install_rights(installation_of(request))
    with FaultProxy(kubeconfig, tmp_path_factory.mktemp("proxy")) as running:
        yield running


@pytest.fixture
def proxy(fault_proxy: FaultProxy) -> Iterator[FaultProxy]:
    """It, for a test to disturb the operator by; faithful again afterwards."""
    yield fault_proxy
    fault_proxy.heal()


@pytest.fixture(scope="module")
def operator(
    request: pytest.FixtureRequest, operator_plane: OperatorPlane, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    """A leading operator for the module's tests, installed as `eventengine-<what the module is about>`.

    A module that wants other settings has a fixture of that name itself, out of `operating`.
    """
    namespace = installation_of(request)
    kubeconfig = operator_plane.install_rights(namespace)
    with operating(kubeconfig, namespace, tmp_path_factory.mktemp("operator")) as running:
        yield running


@pytest.fixture
def space(operator: OperatorProcess, operator_plane: OperatorPlane) -> Iterator[Space]:
    """A fresh namespace that the module's operator serves."""
    with Space(operator_plane.access, operator) as made:
        yield made


@pytest.fixture(scope="session")
def adapter_control_plane() -> Iterator[LoopbackControlPlane]:
    """A control plane for adapters alone: the metrics APIs exist once per cluster."""
    with LoopbackControlPlane() as running:
        yield running


@pytest.fixture(scope="session")
def plane(
    adapter_control_plane: LoopbackControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> AdapterPlane:
    """That control plane with the CRD, the adapter's rights and the APIServices that lead to it."""
    return AdapterPlane(adapter_control_plane, tmp_path_factory.mktemp("adapter"))


@pytest.fixture(scope="session")
def adapter(plane: AdapterPlane) -> Iterator[AdapterProcess]:
    """The adapter behind the APIServices."""
    with AdapterProcess(plane, plane.folder / "adapter.log") as running:
        running.wait_ready()
        running.wait_available()
        yield running


@pytest.fixture
def metrics_space(plane: AdapterPlane) -> Iterator[str]:
    """A fresh namespace there."""
    name = f"test-{secrets.token_hex(4)}"
    plane.access.kubectl("create", "namespace", name)
    yield name
    plane.access.delete("namespace", name, wait=False)


@pytest.fixture
def hunt(plane: AdapterPlane, adapter: AdapterProcess, metrics_space: str) -> Iterator[Hunt]:
    """A sound engine of two pods."""
    with ExitStack() as stack:
        yield Hunt(plane, adapter, metrics_space, stack)
