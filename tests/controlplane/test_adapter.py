"""The adapter behind a real API server: aggregation, front-proxy authentication, authorisation, freshness.

The engines' pods are real objects with a real chain of owners; what their
processes would answer is served on loopback. Nothing of Kubernetes is a mock.
"""

from __future__ import annotations

import json
import ssl
import time
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest
from eventengine_harness.accesses import condition_of
from eventengine_harness.certificates import Authority
from eventengine_harness.control_planes import LoopbackControlPlane, free_port
from eventengine_harness.waiting import wait_for

from .adapters import GROWING, AdapterPlane, AdapterProcess, EngineState, deployment, refusal
from .hunting import (
    CUSTOM,
    CUSTOM_OLD,
    ENGINES,
    EXTERNAL,
    FORGED,
    SAMPLED_SECONDS_MAX,
    Hunt,
    autoscaler,
    certificate,
    items,
    wait_refused,
    wait_served,
)


@pytest.fixture
def control_plane(adapter_control_plane: LoopbackControlPlane) -> LoopbackControlPlane:
    """The plane of the metrics APIs, which exist once per cluster."""
    return adapter_control_plane


# --- discovery -----------------------------------------------------------------------------------------------


def test_all_groups_are_available_and_list_what_they_serve(
    plane: AdapterPlane, adapter: AdapterProcess
) -> None:
    for path in (EXTERNAL, CUSTOM, CUSTOM_OLD):
        names = [resource["name"] for resource in plane.access.raw(path)["resources"]]
        assert any(name.endswith("kafka_consumer_lag") for name in names)


def test_aggregated_discovery_has_the_resources_too(plane: AdapterPlane, adapter: AdapterProcess) -> None:
    """Kubectl reads the merged document, where an adapter without aggregated discovery shows nothing."""

    def listed() -> bool:
        return "consumer_lag" in plane.access.kubectl(
            *("api-resources", "--api-group=external.metrics.k8s.io", "--no-headers", "--verbs=get"),
        )

    wait_for(listed, "the merged discovery", 90)


def test_openapi_of_the_adapter_is_part_of_the_cluster_s(
    plane: AdapterPlane, adapter: AdapterProcess
) -> None:
    def published() -> dict[str, Any] | None:
        paths: dict[str, Any] = plane.access.raw("/openapi/v3")["paths"]
        return paths if "apis/external.metrics.k8s.io/v1beta1" in paths else None

    paths = wait_for(published, "the OpenAPI of the adapter", 90)

    url = paths["apis/external.metrics.k8s.io/v1beta1"]["serverRelativeURL"]
    document = plane.access.raw(url)
    assert "/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}/{metric}" in document["paths"]


# --- reading metrics through the API server ----------------------------------------------------------------


def test_metrics_are_read_through_the_aggregation_layer(plane: AdapterPlane, hunt: Hunt) -> None:
    where = f"namespaces/{hunt.namespace}"

    lag = items(plane, f"{EXTERNAL}/{where}/kafka_consumer_lag")
    assert [(i["metricLabels"]["partition"], i["value"]) for i in lag] == [(str(n), "1000") for n in range(4)]
    assert {i["metricLabels"]["pod"] for i in lag} == set(hunt.pods)
    first = items(plane, f"{EXTERNAL}/{where}/kafka_consumer_lag?labelSelector=partition%20in%20(0,1)")
    assert [i["metricLabels"]["pod"] for i in first] == [hunt.pods[0]] * 2
    assert [i["value"] for i in items(plane, f"{EXTERNAL}/{where}/buffer_pool_utilisation")] == ["750m"]
    by_pod = items(plane, f"{CUSTOM}/{where}/pods/*/kafka_consumer_lag")
    assert [(i["describedObject"]["name"], i["value"]) for i in by_pod] == [(n, "2000") for n in hunt.pods]
    old = items(plane, f"{CUSTOM_OLD}/{where}/pods/{hunt.pods[0]}/buffer_pool_utilisation")
    assert [(i["metricName"], i["value"]) for i in old] == [("buffer_pool_utilisation", "250m")]
    assert [i["value"] for i in items(plane, f"{CUSTOM}/{where}/{ENGINES}/hunt/consumer_lag")] == ["4000"]
    assert [i["value"] for i in items(plane, f"{CUSTOM}/{where}/metrics/consumer_lag")] == ["4000"]


