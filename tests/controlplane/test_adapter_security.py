"""What an attacker tries on the adapter's port, with the real certificates, tokens and reviews of a control plane.

What is tried is refused, costs the adapter little, and harms nobody who reads at the same time.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID
from eventengine_harness.certificates import Authority, KeyPair
from eventengine_harness.control_planes import LoopbackControlPlane, free_port
from eventengine_harness.waiting import wait_for
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, openapi
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance
from schemathesis.specs.openapi.schemas import OpenApiSchema

from .adapters import AdapterPlane, AdapterProcess
from .hunting import CUSTOM, EXTERNAL, FORGED, Hunt, certificate
from .loads import ReadingLoad
from .odd_certificates import DAY, issue

ATTACKER = "127.0.0.66"
CONNECTIONS_OF_ADDRESS_MAX = 256
PROXY_NAME = "front-proxy-client"
EXAMPLES = 30


@pytest.fixture
def control_plane(adapter_control_plane: LoopbackControlPlane) -> LoopbackControlPlane:
    return adapter_control_plane


@pytest.fixture(scope="module")
def hunt(plane: AdapterPlane, adapter: AdapterProcess) -> Iterator[Hunt]:
    """One engine for all of them: nothing that is tried here may change it."""
    plane.access.kubectl("create", "namespace", "attacked")
    with ExitStack() as stack:
        yield Hunt(plane, adapter, "attacked", stack)
    plane.access.delete("namespace", "attacked", wait=False)


# --- certificates --------------------------------------------------------------------------------------------

Maker = Callable[[LoopbackControlPlane, Path], KeyPair]


def from_proxies(**wishes: Any) -> Maker:
    """A certificate of the front proxy's own authority, with something wrong about it."""
    name = wishes.pop("name", PROXY_NAME)
    return lambda plane, folder: issue(folder, "odd", certificate(plane, "front-proxy-ca"), name, **wishes)


def of_a_stranger(plane: LoopbackControlPlane, folder: Path) -> KeyPair:
    """An authority that calls itself like the true one."""
    return issue(folder, "odd", Authority.create(folder, "front-proxy-ca").files, PROXY_NAME)


def of_a_client(plane: LoopbackControlPlane, folder: Path) -> KeyPair:
    """One that the front proxy signed itself: it is a client, and no authority."""
    return issue(folder, "odd", certificate(plane, "front-proxy-client"), PROXY_NAME)


REFUSED_CERTIFICATES: dict[str, Maker] = {
    "another name": from_proxies(name="somebody"),
    "expired": from_proxies(ends_in=dt.timedelta(seconds=-1)),
    "not valid yet": from_proxies(begins_in=DAY / 24, ends_in=DAY),
    "for servers": from_proxies(usage=ExtendedKeyUsageOID.SERVER_AUTH),
    "another authority": of_a_stranger,
    "issued by a client": of_a_client,
}


@pytest.mark.parametrize("kind", list(REFUSED_CERTIFICATES))
def test_a_user_named_in_headers_is_not_believed_with_a_certificate_that_is(
    hunt: Hunt, control_plane: LoopbackControlPlane, tmp_path: Path, kind: str
) -> None:
    odd = REFUSED_CERTIFICATES[kind](control_plane, tmp_path)

    try:
        code, _, body = hunt.adapter.ask(hunt.lag, FORGED, odd)
    except (ssl.SSLError, ConnectionError):
        return  # refused in the handshake already
    assert (code, json.loads(body)["message"]) == (401, "Unauthorized")


def test_a_certificate_of_the_clients_authority_is_its_owner_whatever_name_and_headers_say(
    hunt: Hunt, control_plane: LoopbackControlPlane, tmp_path: Path
) -> None:
    namesake = issue(tmp_path, "namesake", certificate(control_plane, "ca"), PROXY_NAME)

    code, _, body = hunt.adapter.ask(hunt.lag, FORGED, namesake)

    assert code == 403
    assert f'User "{PROXY_NAME}" cannot list' in json.loads(body)["message"]


# --- tokens --------------------------------------------------------------------------------------------------


