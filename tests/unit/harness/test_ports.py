"""A port for a server is one that no outgoing connection will ever be given."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from eventengine_harness import control_planes
from eventengine_harness.control_planes import LOOPBACK, free_port
from eventengine_harness.exceptions import HarnessError


def test_it_lies_below_the_ports_of_outgoing_connections() -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(free_port() < lowest for _ in range(20))


def test_it_is_not_given_again_before_its_server_listens_not_even_by_another_process() -> None:
    ask = (
        "from eventengine_harness.control_planes import free_port; print(*(free_port() for _ in range(200)))"
    )
    askers = [
        subprocess.Popen([sys.executable, "-c", ask], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    ports = [port for asker in askers for port in asker.communicate(timeout=60)[0].split()]
    assert len(set(ports)) == len(ports) == 600


def test_a_taken_one_is_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        port = free_port()
        taken.bind((LOOPBACK, port))
        monkeypatch.setattr(control_planes, "PORTS", range(port, port + 1))
        with pytest.raises(HarnessError, match="no free port"):
            free_port()
