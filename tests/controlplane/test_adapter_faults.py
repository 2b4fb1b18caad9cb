"""What goes wrong around the adapter, on a real control plane: it answers with the truth, or with an error.

The proxy that stands between an adapter and the API server only takes reviews away; everything else is real:
certificates are renewed in the files that kube-apiserver itself follows, and it is that which restarts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from eventengine_harness.accesses import condition_of
from eventengine_harness.certificates import Authority, KeyPair
from eventengine_harness.control_planes import LoopbackControlPlane, free_port
from eventengine_harness.waiting import wait_for

from .adapters import AdapterPlane, AdapterProcess, EngineState
from .fault_proxy import Answer, FaultProxy, Request
from .hunting import (
    CUSTOM,
    EXTERNAL,
    FORGED,
    Hunt,
    autoscaler,
    certificate,
    items,
    wait_refused,
    wait_served,
)
from .loads import ReadingLoad

REVIEWS = "/subjectaccessreviews"
CONFIG_MAP = ("configmap", "extension-apiserver-authentication", "kube-system")
RENEWED_SECONDS_MAX = 60.0
REMEMBERED_SECONDS = 10.0
LAG = {
    "type": "External",
    "external": {
        "metric": {"name": "kafka_consumer_lag", "selector": {"matchLabels": {"engine": "hunt"}}},
        "target": {"type": "AverageValue", "averageValue": "1000"},
    },
}


@pytest.fixture
def control_plane(adapter_control_plane: LoopbackControlPlane) -> LoopbackControlPlane:
    return adapter_control_plane


# --- renewal -------------------------------------------------------------------------------------------------


def replace(file: Path, content: bytes) -> None:
    """Write a file as those who renew certificates do: aside, then renamed."""
    aside = file.with_suffix(".new")
    aside.write_bytes(content)
    aside.rename(file)


def expiry_of(pair: KeyPair) -> float:
    return x509.load_pem_x509_certificate(pair.certificate.read_bytes()).not_valid_after_utc.timestamp()


def test_the_front_proxy_s_certificate_and_authority_are_renewed_without_a_failed_read(
    plane: AdapterPlane, hunt: Hunt, control_plane: LoopbackControlPlane, tmp_path: Path
) -> None:
    """In the order of the book: trust both, change the certificate, trust the new one only."""
    proxy, authority = (
        certificate(control_plane, "front-proxy-client"),
        certificate(control_plane, "front-proxy-ca"),
    )
    old = KeyPair(tmp_path / "old.crt", tmp_path / "old.key")
    replace(old.certificate, proxy.certificate.read_bytes())
    replace(old.key, proxy.key.read_bytes())
    successor = Authority.create(tmp_path, "front-proxy-ca-of-next-year")
    new = successor.issue(tmp_path, "new", common_name="front-proxy-client")
    plane.access.apply(autoscaler("hunt", LAG), namespace=hunt.namespace)
    plane.access.wait_for_condition("hpa", "hunt", "ScalingActive", namespace=hunt.namespace)

    with ReadingLoad(plane, hunt.lag, 4) as load:
        both = authority.certificate.read_bytes() + successor.files.certificate.read_bytes()
        replace(authority.certificate, both)
        wait_for(
            lambda: hunt.adapter.status(hunt.lag, FORGED, new) == 200,
            "trust in the new authority",
            RENEWED_SECONDS_MAX,
        )

        replace(proxy.key, new.key.read_bytes())
        replace(proxy.certificate, new.certificate.read_bytes())
        wait_for_the_proxy(hunt.adapter, load, expiry_of(new))

        replace(authority.certificate, successor.files.certificate.read_bytes())
        replace(authority.key, successor.files.key.read_bytes())
        data = {"requestheader-client-ca-file": successor.files.certificate.read_text()}
        plane.access.kubectl(
            *("patch", *CONFIG_MAP[:2], f"--namespace={CONFIG_MAP[2]}", "--type=merge"),
            f"--patch={json.dumps({'data': data})}",
        )
        wait_for(
            lambda: hunt.adapter.status(hunt.lag, FORGED, old) == 401,
            "an end of the trust in the old authority",
            RENEWED_SECONDS_MAX,
        )
        load.wait_for_progress(100)

    assert load.failures == []
    assert (
        condition_of(plane.access.get("hpa", "hunt", hunt.namespace) or {}, "ScalingActive")["status"]
        == "True"
    )


def wait_for_the_proxy(adapter: AdapterProcess, load: ReadingLoad, expires_at: float) -> None:
    """Wait until read after read comes with the front proxy's certificate that ends at `expires_at`."""
    name = "eventengine_adapter_front_proxy_certificate_expiry_timestamp_seconds"

    def shown() -> bool:
        for _ in range(10):
            load.wait_for_progress(3)
            if adapter.metric(name) != expires_at:
                return False
        return True

    wait_for(shown, "the front proxy's new certificate", RENEWED_SECONDS_MAX)