def unsigned_token(claims: dict[str, Any]) -> str:
    """A token that says that it needs no signature."""
    parts = ({"alg": "none", "typ": "JWT"}, claims)
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode() for part in parts) + "."


def test_tokens_of_others_and_of_nobody_open_nothing_and_are_in_no_log(
    plane: AdapterPlane, hunt: Hunt, control_plane: LoopbackControlPlane, tmp_path: Path
) -> None:
    account = f"system:serviceaccount:{hunt.namespace}:default"
    elsewhere = plane.access.kubectl(
        *("create", "token", "default", f"--namespace={hunt.namespace}", "--audience=elsewhere")
    ).strip()
    mine = plane.access.kubectl("create", "token", "default", f"--namespace={hunt.namespace}").strip()
    broken = mine[:-8] + ("AAAAAAAA" if not mine.endswith("AAAAAAAA") else "BBBBBBBB")
    tokens = [elsewhere, broken, unsigned_token({"sub": account, "aud": ["https://kubernetes"]}), "a" * 9000]
    secrets = [*tokens, mine, "secret-in-a-cookie", "secret-in-a-query"]
    talkative = {"log_level": "debug"}
    with AdapterProcess(plane, tmp_path / "log", port=free_port(), settings=talkative) as adapter:
        adapter.wait_ready()
        for token in tokens:
            headers = {"Authorization": f"Bearer {token}", "Cookie": "session=secret-in-a-cookie", **FORGED}
            code, _, body = adapter.ask(f"{hunt.lag}?access_token=secret-in-a-query", headers, None)
            assert (code, json.loads(body)["reason"]) == (401, "Unauthorized")

        code, _, body = adapter.ask(hunt.lag, {"Authorization": f"Bearer {mine}"}, None)
        assert code == 403
        assert f'User "{account}"' in json.loads(body)["message"]
        assert adapter.status(f"{hunt.lag}?access_token={mine}", {}, None) == 403, "a query is no credential"

        log = adapter.log()
        assert "unauthenticated request" in log, "what is refused is seen in the log"
        assert [secret for secret in (*secrets, (plane.folder / "token").read_text()) if secret in log] == []


# --- paths, selectors, floods --------------------------------------------------------------------------------


def exchange(
    adapter: AdapterProcess, plane: AdapterPlane, client: KeyPair, request: bytes
) -> tuple[int, bytes]:
    """Status and all bytes of the answer to a request that no client library would send."""
    context = ssl.create_default_context(cafile=str(plane.authority.files.certificate))
    context.check_hostname = False
    context.load_cert_chain(client.certificate, client.key)
    with (
        socket.create_connection(("127.0.0.1", adapter.port), timeout=10) as plain,
        context.wrap_socket(plain) as stream,
    ):
        stream.sendall(request)
        answer = b""
        while chunk := stream.recv(65_536):
            answer += chunk
    return int(answer.split(b" ", 2)[1]), answer


@pytest.fixture
def reader_elsewhere(plane: AdapterPlane, hunt: Hunt) -> Iterator[str]:
    """A namespace without an engine whose metrics `reader` may read; those of the hunt it may not."""
    name = f"{hunt.namespace}-open"
    plane.access.kubectl("create", "namespace", name)
    rules = [
        {
            "apiGroups": ["external.metrics.k8s.io", "custom.metrics.k8s.io"],
            "resources": ["kafka_consumer_lag", "pods/kafka_consumer_lag"],
            "verbs": ["get", "list"],
        }
    ]
    plane.access.apply(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": {"name": "reads", "namespace": name},
            "rules": rules,
        }
    )
    plane.access.kubectl(
        "create", "rolebinding", "reads", "--role=reads", "--user=reader", f"--namespace={name}"
    )
    yield name
    plane.access.delete("namespace", name, wait=False)


