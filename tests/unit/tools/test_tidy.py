"""The rules of tools/tidy.py: each one objects to its sample, and says where and what to do."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path, PurePosixPath
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[3]
MIRROR = "nexus" + ".example.com"
LONG_FUNCTION = "def long() -> None:\n" + "    pass\n" * 80


@pytest.fixture(scope="module")
def tidy() -> ModuleType:
    specification = importlib.util.spec_from_file_location("tidy", ROOT / "tools" / "tidy.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["tidy"] = module
    specification.loader.exec_module(module)
    return module


def objections(tidy: ModuleType, tree: dict[str, str]) -> list[str]:
    files = [tidy.Source(PurePosixPath(path), text.encode()) for path, text in tree.items()]
    return [str(finding) for finding in tidy.objections(files)]


SHADOWS = "shadows the standard library's `operator`; move it to operator/src or tests/"


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ({"operator/__init__.py": ""}, f"operator/__init__.py:1: {SHADOWS}"),
        ({"operator/conftest.py": ""}, f"operator/conftest.py:1: {SHADOWS}"),
        ({"operator/tests/test_it.py": ""}, f"operator/tests/test_it.py:1: {SHADOWS}"),
        (
            {"tools/a.sh": "cd " + "/wo" + "rk/main\n"},
            "tools/a.sh:1: names a path of one machine (" + "/wo" + "rk/m...); make it relative",
        ),
        (
            {"a.py": 'HOME = "' + "/ho" + 'me/somebody/x"\n'},
            "a.py:1: names a path of one machine (" + "/ho" + "me/somebody/x...); make it relative",
        ),
        (
            {"pip.conf": "index-url = https://py" + "pi.org/simple\n"},
            "pip.conf:1: names a registry's host (py" + "pi.org); leave it to the client's settings",
        ),
        (
            {"settings.xml": f"\n<url>https://{MIRROR}/maven</url>\n"},
            f"settings.xml:2: names a registry's host ({MIRROR}); leave it to the client's settings",
        ),
        (
            {"a.rs": "// TO" + "DO: later\n"},
            "a.rs:1: TO" + "DO in the tree; do it, or file an issue",
        ),
        (
            {"a.yaml": "a: 1\n# FIX" + "ME\n"},
            "a.yaml:2: FIX" + "ME in the tree; do it, or file an issue",
        ),
        ({"a.rs": "//\n" * 701}, "a.rs:701: has 701 lines, at most 700; split it by subject"),
        (
            {"a.rs": "//\n" * 701 + "#[cfg(test)]\nmod tests {}\n"},
            "a.rs:701: has 701 lines, at most 700; split it by subject",
        ),
        ({"a.py": LONG_FUNCTION}, "a.py:1: long has 81 lines, at most 80; split it"),
        (
            {"a.py": "class A:\n    async " + LONG_FUNCTION.replace("\n", "\n    ").rstrip() + "\n"},
            "a.py:2: long has 81 lines, at most 80; split it",
        ),
        ({"a.md": "## Part\n"}, "a.md:1: has no title; begin it with `# `"),
        ({"a.md": "# One\n\n# Two\n"}, "a.md:3: is a second title; use `## `"),
        (
            {"a.bin": "\0" * 1_000_001},
            "a.bin:1: has 1000001 bytes, at most 1000000; build or fetch it instead",
        ),
        (
            {"docs/a.md": "# A\n[b](../b.md#part)\n"},
            "docs/a.md:2: links to ../b.md, which is not in the tree; correct the link",
        ),
        (
            {"a.md": "# A\n[b](../../b.md)\n"},
            "a.md:2: links to ../../b.md, which is not in the tree; correct the link",
        ),
        (
            {"ARCHITECTURE.md": "# Map\n- `src/gone.py`\n", "src/here.py": ""},
            "ARCHITECTURE.md:2: names src/gone.py, which is not in the tree; correct the map",
        ),
        (
            {"ARCHITECTURE.md": "# Map\n- `src/{here,gone}.py`\n", "src/here.py": ""},
            "ARCHITECTURE.md:2: names src/gone.py, which is not in the tree; correct the map",
        ),
    ],
)
def test_rule_objects_to_its_sample_and_names_place_and_remedy(
    tidy: ModuleType, tree: dict[str, str], expected: str
) -> None:
    assert objections(tidy, tree) == [expected]


@pytest.mark.parametrize(
    "tree",
    [
        {"operator/src/eventengine_operator/__init__.py": ""},
        {"operator/README.md": "# Operator\n"},
        {"a.py": 'PATH = "/etc/eventengine/engine.yaml"\nROUTE = f"{base}/work/x"\n'},
        {"Cargo.lock": "x\n" * 5000},
        {"a.rs": "//\n" * 700 + "#[cfg(test)]\n" + "//\n" * 500},
        {"requirements/dev.txt": "x\n" * 5000},
        {"crd.yaml": "# Generated from contract/ by `make update`. Do not edit.\n" + "a:\n" * 5000},
        {"a.py": "def short() -> None:\n" + "    pass\n" * 79},
        {"a.md": "# Title\n\n```sh\n# a comment of the shell\n```\n"},
        {
            "a.md": "# A\n[b](docs/b.md) [c](docs) [d](https://example.com/x) [e](#part)\n",
            "docs/b.md": "# B\n",
        },
        {
            "ARCHITECTURE.md": "# Map\n`src/`, `src/here.py`, `src/<name>.py`, `apps/v1`, `POST /src`\n",
            "src/here.py": "",
        },
    ],
)
def test_rules_leave_alone_what_is_right(tidy: ModuleType, tree: dict[str, str]) -> None:
    assert objections(tidy, tree) == []


def test_every_rule_has_a_sample_it_objects_to(tidy: ModuleType) -> None:
    (mark,) = test_rule_objects_to_its_sample_and_names_place_and_remedy.pytestmark
    samples = [
        [tidy.Source(PurePosixPath(path), text.encode()) for path, text in tree.items()]
        for tree, _ in mark.args[1]
    ]
    silent = [rule.__name__ for rule in tidy.RULES if not any(list(rule(files)) for files in samples)]
    assert not silent


def test_tree_is_what_git_tracks_or_would_track(tidy: ModuleType, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text("ignored/\n")
    (tmp_path / "new.md").write_text("# New\n")
    (tmp_path / "ignored").mkdir()
    (tmp_path / "ignored" / "a.md").write_text("no title\n")
    assert [str(file.path) for file in tidy.read_tree(tmp_path)] == [".gitignore", "new.md"]
