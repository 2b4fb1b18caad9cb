"""An image written by hand is what `docker save` would have written."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

from eventengine_harness.archives import write_image


def test_the_archive_holds_layer_configuration_and_manifest(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF")
    archive = write_image(
        tmp_path / "image.tar",
        "eventengine.test/thing:1",
        files={"bin/program": program},
        links={"bin/alias": "program"},
        command=["/bin/program"],
    )
    with tarfile.open(archive) as image:
        content = {
            member.name: handle.read()
            for member in image.getmembers()
            if (handle := image.extractfile(member)) is not None
        }
    (manifest,) = json.loads(content["manifest.json"])
    assert manifest["RepoTags"] == ["eventengine.test/thing:1"]
    configuration = json.loads(content[manifest["Config"]])
    (layer,) = (content[name] for name in manifest["Layers"])
    assert configuration["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}"]
    assert configuration["config"]["Entrypoint"] == ["/bin/program"]
    with tarfile.open(fileobj=io.BytesIO(layer)) as files:
        assert files.getmember("bin/program").mode == 0o755
        assert files.getmember("bin/alias").linkname == "program"


def test_a_container_of_it_does_not_run_as_root(tmp_path: Path) -> None:
    archive = write_image(tmp_path / "i.tar", "x:1", files={}, links={}, command=["/x"])
    with tarfile.open(archive) as image:
        name = next(member for member in image.getnames() if member.endswith(".json"))
        handle = image.extractfile(name)
        assert handle is not None
        assert json.load(handle)["config"]["User"] == "65532:65532"