def test_a_sample_is_served_within_seconds_of_being_closed(plane: AdapterPlane, hunt: Hunt) -> None:
    stamp = items(plane, f"{EXTERNAL}/namespaces/{hunt.namespace}/kafka_consumer_lag")[0]["timestamp"]

    age_seconds = time.time() - _seconds(stamp)

    assert 0 <= age_seconds < 4


def test_a_pod_that_only_carries_the_label_is_not_believed(plane: AdapterPlane, hunt: Hunt) -> None:
    """Anybody who may make pods can write labels; the chain of owners is what counts."""
    impostor = deployment("impostor", hunt.namespace, 1, [])
    for part in (impostor["metadata"], impostor["spec"]["template"]["metadata"]):
        part["labels"] = {**part["labels"], "eventengine.dev/engine": "hunt"}
    impostor["spec"]["selector"]["matchLabels"] = impostor["spec"]["template"]["metadata"]["labels"]
    plane.access.apply(impostor)

    def made() -> str | None:
        names = [pod["metadata"]["name"] for pod in plane.access.list("pods", hunt.namespace)]
        return next((name for name in names if name.startswith("impostor")), None)

    pod = wait_for(made, "the impostor's pod", 30)
    state = EngineState("hunt", hunt.namespace, pod, {0: 99999}, utilisation=1.0)
    with closing(plane.start_pod(pod, state)):
        # The lag of a true pod changes after the impostor runs: what is read then was sampled with it around.
        hunt.states[0].partitions[0] = 5
        path = f"{EXTERNAL}/namespaces/{hunt.namespace}"
        wait_for(
            lambda: any(i["value"] == "5" for i in items(plane, f"{path}/kafka_consumer_lag")),
            "the new lag",
            SAMPLED_SECONDS_MAX,
        )
        assert [i["value"] for i in items(plane, f"{path}/buffer_pool_utilisation")] == ["750m"]
        assert refusal(plane.access, f"{CUSTOM}/namespaces/{hunt.namespace}/pods/{pod}/consumer_lag")


def test_a_deleted_pod_leaves_the_answers_and_its_partitions_are_missed(
    plane: AdapterPlane, hunt: Hunt
) -> None:
    plane.access.kubectl(
        "delete", "pod", hunt.pods[1], f"--namespace={hunt.namespace}", "--wait=false", "--grace-period=0"
    )

    message = wait_refused(
        plane,
        f"{EXTERNAL}/namespaces/{hunt.namespace}/kafka_consumer_lag",
        "owns partitions 2-3 of source moves (topic hunt-events)",
    )

    assert "ServiceUnavailable" in message or "currently unable" in message or "503" in message
    ratio = items(plane, f"{EXTERNAL}/namespaces/{hunt.namespace}/buffer_pool_utilisation")
    assert [i["value"] for i in ratio] == ["250m"]


def test_stale_samples_are_an_error_that_says_metric_age_and_limit(plane: AdapterPlane, hunt: Hunt) -> None:
    hunt.states[1].stopped_at_seconds = int(time.time())
    where = f"namespaces/{hunt.namespace}"

    message = wait_refused(plane, f"{EXTERNAL}/{where}/ring_utilisation", "limit 10 s")

    assert "metric ring_utilisation is not fresh" in message
    assert f"pod {hunt.pods[1]}: the newest sample is 1" in message
    assert "not fresh" in refusal(plane.access, f"{CUSTOM}/{where}/pods/*/ring_utilisation")
    assert "owns partitions 2-3" in refusal(plane.access, f"{CUSTOM}/{where}/{ENGINES}/hunt/consumer_lag")
    healthy = f"{EXTERNAL}/{where}/ring_utilisation?labelSelector=pod%3D{hunt.pods[0]}"
    assert len(items(plane, healthy)) == 1

    hunt.states[1].stopped_at_seconds = None
    wait_served(plane, f"{EXTERNAL}/{where}/ring_utilisation", 1)


