"""The three Dockerfiles: reproducible, without privileges, and in step with the other build files."""

from __future__ import annotations

import re
import runpy
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PARTS = ("operator", "adapter", "engine")


def instructions(part: str) -> list[str]:
    """The Dockerfile's instructions, comments dropped and continued lines joined."""
    lines = (ROOT / part / "Dockerfile").read_text().splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    return [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip()]


@pytest.mark.parametrize("part", PARTS)
def test_last_stage_runs_as_a_numeric_user_other_than_root(part: str) -> None:
    last_stage = instructions(part)[-12:]
    assert "USER 65532:65532" in last_stage


@pytest.mark.parametrize("part", PARTS)
def test_that_user_has_a_name_since_libraries_ask_for_it(part: str) -> None:
    lines = instructions(part)
    assert any("eventengine:x:65532:65532:" in line and ">> /etc/passwd" in line for line in lines)
    assert any(line.startswith("ENV ") and " USER=eventengine " in line for line in lines)


@pytest.mark.parametrize("part", PARTS)
def test_every_base_is_an_argument_so_that_a_mirror_can_be_used(part: str) -> None:
    stages = [line for line in instructions(part) if line.startswith("FROM ")]
    for stage in stages:
        assert re.match(r"FROM (\$\{\w+\}|scratch|wheels-\$\{WHEELS\})( |$)", stage), stage


@pytest.mark.parametrize("part", PARTS)
def test_pip_installs_and_downloads_by_hash_or_from_what_was_built_here(part: str) -> None:
    commands = [
        command
        for line in instructions(part)
        for command in re.split(r"&&|;", line)
        if re.search(r"-m pip [a-z-]*.*\b(install|download|wheel)\b", command)
    ]
    assert commands
    for command in commands:
        assert "--require-hashes" in command or "--no-index" in command, command


@pytest.mark.parametrize("part", PARTS)
def test_labels_name_title_licence_version_and_revision(part: str) -> None:
    (labels,) = [line for line in instructions(part) if line.startswith("LABEL ")]
    for key in ("title", "description", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{key}=" in labels


@pytest.mark.parametrize("part", PARTS)
def test_default_version_is_that_of_the_package(part: str) -> None:
    project = tomllib.loads((ROOT / part / "pyproject.toml").read_text())["project"]
    assert f"ARG VERSION={project['version']}" in instructions(part)


def test_engine_is_compiled_by_the_pinned_compiler() -> None:
    toolchain = tomllib.loads((ROOT / "rust-toolchain.toml").read_text())["toolchain"]
    assert f"ARG RUST_IMAGE=rust:{toolchain['channel']}-slim" in instructions("engine")


def test_engine_build_stage_installs_what_the_native_build_asks_for_elsewhere() -> None:
    packages = runpy.run_path(str(ROOT / "tools" / "native.py"))["SYSTEM_PACKAGES"]
    (command,) = [line for line in instructions("engine") if " cmake " in line]
    assert set(packages) <= set(command.split())


def shared(part: str) -> list[str]:
    """What the files have in common: taking the wheels, installing them, the user, the environment."""
    lines = [line.replace(f"eventengine-{part}", "PACKAGE") for line in instructions(part)]
    lines = [
        line.replace(f"{part}.txt", "PART.txt").replace(
            "eventengine-contract eventengine ", "eventengine-contract PACKAGE "
        )
        for line in lines
    ]
    start = lines.index("FROM scratch AS wheels-prepared")
    particular = ("LABEL ", "EXPOSE ", "ENTRYPOINT ", "CMD ", "RUN if ldd ")
    return [line for line in lines[start:] if not line.startswith(particular)]


@pytest.mark.parametrize("part", PARTS)
def test_stages_that_are_in_all_three_files_are_the_same_in_all_three(part: str) -> None:
    assert shared(part) == shared("operator")
