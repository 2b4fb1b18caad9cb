"""The two HTTP clients against servers that misbehave: nothing unbounded, nothing followed, nothing leaked."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer
from eventengine_adapter.cluster import client as client_module
from eventengine_adapter.cluster.client import KubernetesClient, KubernetesError
from eventengine_adapter.cluster.connections import Connection, ConnectionSettingsError, connection
from eventengine_adapter.samples.fleets import EnginePod
from eventengine_adapter.sources import snapshot_reading
from eventengine_adapter.sources.snapshot_reading import Outcome, ReadError, SnapshotReader

NOW = 1_795_255_200
Handler = Callable[[web.Request], Any]
HUNT_A = EnginePod("default", "hunt-a", "uid-a", "hunt", "127.0.0.1", True)


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Handler], Any]]:
    """Start servers that answer every request with a handler; all end with the test."""
    servers: list[TestServer[web.Request, web.Application]] = []

    async def start(handler: Handler) -> TestServer[web.Request, web.Application]:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", handler)
        server = TestServer(application)
        await server.start_server()
        servers.append(server)
        return server

    yield start
    for server in servers:
        await server.close()


async def read(server: Any, second: int | None = None, timeout_seconds: float = 2.0) -> Any:
    async with SnapshotReader(server.port, timeout_seconds) as reader:
        return await reader.read(HUNT_A, second, NOW + 0.1)


async def test_a_sample_is_asked_for_by_its_second(
    serve: Callable[[Handler], Any], snapshot_document: dict[str, Any]
) -> None:
    asked: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        asked.append(request.raw_path)
        return web.json_response(snapshot_document)

    sample = await read(await serve(handler), NOW)

    assert asked == [f"/snapshot?at={NOW}"]
    assert sample.sampled_at_seconds == NOW


async def test_a_redirect_is_not_followed(serve: Callable[[Handler], Any]) -> None:
    asked = 0

    async def handler(_: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return web.Response(status=302, headers={"Location": "/elsewhere"})

    with pytest.raises(ReadError, match="status 302") as caught:
        await read(await serve(handler))

    assert caught.value.outcome is Outcome.REFUSED
    assert asked == 1


async def test_a_sample_without_end_is_cut_off(
    serve: Callable[[Handler], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot_reading, "SNAPSHOT_BYTES_MAX", 1000)

    async def handler(_: web.Request) -> web.Response:
        return web.Response(body=b" " * 2000)

    with pytest.raises(ReadError) as caught:
        await read(await serve(handler))

    assert caught.value.outcome is Outcome.TOO_LARGE


async def test_a_pod_that_does_not_answer_is_given_up_in_time(serve: Callable[[Handler], Any]) -> None:
    release = asyncio.Event()

    async def handler(_: web.Request) -> web.Response:
        await release.wait()
        return web.Response()

    server = await serve(handler)
    with pytest.raises(ReadError, match=r"did not answer within 0\.1 s") as caught:
        await read(server, timeout_seconds=0.1)
    release.set()

    assert caught.value.outcome is Outcome.TIMEOUT


async def test_a_pod_that_is_not_there_is_said_to_be_unreachable(serve: Callable[[Handler], Any]) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response()

    server = await serve(handler)
    port = server.port
    await server.close()
    async with SnapshotReader(int(port or 0), 1.0) as reader:
        with pytest.raises(ReadError, match="can't be reached") as caught:
            await reader.read(HUNT_A, None, NOW)

    assert caught.value.outcome is Outcome.UNREACHABLE


@pytest.mark.parametrize("code", [404, 500])
async def test_an_error_of_the_pod_is_no_sample(serve: Callable[[Handler], Any], code: int) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(status=code)

    with pytest.raises(ReadError) as caught:
        await read(await serve(handler), NOW)

    assert caught.value.outcome is (Outcome.NOT_KEPT if code == 404 else Outcome.REFUSED)


# --- the Kubernetes API --------------------------------------------------------------------------------------


async def test_a_refusal_carries_the_status_s_message_and_no_credential(
    serve: Callable[[Handler], Any],
) -> None:
    seen: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.headers["Authorization"])
        return web.json_response({"kind": "Status", "message": "pods is forbidden"}, status=403)

    server = await serve(handler)
    async with KubernetesClient(
        Connection(f"http://127.0.0.1:{server.port}", None, token="secret")
    ) as client:
        with pytest.raises(KubernetesError) as caught:
            await client.get("/api/v1/pods")

    assert caught.value.code == 403
    assert "pods is forbidden" in str(caught.value)
    assert seen == ["Bearer secret"]
    assert "secret" not in str(caught.value)


async def test_a_token_file_is_read_again_for_each_request(
    serve: Callable[[Handler], Any], tmp_path: Path
) -> None:
    seen: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.headers["Authorization"])
        return web.json_response({})

    server = await serve(handler)
    token = tmp_path / "token"
    where = Connection(f"http://127.0.0.1:{server.port}", None, token_file=token)
    async with KubernetesClient(where) as client:
        for text in ("one\n", "two\n"):
            token.write_text(text)
            await client.get("/")

    assert seen == ["Bearer one", "Bearer two"]


async def test_a_watch_gives_its_events_whole_however_they_are_cut(serve: Callable[[Handler], Any]) -> None:
    events = [{"type": "ADDED", "object": {"n": number, "text": "ü" * 50}} for number in range(20)]
    stream = "".join(json.dumps(event, ensure_ascii=False) + "\n" for event in events).encode()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for start in range(0, len(stream), 37):
            await response.write(stream[start : start + 37])
        return response

    server = await serve(handler)
    async with KubernetesClient(Connection(f"http://127.0.0.1:{server.port}", None)) as client:
        found = [event async for event in client.watch("/", {"resourceVersion": "1"}, 5)]

    assert found == events


async def test_an_object_without_end_breaks_the_watch(
    serve: Callable[[Handler], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "OBJECT_BYTES_MAX", 1000)

    async def handler(_: web.Request) -> web.Response:
        return web.Response(body=b"x" * 5000)

    server = await serve(handler)
    async with KubernetesClient(Connection(f"http://127.0.0.1:{server.port}", None)) as client:
        with pytest.raises(KubernetesError, match="too large"):
            async for _ in client.watch("/", {}, 5):
                pass


@pytest.mark.parametrize("body", [b"", b"not json", b"[]"])
async def test_an_answer_that_is_no_object_is_an_error(serve: Callable[[Handler], Any], body: bytes) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(body=body)

    server = await serve(handler)
    async with KubernetesClient(Connection(f"http://127.0.0.1:{server.port}", None)) as client:
        with pytest.raises(KubernetesError):
            await client.get("/")


# --- where the Kubernetes API is -----------------------------------------------------------------------------


def kubeconfig(path: Path, user: dict[str, Any], **cluster: Any) -> Path:
    path.write_text(
        yaml.safe_dump(
            {
                "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
                "clusters": [{"name": "k", "cluster": {"server": "https://10.0.0.1:6443/", **cluster}}],
                "users": [{"name": "u", "user": user}],
            }
        )
    )
    return path


def test_a_kubeconfig_gives_address_and_token(tmp_path: Path) -> None:
    found = connection(kubeconfig(tmp_path / "config", {"token": "t"}))

    assert found.server == "https://10.0.0.1:6443"
    assert found.authorization() == "Bearer t"


@pytest.mark.parametrize(
    ("user", "cluster", "words"),
    [
        ({"exec": {"command": "login"}}, {}, "does not run"),
        ({}, {"certificate-authority-data": "!!"}, "not base64"),
        ({}, {"certificate-authority": "missing.crt"}, "certificate-authority of the kubeconfig"),
    ],
)
def test_a_kubeconfig_that_can_not_be_used_says_why(
    tmp_path: Path, user: dict[str, Any], cluster: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConnectionSettingsError, match=words):
        connection(kubeconfig(tmp_path / "config", user, **cluster))


def test_a_kubeconfig_without_its_context_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text("current-context: gone\n")

    with pytest.raises(ConnectionSettingsError, match="no context called 'gone'"):
        connection(path)


def test_outside_of_a_pod_and_without_a_kubeconfig_the_remedy_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)

    with pytest.raises(ConnectionSettingsError, match="EVENTENGINE_ADAPTER_KUBECONFIG"):
        connection(None, tmp_path)


def test_a_secret_in_the_kubeconfig_is_not_part_of_the_message(tmp_path: Path) -> None:
    secret = base64.b64encode(b"secret").decode()

    with pytest.raises(Exception) as caught:  # noqa: PT011 - whichever it is, its text is what counts
        connection(
            kubeconfig(tmp_path / "config", {"client-key-data": secret, "client-certificate-data": "!!"})
        )

    assert secret not in str(caught.value)