FAULTS = {
    "hang": "it did not answer within",
    "garbage": "its sample is invalid",
    "huge": "its sample has more than 4194304 bytes",
    "stranger": "another engine or pod answers at its address",
    "redirect": "it answered with status 302",
}


def test_a_pod_at_fault_is_an_error_that_names_the_fault_and_harms_no_other(
    plane: AdapterPlane, adapter: AdapterProcess, metrics_space: str
) -> None:
    plane.engine("hunt", metrics_space, len(FAULTS) + 1)
    sound, *faulty = plane.pods("hunt", metrics_space, len(FAULTS) + 1)
    where = f"{CUSTOM}/namespaces/{metrics_space}/pods"
    with ExitStack() as stack:
        for pod, fault in zip(faulty, FAULTS, strict=True):
            stack.enter_context(
                closing(plane.start_pod(pod, EngineState("hunt", metrics_space, pod, fault=fault)))
            )
        stack.enter_context(closing(plane.start_pod(sound, EngineState("hunt", metrics_space, sound))))

        wait_served(plane, f"{where}/{sound}/ring_utilisation", 1)
        for pod, words in zip(faulty, FAULTS.values(), strict=True):
            assert f"pod {pod}: no sample yet" in wait_refused(
                plane, f"{where}/{pod}/ring_utilisation", words
            )
        refused = refusal(plane.access, f"{EXTERNAL}/namespaces/{metrics_space}/ring_utilisation")
        assert "and 2 more pods" in refused, "half the answer is no answer"


def test_an_engine_that_nobody_runs_says_why_the_brokers_do_not_help(
    plane: AdapterPlane, adapter: AdapterProcess, metrics_space: str
) -> None:
    kafka = {"bootstrapServers": ["127.0.0.1:1"], "topic": "hunt-events"}
    source = {"name": "moves", "type": "kafka", "kafka": kafka}
    engine = {
        "apiVersion": "eventengine.dev/v1alpha1",
        "kind": "EventEngine",
        "metadata": {"name": "hunt", "namespace": metrics_space},
        "spec": {"engine": {"sources": [source]}},
    }
    plane.access.apply(engine)

    message = wait_refused(
        plane, f"{EXTERNAL}/namespaces/{metrics_space}/kafka_consumer_lag", "the brokers: "
    )

    assert "engine hunt has no running pod" in message


# --- the autoscaler ------------------------------------------------------------------------------------------


METRICS_TO_SCALE_ON = {
    "pods": {
        "type": "Pods",
        "pods": {
            "metric": {"name": "kafka_consumer_lag"},
            "target": {"type": "AverageValue", "averageValue": "1000"},
        },
    },
    "external": {
        "type": "External",
        "external": {
            "metric": {"name": "Kafka_Consumer_Lag", "selector": {"matchLabels": {"engine": "hunt"}}},
            "target": {"type": "AverageValue", "averageValue": "1000"},
        },
    },
    "object": {
        "type": "Object",
        "object": {
            "metric": {"name": "consumer_lag"},
            "describedObject": {
                "apiVersion": "eventengine.dev/v1alpha1",
                "kind": "EventEngine",
                "name": "hunt",
            },
            "target": {"type": "AverageValue", "averageValue": "1000"},
        },
    },
}


@pytest.mark.parametrize("source", list(METRICS_TO_SCALE_ON))
def test_the_autoscaler_scales_on_lag(plane: AdapterPlane, hunt: Hunt, source: str) -> None:
    """4,000 events of lag and 1,000 per pod make four pods, whichever API the lag is read from."""
    plane.access.apply(autoscaler("hunt", METRICS_TO_SCALE_ON[source]), namespace=hunt.namespace)

    plane.access.wait_for_condition("hpa", "hunt", "ScalingActive", namespace=hunt.namespace)
    plane.access.wait_until(
        "deployment", "hunt", lambda d: d["spec"]["replicas"] == 4, "four replicas", namespace=hunt.namespace
    )