def test_the_adapter_s_certificate_and_authority_are_renewed_without_a_failed_read(
    plane: AdapterPlane, hunt: Hunt, tmp_path: Path
) -> None:
    successor = Authority.create(tmp_path, "adapter-ca-of-next-year")
    with ReadingLoad(plane, hunt.lag, 4) as load:
        plane.register(plane.authority, successor)
        load.wait_for_progress(50)

        plane.authority = successor
        plane.issue_certificate()
        wait_for(
            lambda: hunt.adapter.status(hunt.lag, {}, None) == 403,
            "a certificate of the new authority",
            RENEWED_SECONDS_MAX,
        )

        plane.register(successor)
        load.wait_for_progress(100)

    assert load.failures == []


# --- reviews -------------------------------------------------------------------------------------------------


@pytest.fixture
def proxy(plane: AdapterPlane, tmp_path: Path) -> Iterator[FaultProxy]:
    """Between an adapter and the API server."""
    config = yaml.safe_load(plane.kubeconfig().read_text())
    for user in config["users"]:
        user["user"] = {"token": Path(user["user"]["tokenFile"]).read_text()}
    direct = tmp_path / "direct.kubeconfig"
    direct.write_text(yaml.safe_dump(config))
    with FaultProxy(direct, tmp_path) as running:
        yield running


def test_while_access_can_t_be_reviewed_answers_hold_for_ten_seconds_and_then_nobody_is_let_in(
    plane: AdapterPlane, hunt: Hunt, proxy: FaultProxy, control_plane: LoopbackControlPlane, tmp_path: Path
) -> None:
    plane.access.kubectl(
        *(
            "create",
            "role",
            "reads-lag",
            "--verb=list",
            "--resource=kafka_consumer_lag.external.metrics.k8s.io",
        ),
        f"--namespace={hunt.namespace}",
    )
    plane.access.kubectl(
        *("create", "rolebinding", "reader", "--role=reads-lag", "--user=reader"),
        f"--namespace={hunt.namespace}",
    )
    through = {"kubeconfig": str(proxy.kubeconfig)}
    front = certificate(control_plane, "front-proxy-client")
    with AdapterProcess(plane, tmp_path / "log", port=free_port(), settings=through) as adapter:
        adapter.wait_ready()

        def reads(user: str) -> int:
            return adapter.status(hunt.lag, {"X-Remote-User": user}, front)

        wait_for(lambda: reads("reader") == 200, "the right to read", 20)

        def no_reviews(request: Request) -> Answer | None:
            return Answer(503) if request.path.endswith(REVIEWS) else None

        proxy.answer = no_reviews
        began = time.monotonic()
        assert reads("reader") == 200, "what was answered a moment ago holds"
        assert reads("stranger") == 500, "nothing is known of a stranger: not let in"
        assert adapter.status(hunt.lag, FORGED, front) == 200, "superusers need no review, as everywhere"

        codes: list[int] = []
        wait_for(lambda: codes.append(reads("reader")) or codes[-1] != 200, "the end of what holds", 20)  # type: ignore[func-returns-value]
        assert codes[-1] == 500
        assert time.monotonic() - began < REMEMBERED_SECONDS + 3

        proxy.heal()
        assert reads("reader") == 200
        assert reads("stranger") == 403
        assert "Traceback" not in adapter.log()


# --- sources -------------------------------------------------------------------------------------------------