def test_no_spelling_of_a_path_leads_around_the_review(
    plane: AdapterPlane, hunt: Hunt, control_plane: LoopbackControlPlane, reader_elsewhere: str
) -> None:
    for state in hunt.states:
        state.partitions = dict.fromkeys(state.partitions, 424_242)
    front = certificate(control_plane, PROXY_NAME)
    open_, closed, metric = reader_elsewhere, hunt.namespace, "kafka_consumer_lag"

    def ask(path: str, method: str = "GET", further: str = "") -> tuple[int, bytes]:
        lines = f"{method} {path} HTTP/1.1\r\nHost: adapter\r\nX-Remote-User: reader\r\n{further}"
        return exchange(hunt.adapter, plane, front, f"{lines}Connection: close\r\n\r\n".encode())

    wait_for(lambda: ask(f"{EXTERNAL}/namespaces/{open_}/{metric}")[0] == 200, "the right to read", 20)
    wait_for(lambda: b"424242" in hunt.adapter.ask(hunt.lag, FORGED, front)[2], "a lag to be after", 20)
    around = [
        f"{EXTERNAL}/namespaces/{open_}/../{closed}/{metric}",
        f"{EXTERNAL}/namespaces/{open_}/%2e%2e/{closed}/{metric}",
        f"{EXTERNAL}/namespaces/{open_}%2F..%2F{closed}/{metric}",
        f"{EXTERNAL}/namespaces/{open_}%252f..%252f{closed}/{metric}",
        f"{EXTERNAL}/namespaces/{open_}/{metric}/../../{closed}/{metric}",
        f"{EXTERNAL}//namespaces/{closed}/{metric}",
        f"{EXTERNAL}/namespaces//{closed}/{metric}",
        f"//{EXTERNAL}/namespaces/{closed}/{metric}",
        f"/livez/..{EXTERNAL}/namespaces/{closed}/{metric}",
        f"/livez/%2e%2e{EXTERNAL}/namespaces/{closed}/{metric}",
        f"{EXTERNAL}/namespaces/{closed}/{metric};namespace={open_}",
        f"{EXTERNAL}/namespaces/{closed}/{metric}/",
        f"{EXTERNAL}/namespaces/{closed}/{metric.upper()}",
        f"{EXTERNAL}/namespaces/{closed}/{metric}?namespace={open_}",
        f"{EXTERNAL}\\namespaces\\{closed}\\{metric}",
        f"{EXTERNAL}/namespaces/{open_}/{metric}?labelSelector=namespace%3D{closed}",
        f"{EXTERNAL}/namespaces/%2A/{metric}",
        f"{EXTERNAL}/namespaces/{closed}/kafka_consumer_lag%00",
        f"{CUSTOM}/namespaces/{open_}/pods/%2A/{metric}?namespace={closed}",
        f"{CUSTOM}/namespaces/{open_}/pods/..%2F..%2F{closed}%2Fpods%2F%2A/{metric}",
        f"{CUSTOM}/namespaces/{closed}/pods/%2A/{metric}",
        f"{CUSTOM}/namespaces/{closed}/metrics/{metric}",
        f"https://adapter{EXTERNAL}/namespaces/{closed}/{metric}",
    ]
    for path in around:
        code, answer = ask(path)
        assert b"424242" not in answer, path
        assert code in {200, 400, 403, 404}, path
        assert code != 200 or b'"items":[]' in answer, path
    for method in ("HEAD", "POST", "get", "FOO", "CONNECT"):
        code, answer = ask(f"{EXTERNAL}/namespaces/{closed}/{metric}", method)
        assert code in {400, 403, 404, 405}, method
        assert b"424242" not in answer, method
    overriding = f"X-Original-URL: {hunt.lag}\r\nX-HTTP-Method-Override: GET\r\nX-Remote-User: admin\r\n"
    assert b"424242" not in ask(f"{EXTERNAL}/namespaces/{closed}/{metric}", further=overriding)[1]
    assert "Traceback" not in hunt.adapter.log()