def test_the_autoscaler_shows_why_a_metric_is_refused_and_does_not_scale_down(
    plane: AdapterPlane, hunt: Hunt
) -> None:
    for state in hunt.states:
        state.stopped_at_seconds = int(time.time()) - 1
    wait_refused(plane, f"{EXTERNAL}/namespaces/{hunt.namespace}/kafka_consumer_lag", "not fresh")

    plane.access.apply(autoscaler("hunt", METRICS_TO_SCALE_ON["external"]), namespace=hunt.namespace)

    found = plane.access.wait_for_condition(
        "hpa", "hunt", "ScalingActive", status="False", namespace=hunt.namespace
    )
    assert "limit 10 s" in condition_of(found, "ScalingActive")["message"]
    workload = plane.access.get("deployment", "hunt", hunt.namespace)
    assert workload is not None
    assert workload["spec"]["replicas"] == 2


def test_explain_says_who_a_value_comes_from_and_what_the_autoscaler_makes_of_it(
    plane: AdapterPlane, hunt: Hunt
) -> None:
    plane.access.apply(autoscaler("hunt", METRICS_TO_SCALE_ON["external"]), namespace=hunt.namespace)

    text = hunt.adapter.explain("kafka_consumer_lag", "-n", hunt.namespace)

    for pod in hunt.pods:
        assert f"pod {pod}" in text
    assert "together 4000, which is what an autoscaler sees" in text
    assert "hunt: External metric for Deployment hunt" in text
    # The controller may have followed already: rounded up, or within the tolerance of the four that there are.
    assert "asks for 4 replicas: 4000 / 1000" in text


# --- who may ask ---------------------------------------------------------------------------------------------


def test_a_user_without_rights_is_forbidden_and_one_with_rights_is_not(
    plane: AdapterPlane, hunt: Hunt
) -> None:
    path = f"{EXTERNAL}/namespaces/{hunt.namespace}/kafka_consumer_lag"

    assert "Forbidden" in refusal(plane.access, path, "--as=nobody-special")

    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "reads-lag", "namespace": hunt.namespace},
        "rules": [
            {
                "apiGroups": ["external.metrics.k8s.io"],
                "resources": ["kafka_consumer_lag"],
                "verbs": ["list", "get"],
            }
        ],
    }
    plane.access.apply(role)
    plane.access.kubectl(
        *("create", "rolebinding", "reader", "--role=reads-lag", "--user=reader"),
        f"--namespace={hunt.namespace}",
    )
    wait_for(lambda: not refusal(plane.access, path, "--as=reader"), "the right to read", 20)
    other = f"{EXTERNAL}/namespaces/{hunt.namespace}/consumer_lag"
    assert "Forbidden" in refusal(plane.access, other, "--as=reader")


def test_a_forged_user_without_the_front_proxy_s_certificate_is_nobody(
    plane: AdapterPlane, hunt: Hunt
) -> None:
    adapter_path = f"{EXTERNAL}/namespaces/{hunt.namespace}/kafka_consumer_lag"

    code, headers, body = hunt.adapter.ask(adapter_path, FORGED, None)

    assert code == 403
    assert 'User "system:anonymous" cannot list resource "kafka_consumer_lag"' in json.loads(body)["message"]
    assert headers["content-type"] == "application/json"
    assert "retry-after" not in headers


def test_a_client_s_certificate_does_not_make_a_front_proxy(
    plane: AdapterPlane, hunt: Hunt, control_plane: LoopbackControlPlane
) -> None:
    """The scheduler's certificate is from the cluster's CA: it is the scheduler, whatever it claims in headers."""
    path = f"{EXTERNAL}/namespaces/{hunt.namespace}/kafka_consumer_lag"

    code, _, body = hunt.adapter.ask(path, FORGED, certificate(control_plane, "scheduler"))

    assert code == 403
    assert 'User "system:kube-scheduler"' in json.loads(body)["message"]


def test_the_front_proxy_itself_is_believed(
    plane: AdapterPlane, hunt: Hunt, control_plane: LoopbackControlPlane
) -> None:
    path = f"{EXTERNAL}/namespaces/{hunt.namespace}/kafka_consumer_lag"
    proxy = certificate(control_plane, "front-proxy-client")

    assert hunt.adapter.ask(path, FORGED, proxy)[0] == 200
    nobody = {"X-Remote-User": "nobody-special"}
    assert hunt.adapter.ask(path, nobody, proxy)[0] == 403
    assert hunt.adapter.ask(EXTERNAL, nobody, proxy)[0] == 200, "discovery is for every authenticated user"


