"""The proxy before the API server leaves nothing open behind it, whatever the API server does."""

from __future__ import annotations

import base64
import gc
import http.client
import socket
import ssl
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from eventengine_harness.certificates import Authority
from eventengine_harness.control_planes import LOOPBACK, free_port

from .fault_proxy import FaultProxy

WAIT_SECONDS_MAX = 10.0
WATCH_BEGUN = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{}\n\r\n"
)


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Iterator[Path]:
    """Of an API server that begins one watch, and from then on hears nothing, not even a TLS goodbye."""
    authority = Authority.create(tmp_path, "authority")
    files = authority.issue(tmp_path, "server", common_name="server", hosts=[LOOPBACK])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.certificate, files.key)
    released = threading.Event()
    with socket.create_server((LOOPBACK, free_port())) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with context.wrap_socket(connection, server_side=True) as watch:
                watch.recv(65536)
                watch.sendall(WATCH_BEGUN)
                released.wait(WAIT_SECONDS_MAX)

        server = threading.Thread(target=serve, daemon=True)
        server.start()
        data = base64.b64encode(authority.files.certificate.read_bytes()).decode()
        where = f"https://{LOOPBACK}:{listener.getsockname()[1]}"
        cluster = {"server": where, "certificate-authority-data": data}
        path = tmp_path / "kubeconfig"
        path.write_text(yaml.safe_dump({"clusters": [{"name": "one", "cluster": cluster}]}))
        yield path
        released.set()
        server.join(WAIT_SECONDS_MAX)


def test_a_watch_that_its_client_leaves_is_closed_with_the_proxy(kubeconfig: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        with FaultProxy(kubeconfig, tmp_path) as proxy:
            config = yaml.safe_load(proxy.kubeconfig.read_text())
            address = config["clusters"][0]["cluster"]["server"].removeprefix("http://")
            client = http.client.HTTPConnection(address, timeout=WAIT_SECONDS_MAX)
            client.request("GET", "/api/v1/pods?watch=true")
            with client.getresponse() as watch:
                assert watch.readline() == b"{}\n"
            client.close()
        del proxy
        gc.collect()

    assert [str(warning.message) for warning in caught] == []
