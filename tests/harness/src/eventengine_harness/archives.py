"""Tiny container images, written by hand as archives that containerd imports.

An image of one static program needs no builder: one layer, one configuration,
one manifest, in the layout that `docker save` writes. The pause image of the
node and the shell that tests run in pods are made so, in milliseconds.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def write_image(
    archive: Path,
    reference: str,
    *,
    files: Mapping[str, Path],
    links: Mapping[str, str],
    command: Sequence[str],
) -> Path:
    """Write an image archive.

    Args:
        archive: The tar file to write.
        reference: The image's full name with its tag.
        files: Path in the image → file of this machine; all become executable.
        links: Path in the image → what the symbolic link points to.
        command: What a container runs unless told otherwise.
    """
    layer = _layer(files, links)
    digest = hashlib.sha256(layer).hexdigest()
    configuration = json.dumps(
        {
            "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": {"Entrypoint": list(command), "Env": ["PATH=/bin"], "User": "65532:65532"},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    ).encode()
    configuration_name = f"{hashlib.sha256(configuration).hexdigest()}.json"
    manifest = [
        {
            "Config": configuration_name,
            "RepoTags": [reference],
            "Layers": [f"{digest}/layer.tar"],
        }
    ]
    with tarfile.open(archive, "w") as output:
        _add(output, configuration_name, configuration)
        _add(output, f"{digest}/layer.tar", layer)
        _add(output, "manifest.json", json.dumps(manifest).encode())
    return archive


def _layer(files: Mapping[str, Path], links: Mapping[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as layer:
        folders = {str(Path(name).parent) for name in (*files, *links)} | {"tmp"}
        for folder in sorted(folders - {"."}):
            entry = tarfile.TarInfo(folder)
            entry.type = tarfile.DIRTYPE
            entry.mode = 0o1777 if folder == "tmp" else 0o755
            layer.addfile(entry)
        for name, path in sorted(files.items()):
            _add(layer, name, path.read_bytes(), mode=0o755)
        for name, target in sorted(links.items()):
            entry = tarfile.TarInfo(name)
            entry.type = tarfile.SYMTYPE
            entry.linkname = target
            layer.addfile(entry)
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    entry.mode = mode
    archive.addfile(entry, io.BytesIO(content))
