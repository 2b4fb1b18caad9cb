"""Kubeconfig files: how a client finds and trusts an API server, and who it is.

The files name certificates inline, so that one file is all a client needs.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import yaml

from eventengine_harness.certificates import KeyPair

CONTEXT = "eventengine-harness"


def content(server: str, authority: Path, client: KeyPair) -> dict[str, Any]:
    """The content of a kubeconfig with one cluster, one user and one context."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": CONTEXT,
                "cluster": {"server": server, "certificate-authority-data": _encoded(authority)},
            }
        ],
        "users": [
            {
                "name": CONTEXT,
                "user": {
                    "client-certificate-data": _encoded(client.certificate),
                    "client-key-data": _encoded(client.key),
                },
            }
        ],
        "contexts": [{"name": CONTEXT, "context": {"cluster": CONTEXT, "user": CONTEXT}}],
        "current-context": CONTEXT,
    }


def write(path: Path, server: str, authority: Path, client: KeyPair) -> Path:
    """Write a kubeconfig that only its owner can read; returns its path."""
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(content(server, authority, client), sort_keys=False))
    return path


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
