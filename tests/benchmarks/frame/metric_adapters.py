"""The metrics adapters that are compared, each as the processes that a user of it would run.

Owns their builds and command lines, and what their processes cost: processor time and resident memory from /proc. All
of them listen on the plane's one port, so one runs at a time.

- `eventengine`: ours, with exactly the rights that the chart gives it.
- `prometheus-adapter`: 0.12, with a Prometheus beside it that reads every pod each second.
- `test-adapter`: the sample adapter of custom-metrics-apiserver, which most adapters are made with. It reads nothing;
  it is told its values once, by the benchmark.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from eventengine_harness import builds, debian_packages
from eventengine_harness.control_planes import LOOPBACK, free_port
from eventengine_harness.exceptions import HarnessError
from eventengine_harness.locations import TESTS
from eventengine_harness.processes import tail_of
from eventengine_harness.waiting import wait_for

from frame.metric_planes import CUSTOM, MetricPlane
from frame.metric_pods import GAUGES, LAG, NAMESPACE, PODS, all_pods
from frame.usage import cpu_seconds, memory_bytes

PEERS: Final = TESTS / "benchmarks" / "peers"
INSTRUMENTS: Final = TESTS / "benchmarks" / "instruments"
OURS: Final = "eventengine"
PROMETHEUS_ADAPTER: Final = "prometheus-adapter"
TEST_ADAPTER: Final = "test-adapter"
TEST_ADAPTER_PORT: Final = 8080
"""It listens there for its values; the port can't be changed."""

READY_SECONDS_MAX: Final = 90.0
STOP_SECONDS_MAX: Final = 20.0
WRITERS: Final = 4
METRICS: Final = (*GAUGES, LAG)
PROMETHEUS_RULES: Final = f"""
rules:
- seriesQuery: '{{__name__=~"^eventengine_.*",namespace!="",pod!=""}}'
  resources:
    overrides:
      namespace: {{resource: namespace}}
      pod: {{resource: pod}}
  name: {{matches: "^eventengine_(.*)$", as: "$1"}}
  metricsQuery: 'sum(<<.Series>>{{<<.LabelMatchers>>}}) by (<<.GroupBy>>)'
externalRules:
- seriesQuery: '{{__name__="eventengine_{LAG}",namespace!=""}}'
  resources:
    overrides:
      namespace: {{resource: namespace}}
  name: {{matches: "^eventengine_(.*)$", as: "$1"}}
  metricsQuery: 'sum(<<.Series>>{{<<.LabelMatchers>>}}) by (engine)'
"""


@dataclass(frozen=True)
class Usage:
    """What processes took so far, in seconds of processor time, and hold now, in bytes."""

    cpu_seconds: float
    resident_bytes: int


@dataclass
class RunningSystem:
    """One adapter that serves; `pids` by the name of each process."""

    name: str
    pids: dict[str, int]
    telemetry_port: int = 0
    first_answer_seconds: float = 0.0
    """From the start of our process to its first list of all pods."""

    def usage(self) -> dict[str, Usage]:
        """What each process costs; HarnessError if one is gone."""
        return {name: Usage(cpu_seconds(pid), memory_bytes(pid, "VmRSS")) for name, pid in self.pids.items()}


def pods_program() -> Path:
    """The program that serves the simulated pods."""
    return _instruments() / "pods"


def load_program() -> Path:
    """The program that asks at a fixed rate."""
    return _instruments() / "load"


def _instruments() -> Path:
    packages = ("./pods", "./load")
    return builds.go_programs("the instruments", INSTRUMENTS, "benchmark-instruments", packages)


def _peer(folder: str, package: str) -> Path:
    return builds.go_programs(folder, PEERS / folder, f"benchmark-peer-{folder}", [package])


@contextmanager
def _process(
    command: list[str | Path], log: Path, environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    words = [str(word) for word in command]
    with log.open("ab") as output:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], probe: Callable[[], bool], what: str, log: Path) -> None:
    def ready() -> bool:
        if process.poll() is not None:
            raise HarnessError(f"{what} has ended; the end of its log:\n{tail_of(log)}")
        return probe()

    wait_for(ready, what, READY_SECONDS_MAX, last_seen=lambda: tail_of(log))


