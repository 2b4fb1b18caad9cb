"""A port for a server is one that no outgoing connection will ever be given."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from eventengine_harness import control_planes
from eventengine_harness.control_planes import LOOPBACK, free_port
from eventengine_harness.exceptions import HarnessError


def test_it_lies_below_the_ports_of_outgoing_connections() -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(free_port() < lowest for _ in range(20))


def test_a_taken_one_is_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        port = free_port()
        taken.bind((LOOPBACK, port))
        monkeypatch.setattr(control_planes, "PORTS", range(port, port + 1))
        with pytest.raises(HarnessError, match="no free port"):
            free_port()