def test_slow_sources_are_read_and_those_that_never_end_or_have_another_clock_are_errors(
    plane: AdapterPlane, adapter: AdapterProcess, metrics_space: str
) -> None:
    plane.engine("hunt", metrics_space, 5)
    names = plane.pods("hunt", metrics_space, 5)
    sound, slow, drops, ahead, behind = (EngineState("hunt", metrics_space, name) for name in names)
    slow.fault, drops.fault = "slow", "drops"
    ahead.clock_ahead_seconds, behind.clock_ahead_seconds = 30, -30
    where = f"{CUSTOM}/namespaces/{metrics_space}/pods"
    with ExitStack() as stack:
        for state in (sound, slow, drops, ahead, behind):
            stack.enter_context(closing(plane.start_pod(state.pod, state)))

        for state in (sound, slow):
            wait_served(plane, f"{where}/{state.pod}/ring_utilisation", 1)
        for state, words in (
            (drops, "no sample yet, limit 10 s (it did not answer within 0.8 s)"),
            (ahead, "s ahead of the adapter's"),
            (behind, "the newest sample is 3"),
        ):
            assert "not fresh" in wait_refused(plane, f"{where}/{state.pod}/ring_utilisation", words)

        ahead.clock_ahead_seconds = behind.clock_ahead_seconds = 0
        drops.fault = ""
        wait_served(plane, f"{EXTERNAL}/namespaces/{metrics_space}/ring_utilisation", 1)
        assert len(items(plane, f"{where}/*/ring_utilisation")) == 5


def test_with_half_the_pods_gone_nothing_shrinks_and_the_others_make_the_answer_whole_again(
    plane: AdapterPlane, adapter: AdapterProcess, metrics_space: str
) -> None:
    with ExitStack() as stack:
        hunt = Hunt(plane, adapter, metrics_space, stack, pods=4)
        plane.access.apply(autoscaler("hunt", LAG), namespace=metrics_space)
        plane.access.wait_for_condition("hpa", "hunt", "ScalingActive", namespace=metrics_space)

        plane.access.kubectl(
            *(
                "delete",
                "pod",
                *hunt.pods[2:],
                f"--namespace={metrics_space}",
                "--wait=false",
                "--grace-period=0",
            )
        )
        wait_refused(plane, hunt.lag, "owns partitions 2-3")
        plane.access.wait_for_condition(
            "hpa", "hunt", "ScalingActive", status="False", namespace=metrics_space
        )
        workload = plane.access.get("deployment", "hunt", metrics_space)
        assert workload is not None
        assert workload["spec"]["replicas"] == 4

        for state, taken in zip(hunt.states[:2], (2, 3), strict=True):
            state.partitions = {**state.partitions, taken: 1000}
        assert [item["value"] for item in wait_served(plane, hunt.lag, 4)] == ["1000"] * 4


# --- replicas of the adapter ---------------------------------------------------------------------------------


def test_an_adapter_that_can_t_read_the_pods_answers_503_while_the_other_one_answers(
    plane: AdapterPlane, hunt: Hunt, control_plane: LoopbackControlPlane, tmp_path: Path
) -> None:
    front = certificate(control_plane, "front-proxy-client")
    elsewhere = {"snapshot_port": str(free_port())}
    with AdapterProcess(plane, tmp_path / "log", port=free_port(), settings=elsewhere) as blind:
        blind.wait_ready()

        code, _, body = blind.ask(hunt.lag, FORGED, front)

        assert (code, json.loads(body)["reason"]) == (503, "ServiceUnavailable")
        assert hunt.adapter.status(hunt.lag, FORGED, front) == 200


# --- the API server ------------------------------------------------------------------------------------------


def test_while_the_api_server_is_away_samples_are_read_and_afterwards_everything_is_followed_again(
    plane: AdapterPlane, hunt: Hunt, control_plane: LoopbackControlPlane
) -> None:
    front = certificate(control_plane, "front-proxy-client")
    control_plane.stop_api_server()
    try:
        before = int(time.time())

        def sampled_since() -> bool:
            code, _, body = hunt.adapter.ask(hunt.lag, FORGED, front)
            assert code == 200
            stamp = json.loads(body)["items"][0]["timestamp"]
            return stamp > time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(before))

        wait_for(sampled_since, "a sample that was closed while the API server is away", 10)
    finally:
        control_plane.start_api_server()

    hunt.adapter.wait_available()
    assert len(wait_served(plane, hunt.lag, 4)) == 4
    plane.access.kubectl(
        *("delete", "pod", hunt.pods[1], f"--namespace={hunt.namespace}", "--wait=false", "--grace-period=0")
    )
    wait_refused(plane, hunt.lag, "owns partitions 2-3", 30)
    assert hunt.adapter.health("/readyz")[0] == 200
