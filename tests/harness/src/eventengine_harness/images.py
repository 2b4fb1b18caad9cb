"""Building the project's container images from their real Dockerfiles, without daemon or registry.

The base that the Dockerfiles name comes from a registry for users. Here a stand-in
of the same name is made from Debian packages (cached), and each image is built on
it by buildah in a network namespace with nothing in it, from a context that
`wheels` has prepared: what needs the network happens before, once, and is cached.

An image is an archive (`docker save` format) in the user's cache, keyed by every
source file that goes into it, by its tag and by its base.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml

from eventengine_harness import debian_packages, wheels
from eventengine_harness.caching import cached, key_of, locked
from eventengine_harness.locations import REPOSITORY, user_cache
from eventengine_harness.running import run, run_fetching, run_showing_progress, say

PARTS = wheels.PARTS
SUITE = "bookworm"
BASE_REFERENCE = "docker.io/library/python:3.11-slim"
BASE_PACKAGES = (
    "ca-certificates",
    "libcurl4",
    "libsasl2-2",
    "libssl3",
    "netbase",
    "python3",
    "tzdata",
    "zlib1g",
)
BASE_PATH = "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin"
# The registry's image has its Python here, and Dockerfiles may count on it.
BASE_HOOKS = ('ln -s /usr/bin/python3 "$1/usr/local/bin/python3"; ln -s python3 "$1/usr/local/bin/python"',)
# What a container never reads, left out as Debian's own slim images do.
BASE_LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*")
SOURCE_FOLDERS: Mapping[str, tuple[str, ...]] = {
    "operator": ("contract", "operator"),
    "adapter": ("contract", "adapter"),
    "engine": ("contract", "engine"),
}
LEFT_OUT_OF_KEY = frozenset({"target", "__pycache__", "tests"})
BASE_SECONDS_MAX = 600.0
BUILD_SECONDS_MAX = 1200.0
STORAGE_PREFIX = "storage-"


def default_tag() -> str:
    """The tag that the chart installs unless told otherwise: its appVersion."""
    chart = yaml.safe_load((REPOSITORY / "charts" / "eventengine" / "Chart.yaml").read_text())
    return str(chart["appVersion"])


def reference(part: str, tag: str) -> str:
    """The full name of an image of ours, as Kubernetes completes the short one."""
    return f"docker.io/eventengine/{part}:{tag}"


def image(part: str, tag: str | None = None) -> Path:
    """The archive of a part's image, built first if its sources have changed."""
    tag = tag or default_tag()
    base = base_storage()
    lock_files = [REPOSITORY / "requirements" / f"{name}.txt" for name in (part, "build")]
    files = [*lock_files, *_sources(REPOSITORY / name for name in SOURCE_FOLDERS[part])]
    key = key_of(files=files, folder=REPOSITORY, words=[tag, base.parent.name])

    def build(folder: Path) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            context = Path(scratch) / "context"
            context.mkdir()
            say(f"gathering what the {part} image is built from")
            wheels.prepare_context(part, context)
            build_image(
                context,
                reference(part, tag),
                folder / "image.tar",
                arguments={"WHEELS": "prepared", "VERSION": tag, "REVISION": key},
                title=f"building the {part} image",
            )

    return cached(f"images-{part}", key, build) / "image.tar"


def base_storage() -> Path:
    """A buildah storage that holds the stand-in for the registry's Python image, to read from."""
    debian_packages.ensure_installed(debian_packages.IMAGES)
    words = [SUITE, *BASE_PACKAGES, *BASE_LEFT_OUT, *BASE_HOOKS, BASE_PATH]

    def build(folder: Path) -> None:
        root = folder / "root.tar"
        run_fetching(
            [
                *("mmdebstrap", "--variant=minbase", "--quiet"),
                f"--include={','.join(BASE_PACKAGES)}",
                *(f"--dpkgopt=path-exclude={path}" for path in BASE_LEFT_OUT),
                *(f"--customize-hook={hook}" for hook in BASE_HOOKS),
                *(SUITE, str(root)),
            ],
            "building the base image",
            timeout_seconds=BASE_SECONDS_MAX,
        )
        with tempfile.TemporaryDirectory() as scratch:
            builder = _Builder(Path(scratch), folder / "storage")
            container = builder.run("from", "scratch").strip()
            builder.run("add", "--quiet", container, root, "/")
            environment = [f"--env=PATH={BASE_PATH}", "--env=LANG=C.UTF-8"]
            builder.run("config", *environment, "--cmd=python3", container)
            builder.run("commit", "--quiet", "--rm", container, BASE_REFERENCE)
        root.unlink()

    return cached("base-image", key_of(words=words), build) / "storage"


def build_image(
    context: Path,
    name: str,
    archive: Path,
    *,
    arguments: Mapping[str, str],
    title: str,
) -> None:
    """Build the Dockerfile in a context folder into an archive, with no network to reach."""
    debian_packages.ensure_installed(debian_packages.IMAGES)
    base = base_storage()
    shelf = user_cache() / "buildah"
    with locked(shelf / "lock", title):
        for broken_off in shelf.glob(f"{STORAGE_PREFIX}*"):
            shutil.rmtree(broken_off, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=shelf, prefix=STORAGE_PREFIX) as storage:
            builder = _Builder(Path(storage), Path(storage) / "root", base)
            settings = [f"--build-arg={key}={value}" for key, value in arguments.items()]
            run_showing_progress(
                [
                    *("unshare", "--net"),
                    *builder.command("bud", "--pull-never", "--isolation=chroot", "--layers=false"),
                    *settings,
                    f"--tag={name}",
                    str(context),
                ],
                title,
                environment=builder.environment,
                timeout_seconds=BUILD_SECONDS_MAX,
            )
            builder.run("push", "--quiet", name, f"docker-archive:{archive}:{name}")


class _Builder:
    """Buildah with a storage of its own, so that it neither finds nor leaves anything elsewhere.

    Args:
        scratch: For settings and temporary files.
        storage: Where images and layers are kept.
        base: Another storage, whose images can be read.
    """

    def __init__(self, scratch: Path, storage: Path, base: Path | None = None) -> None:
        self._scratch = scratch
        self._storage = storage
        self._base = base
        self._policy = scratch / "policy.json"
        self._policy.write_text(json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))
        registries = scratch / "registries.conf"
        registries.write_text('unqualified-search-registries = ["docker.io"]\n')
        self.environment = {"CONTAINERS_REGISTRIES_CONF": str(registries), "TMPDIR": str(scratch)}

    def command(self, verb: str, *words: str | Path) -> list[str]:
        """A buildah command line."""
        storage = [f"--root={self._storage}", f"--runroot={self._scratch / 'run'}"]
        storage.append("--storage-driver=overlay")
        if self._base is not None:
            storage.append(f"--storage-opt=overlay.imagestore={self._base}")
        # Only the verbs that move images know the option.
        trust = [f"--signature-policy={self._policy}"] if verb in {"bud", "push", "commit"} else []
        # Mounts die with the command's own mount namespace, however the command ends.
        alone = ["unshare", "--mount", "--propagation=private"]
        return [*alone, "buildah", *storage, verb, *trust, *map(str, words)]

    def run(self, verb: str, *words: str | Path) -> str:
        """Run a buildah command to its end."""
        return run(
            self.command(verb, *words),
            environment=self.environment,
            timeout_seconds=BUILD_SECONDS_MAX,
        )


def _sources(folders: Iterable[Path]) -> list[Path]:
    return [
        path
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file()
        and not LEFT_OUT_OF_KEY.intersection(path.relative_to(folder).parts)
        and path.suffix not in {".so", ".pyc"}
    ]