def answers(port: int, path: str) -> bool:
    """Whether a plain port on loopback answers a path with 200."""
    return page(port, path)[0] == http.client.OK


def page(port: int, path: str) -> tuple[int, str]:
    """Status and text of a page of a plain port on loopback; status 0 while nothing listens."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    except OSError:
        return 0, ""
    finally:
        connection.close()


def knows_all_pods(plane: MetricPlane) -> bool:
    """Whether the adapter, asked directly, has a value of each pod; an error is an answer, too, and no value."""
    client = plane.administrator()
    trust = ssl.create_default_context(cafile=plane.authority.files.certificate)
    trust.check_hostname = False  # the certificate is the Service's
    trust.load_cert_chain(client.certificate, client.key)
    connection = http.client.HTTPSConnection(LOOPBACK, plane.port, timeout=5, context=trust)
    try:
        connection.request("GET", f"{CUSTOM}/namespaces/{NAMESPACE}/pods/%2A/{LAG}")
        response = connection.getresponse()
        answer = response.read()
    except OSError:
        return False
    finally:
        connection.close()
    return response.status == http.client.OK and len(json.loads(answer)["items"]) == PODS


def listens(port: int) -> bool:
    """Whether anything takes connections at a port of loopback."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((LOOPBACK, port)) == 0


PATHS: Final = tuple(
    f"{CUSTOM}/namespaces/{NAMESPACE}/pods/{all_pods()[-1].name}/{metric}" for metric in METRICS
)
"""What has to be answered before a system counts as ready: the last pod's metrics."""


@contextmanager
def running(system: str, plane: MetricPlane, folder: Path) -> Iterator[RunningSystem]:
    """Run a system until the block ends; it answers through the API server by then."""
    starts = {OURS: _ours, PROMETHEUS_ADAPTER: _prometheus_adapter, TEST_ADAPTER: _test_adapter}
    with ExitStack() as stack:
        found = starts[system](stack, plane, folder)
        plane.wait_available(PATHS)
        yield found


def _ours(stack: ExitStack, plane: MetricPlane, folder: Path) -> RunningSystem:
    telemetry, log = free_port(), folder / "eventengine.log"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("EVENTENGINE_")},
        "EVENTENGINE_ADAPTER_KUBECONFIG": str(plane.kubeconfig()),
        "EVENTENGINE_ADAPTER_LISTEN": f"{LOOPBACK}:{plane.port}",
        "EVENTENGINE_ADAPTER_TELEMETRY_LISTEN": f"{LOOPBACK}:{telemetry}",
        "EVENTENGINE_ADAPTER_CERTIFICATE_FOLDER": str(plane.folder / "tls"),
        "EVENTENGINE_ADAPTER_SNAPSHOT_PORT": str(plane.snapshot_port),
        "EVENTENGINE_ADAPTER_DRAIN_SECONDS": "0",
    }
    command: list[str | Path] = [sys.executable, "-m", "eventengine_adapter"]
    started = time.monotonic()
    process = stack.enter_context(_process(command, log, environment))
    _wait(process, lambda: knows_all_pods(plane), "a list of all pods", log)
    first_answer_seconds = time.monotonic() - started
    _wait(process, lambda: answers(telemetry, "/readyz"), "a ready adapter", log)
    return RunningSystem(OURS, {"adapter": process.pid}, telemetry, first_answer_seconds)


def _delegating_flags(plane: MetricPlane) -> list[str | Path]:
    kubeconfig = plane.access.kubeconfig
    return [
        f"--secure-port={plane.port}",
        f"--bind-address={LOOPBACK}",
        f"--tls-cert-file={plane.serving.certificate}",
        f"--tls-private-key-file={plane.serving.key}",
        f"--lister-kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
    ]