@pytest.mark.parametrize(
    "query",
    [
        pytest.param("labelSelector=" + "a," * 4000 + "a", id="conditions"),
        pytest.param("labelSelector=" + "a" * 20_000, id="word"),
        pytest.param("labelSelector=" + "(" * 8000, id="brackets"),
        pytest.param("labelSelector=a%20in%20(" + "," * 8000, id="unclosed set"),
        pytest.param("&".join(f"p{number}=1" for number in range(200)), id="parameters"),
        pytest.param("a" * 40_000, id="query"),
    ],
)
def test_a_giant_selector_is_a_bad_request(
    hunt: Hunt, control_plane: LoopbackControlPlane, query: str
) -> None:
    code, _, body = hunt.adapter.ask(f"{hunt.lag}?{query}", FORGED, certificate(control_plane, PROXY_NAME))

    assert (code, json.loads(body)["reason"]) == (400, "BadRequest")


def flood(stream: socket.socket) -> None:
    """Send headers for as long as somebody takes them."""
    stream.sendall(b"GET / HTTP/1.1\r\n")
    for number in range(10_000):
        stream.sendall(f"X-Flood-{number}: {'a' * 1000}\r\n".encode())


def test_a_flood_of_slow_clients_takes_no_read_away(plane: AdapterPlane, hunt: Hunt) -> None:
    """Heads that never end, handshakes that never begin, headers without number; all that one address gets."""
    context = ssl.create_default_context(cafile=str(plane.authority.files.certificate))
    context.check_hostname = False
    with ReadingLoad(plane, hunt.lag, 4) as load, ExitStack() as stack:

        def connect() -> socket.socket:
            address = ("127.0.0.1", hunt.adapter.port)
            return stack.enter_context(
                socket.create_connection(address, timeout=10, source_address=(ATTACKER, 0))
            )

        for _ in range(20):
            stream = stack.enter_context(context.wrap_socket(connect()))
            stream.sendall(b"GET / HTTP/1.1\r\nHost: adapter\r\nX-Slow: ")
        flooding = stack.enter_context(context.wrap_socket(connect()))
        with pytest.raises((ConnectionError, ssl.SSLError)):
            flood(flooding)
        for _ in range(CONNECTIONS_OF_ADDRESS_MAX + 50):
            try:
                connect()
            except ConnectionError:
                break
        load.wait_for_progress(100)
        refused = "eventengine_adapter_connections_refused_total"
        assert hunt.adapter.metric(f'{refused}{{reason="too-many-of-one-address"}}') > 0
        assert hunt.adapter.metric(f'{refused}{{reason="giant-head"}}') > 0

    assert load.failures == []


# --- the OpenAPI document ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "group_version", ["external.metrics.k8s.io/v1beta1", "custom.metrics.k8s.io/v1beta2"]
)
@pytest.mark.parametrize("known", [False, True], ids=["anything", "known"])
def test_whatever_the_openapi_document_allows_is_answered_as_it_says(
    plane: AdapterPlane, hunt: Hunt, control_plane: LoopbackControlPlane, group_version: str, known: bool
) -> None:
    """Requests are made by schemathesis from the document that the API server shows; `known`: of things that exist."""
    document = plane.access.raw(f"/openapi/v3/apis/{group_version}")
    front = certificate(control_plane, PROXY_NAME)
    there = {"namespace": hunt.namespace, "metric": "kafka_consumer_lag", "resource": "pods", "name": "*"}
    conforms = [response_schema_conformance, content_type_conformance]
    schema = openapi.from_dict(document)
    assert isinstance(schema, OpenApiSchema)
    for found in schema.get_all_operations():
        operation = found.ok()
        names = {parameter.name for parameter in operation.path_parameters}
        fixed = {name: value for name, value in there.items() if name in names} if known else None

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(path_parameters=fixed))
        def answered(case: Case) -> None:
            response = case.call(
                base_url=f"https://127.0.0.1:{hunt.adapter.port}",
                headers=FORGED,
                verify=str(plane.authority.files.certificate),
                cert=(str(front.certificate), str(front.key)),
            )
            assert response.status_code in {200, 400, 404, 503}
            assert "Retry-After" not in response.headers
            if response.status_code != 200:
                status = response.json()
                assert (status["kind"], status["code"]) == ("Status", response.status_code)
            case.validate_response(response, checks=conforms)

        answered()
    assert "Traceback" not in hunt.adapter.log()