def test_a_service_account_asks_with_its_token(plane: AdapterPlane, hunt: Hunt) -> None:
    token = plane.access.kubectl("create", "token", "default", f"--namespace={hunt.namespace}").strip()
    path = f"{EXTERNAL}/namespaces/{hunt.namespace}/kafka_consumer_lag"

    code, _, body = hunt.adapter.ask(path, {"Authorization": f"Bearer {token}"}, None)

    assert code == 403
    assert f'User "system:serviceaccount:{hunt.namespace}:default"' in json.loads(body)["message"]
    assert hunt.adapter.ask(path, {"Authorization": "Bearer forged"}, None)[0] == 401


def test_a_token_for_another_audience_is_nobody_s(plane: AdapterPlane, hunt: Hunt) -> None:
    """What a service account shows to a third party must not open the metrics when that party passes it on."""
    token = plane.access.kubectl(
        *("create", "token", "default", f"--namespace={hunt.namespace}", "--audience=elsewhere")
    ).strip()

    code, _, body = hunt.adapter.ask(EXTERNAL, {"Authorization": f"Bearer {token}"}, None)

    assert (code, json.loads(body)["reason"]) == (401, "Unauthorized")
    assert token not in hunt.adapter.log()


def test_an_authority_that_the_cluster_comes_to_trust_is_trusted_without_a_restart(
    plane: AdapterPlane, hunt: Hunt, tmp_path: Path
) -> None:
    newcomer = Authority.create(tmp_path, "new-clients-ca")
    jane = newcomer.issue(tmp_path, "jane", common_name="jane", organization="team-a")
    namesake = newcomer.issue(tmp_path, "namesake", common_name="front-proxy-client")
    path = f"{EXTERNAL}/namespaces/{hunt.namespace}/kafka_consumer_lag"
    with pytest.raises((ssl.SSLError, ConnectionError)):
        hunt.adapter.ask(path, {}, jane)

    name = ("configmap", "extension-apiserver-authentication", "kube-system")
    found = plane.access.get(*name)
    assert found is not None
    bundle = found["data"]["client-ca-file"] + newcomer.files.certificate.read_text()
    plane.access.kubectl(
        *("patch", *name[:2], f"--namespace={name[2]}", "--type=merge"),
        f"--patch={json.dumps({'data': {'client-ca-file': bundle}})}",
    )

    def believed() -> str | None:
        try:
            return str(json.loads(hunt.adapter.ask(path, FORGED, jane)[2])["message"])
        except (ssl.SSLError, ConnectionError):
            return None

    assert 'User "jane" cannot list' in wait_for(believed, "a client of the new authority", 20)
    code, _, body = hunt.adapter.ask(path, FORGED, namesake)
    assert code == 403
    assert 'User "front-proxy-client" cannot list' in json.loads(body)["message"], (
        "a name makes no front proxy"
    )


# --- the process ---------------------------------------------------------------------------------------------


def test_a_renewed_certificate_is_served_without_a_restart(
    plane: AdapterPlane, adapter: AdapterProcess
) -> None:
    before = adapter.served_certificate()

    plane.issue_certificate()

    wait_for(lambda: adapter.served_certificate() != before, "the renewed certificate", 20)
    assert plane.access.raw(EXTERNAL)["resources"]


def test_its_own_metrics_say_how_fresh_the_samples_are(
    plane: AdapterPlane, hunt: Hunt, adapter: AdapterProcess
) -> None:
    _, text = adapter.health("/metrics")

    assert 'eventengine_adapter_sample_reads_total{outcome="sampled"}' in text
    assert f'eventengine_adapter_sample_age_seconds{{engine="hunt",namespace="{hunt.namespace}"}}' in text
    assert 'metrics_apiserver_metric_freshness_seconds_count{group="external.metrics.k8s.io"}' in text
    assert hunt.pods[0] not in text