def _prometheus_adapter(stack: ExitStack, plane: MetricPlane, folder: Path) -> RunningSystem:
    debian_packages.ensure_installed(("prometheus",))
    port, log = free_port(), folder / "prometheus.log"
    data = folder / f"prometheus-{port}"
    targets = [
        {
            "targets": [f"{pod.address}:{plane.snapshot_port}"],
            "labels": {"namespace": NAMESPACE, "pod": pod.name, "engine": pod.engine},
        }
        for pod in all_pods()
    ]
    (folder / "targets.json").write_text(json.dumps(targets))
    configuration = folder / "prometheus.yaml"
    configuration.write_text(
        "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
        "scrape_configs:\n"
        "- job_name: engines\n"
        "  file_sd_configs: [{files: [targets.json]}]\n"
    )
    prometheus = stack.enter_context(
        _process(
            [
                "prometheus",
                f"--config.file={configuration}",
                f"--storage.tsdb.path={data}",
                f"--web.listen-address={LOOPBACK}:{port}",
            ],
            log,
        )
    )
    _wait(prometheus, lambda: answers(port, "/-/ready"), "a ready Prometheus", log)
    question = f"/api/v1/query?query=count(eventengine_{LAG})"
    wanted = f'"{len(targets) * 4}"'
    _wait(prometheus, lambda: wanted in page(port, question)[1], "a sample of each pod in Prometheus", log)
    rules = folder / "prometheus-adapter.yaml"
    rules.write_text(PROMETHEUS_RULES)
    adapter_log = folder / "prometheus-adapter.log"
    program = _prometheus_adapter_program()
    flags = _delegating_flags(plane)
    process = stack.enter_context(
        _process(
            [
                program,
                *flags,
                f"--config={rules}",
                f"--prometheus-url=http://{LOOPBACK}:{port}",
                # Its own manifest's.
                "--metrics-relist-interval=1m",
            ],
            adapter_log,
        )
    )
    _wait(process, lambda: listens(plane.port), "a listening prometheus-adapter", adapter_log)
    return RunningSystem(PROMETHEUS_ADAPTER, {"adapter": process.pid, "prometheus": prometheus.pid})


def _test_adapter(stack: ExitStack, plane: MetricPlane, folder: Path) -> RunningSystem:
    if listens(TEST_ADAPTER_PORT):
        raise HarnessError(f"port {TEST_ADAPTER_PORT}, which the test adapter needs, is taken")
    log = folder / "test-adapter.log"
    command: list[str | Path] = [_test_adapter_program(), *_delegating_flags(plane)]
    process = stack.enter_context(_process(command, log))
    _wait(
        process, lambda: listens(plane.port) and listens(TEST_ADAPTER_PORT), "a listening test adapter", log
    )
    _write_values()
    return RunningSystem(TEST_ADAPTER, {"adapter": process.pid})


def _write_values() -> None:
    """Tell the test adapter a value of each pod and metric."""
    paths = [
        f"/write-metrics/namespaces/{NAMESPACE}/pods/{pod.name}/{metric}"
        for pod in all_pods()
        for metric in METRICS
    ]
    failures: list[str] = []

    def write(share: list[str]) -> None:
        connection = http.client.HTTPConnection(LOOPBACK, TEST_ADAPTER_PORT, timeout=10)
        try:
            for path in share:
                connection.request("POST", path, '"300m"', {"Content-Type": "application/json"})
                response = connection.getresponse()
                response.read()
                if response.status != http.client.OK:
                    failures.append(f"{path}: {response.status}")
        except OSError as error:
            failures.append(str(error))
        finally:
            connection.close()

    threads = [threading.Thread(target=write, args=(paths[index::WRITERS],)) for index in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise HarnessError(f"the test adapter did not take its values: {failures[0]}")


def build_peers() -> None:
    """Build what is compared with, before anything is measured."""
    debian_packages.ensure_installed(("prometheus",))
    _prometheus_adapter_program()
    _test_adapter_program()


def _prometheus_adapter_program() -> Path:
    return _peer("prometheus-adapter", "sigs.k8s.io/prometheus-adapter/cmd/adapter") / "adapter"


def _test_adapter_program() -> Path:
    return (
        _peer("custom-metrics-apiserver", "sigs.k8s.io/custom-metrics-apiserver/test-adapter")
        / "test-adapter"
    )