def test_while_it_is_stopped_it_is_not_ready_and_still_answers(
    plane: AdapterPlane, hunt: Hunt, control_plane: LoopbackControlPlane, tmp_path: Path
) -> None:
    """The endpoints take a moment to change: a read that arrives until then is not lost."""
    path = f"{EXTERNAL}/namespaces/{hunt.namespace}/kafka_consumer_lag"
    proxy = certificate(control_plane, "front-proxy-client")
    with AdapterProcess(plane, tmp_path / "log", port=free_port(), drain_seconds=4) as leaving:
        leaving.wait_ready()
        assert leaving.ask(path, FORGED, proxy)[1].get("connection") != "close"

        leaving.terminate()

        wait_for(lambda: leaving.health("/readyz")[0] == 500, "an adapter that is not ready", 10)
        assert leaving.health("/livez")[0] == 200
        code, headers, _ = leaving.ask(path, FORGED, proxy)
        assert (code, headers["connection"]) == (200, "close")
        assert leaving.wait_stopped() == 0
        assert leaving.health("/livez")[0] == 0
        assert "Traceback" not in leaving.log()


def test_a_restarted_adapter_has_its_first_value_within_three_seconds_of_listening(
    plane: AdapterPlane, hunt: Hunt, control_plane: LoopbackControlPlane, tmp_path: Path
) -> None:
    """It reads what the pods still keep. Nothing that it answers before is a number."""
    path = f"{EXTERNAL}/namespaces/{hunt.namespace}/kafka_consumer_lag"
    proxy = certificate(control_plane, "front-proxy-client")
    seen: list[tuple[float, int, bytes]] = []

    with AdapterProcess(plane, tmp_path / "log", port=free_port()) as restarted:

        def answered() -> bool:
            with suppress(OSError):
                code, _, body = restarted.ask(path, FORGED, proxy)
                seen.append((time.monotonic(), code, body))
            return bool(seen) and seen[-1][1] == 200

        wait_for(answered, "a first value", 30, poll_seconds_max=0.1)

    assert seen[-1][0] - seen[0][0] < 3
    assert sorted(int(item["value"]) for item in json.loads(seen[-1][2])["items"]) == [1000] * 4
    assert {code for _, code, _ in seen[:-1]} <= {503}


def test_it_waits_for_its_certificate_without_dying(plane: AdapterPlane, tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    folder.mkdir()
    with AdapterProcess(plane, tmp_path / "log", port=free_port(), certificates=folder) as waiting:
        wait_for(lambda: "waiting for" in waiting.log(), "a word in the log", 20)
        assert waiting.health("/livez")[0] == 200
        assert waiting.health("/readyz")[0] == 500

        plane.issue_certificate(folder)

        waiting.wait_ready()
        assert waiting.ask("/readyz")[0] == 200


def test_two_adapters_give_the_same_answer_for_the_same_second(
    plane: AdapterPlane, hunt: Hunt, control_plane: LoopbackControlPlane, tmp_path: Path
) -> None:
    """The lag changes each second; what was sampled when is the same for both."""
    hunt.states[0].partitions[0] = hunt.states[1].partitions[2] = GROWING
    path = f"{EXTERNAL}/namespaces/{hunt.namespace}/kafka_consumer_lag"
    proxy = certificate(control_plane, "front-proxy-client")

    with AdapterProcess(plane, tmp_path / "log", port=free_port()) as second:
        second.wait_ready()
        common: dict[str, set[str]] = {}
        answered_twice: dict[str, set[int]] = {}

        def compared() -> bool:
            for number, process in enumerate((hunt.adapter, second)):
                code, _, body = process.ask(path, FORGED, proxy)
                assert code == 200
                found = json.loads(body)["items"]
                stamp = found[0]["timestamp"]
                common.setdefault(stamp, set()).add(json.dumps(found, sort_keys=True))
                answered_twice.setdefault(stamp, set()).add(number)
            return sum(len(numbers) == 2 for numbers in answered_twice.values()) >= 4

        wait_for(compared, "four seconds that both answered for", 30, poll_seconds_max=0.1)

    assert all(len(answers) == 1 for answers in common.values())
    assert len({answer for answers in common.values() for answer in answers}) >= 4


def test_it_logs_no_credentials_and_no_failures(adapter: AdapterProcess, plane: AdapterPlane) -> None:
    log = adapter.log()

    assert (plane.folder / "token").read_text() not in log
    assert "Traceback" not in log


def _seconds(stamp: str) -> float:
    return time.mktime(time.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ")) - time.timezone
