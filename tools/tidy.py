"""Check the tree itself: the parts of the house style that a machine can see.

Owns one function per rule. Each takes the files of the tree and yields what it objects to: where, what is
wrong, and what to do instead. Looks at the files that git tracks or would track, changes nothing, and
knows nothing of what formatters, linters and type checkers look after.

Usage: python tools/tidy.py [ROOT]
"""

from __future__ import annotations

import ast
import fnmatch
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Final

FILE_LINES_MAX: Final = 700
FILE_LINES_MAX_OF: Final = {
    # All calls of librdkafka's C interface are in one file, so that what is unsafe can be reviewed as a whole.
    "engine/crates/eventengine-io/src/kafka/client.rs": 1000,
}
FUNCTION_LINES_MAX: Final = 80
FILE_BYTES_MAX: Final = 1_000_000
NOTICE_LINES: Final = 3
"""A generated file says so within this many lines."""

RUST_TESTS: Final = "#[cfg(test)]"
LOCK_FILES: Final = re.compile(r"(^|/)(Cargo\.lock|go\.sum|go\.mod|requirements/\w+\.txt)$")
GENERATED: Final = re.compile(r"[Gg]enerated .*[Dd]o not edit")
MACHINE_PATHS: Final = re.compile(r"(?<![\w.$}/-])/(?:work|root|home/\w+|Users/\w+)/[\w.]")
REGISTRY_HOSTS: Final = re.compile(
    r"\b(?:pypi\.org|(?:files\.)?pythonhosted\.org|(?:proxy|sum)\.golang\.org|repo1?\.maven\.(?:org|apache\.org)"
    r"|(?:index|static)\.crates\.io|registry(?:-1)?\.docker\.io|registry\.npmjs\.org|deb\.debian\.org"
    r"|[\w.-]*(?:artifactory|nexus|verdaccio|devpi)[\w-]*\.[\w.-]+\w)\b"
)
LEFT_OVER: Final = re.compile(r"\b(?:TO[D]O|FIX[M]E|X[X]X)\b")
CODE_SPAN: Final = re.compile(r"`([^`\s]+)`")
LINK: Final = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE: Final = re.compile(r"^\s*(```|~~~)")


@dataclass(frozen=True)
class Source:
    """One file of the tree: its path from the root and its bytes."""

    path: PurePosixPath
    content: bytes

    @cached_property
    def lines(self) -> list[str]:
        """Its lines; none for a binary file."""
        return [] if b"\0" in self.content else self.content.decode(errors="replace").splitlines()

    @property
    def is_generated(self) -> bool:
        """Whether a tool wrote it: a lock file, or a file that says so at its top."""
        head = "\n".join(self.lines[:NOTICE_LINES])
        return bool(LOCK_FILES.search(str(self.path)) or GENERATED.search(head))


@dataclass(frozen=True, order=True)
class Finding:
    """What a rule objects to."""

    path: PurePosixPath
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


Rule = Callable[[Sequence[Source]], Iterator[Finding]]


def operator_folder_is_no_package(files: Sequence[Source]) -> Iterator[Finding]:
    """A Python package or test in operator/ would shadow the standard library's `operator`."""
    for file in files:
        parts = file.path.parts
        in_folder = parts[0] == "operator" and parts[1:2] != ("src",)
        is_python = file.path.name in {"__init__.py", "conftest.py"} or file.path.name.startswith("test_")
        if in_folder and is_python:
            yield Finding(
                file.path, 1, "shadows the standard library's `operator`; move it to operator/src or tests/"
            )


def nothing_of_one_machine(files: Sequence[Source]) -> Iterator[Finding]:
    """Paths of one person's machine and hosts of package registries are settings of whoever builds."""
    for file in files:
        if LOCK_FILES.search(str(file.path)):
            continue
        for number, line in enumerate(file.lines, 1):
            if found := MACHINE_PATHS.search(line):
                yield Finding(
                    file.path, number, f"names a path of one machine ({found[0]}...); make it relative"
                )
            if found := REGISTRY_HOSTS.search(line):
                yield Finding(
                    file.path,
                    number,
                    f"names a registry's host ({found[0]}); leave it to the client's settings",
                )


def nothing_left_over(files: Sequence[Source]) -> Iterator[Finding]:
    """What is not done is an issue, not a comment."""
    for file in files:
        for number, line in enumerate(file.lines, 1):
            if found := LEFT_OVER.search(line):
                yield Finding(file.path, number, f"{found[0]} in the tree; do it, or file an issue")


def files_are_short(files: Sequence[Source]) -> Iterator[Finding]:
    """A file that nobody reads to its end has more than one subject. Rust's tests in the same file don't count."""
    for file in files:
        lines = file.lines
        if file.path.suffix == ".rs" and RUST_TESTS in lines:
            lines = lines[: lines.index(RUST_TESTS)]
        most = FILE_LINES_MAX_OF.get(str(file.path), FILE_LINES_MAX)
        if len(lines) > most and not file.is_generated:
            message = f"has {len(lines)} lines, at most {most}; split it by subject"
            yield Finding(file.path, most + 1, message)


def functions_are_short(files: Sequence[Source]) -> Iterator[Finding]:
    """A function fits on a screen or two."""
    for file in files:
        if file.path.suffix != ".py":
            continue
        for node in ast.walk(ast.parse(file.content, str(file.path))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > FUNCTION_LINES_MAX:
                    message = f"{node.name} has {length} lines, at most {FUNCTION_LINES_MAX}; split it"
                    yield Finding(file.path, node.lineno, message)


def documents_have_one_title(files: Sequence[Source]) -> Iterator[Finding]:
    """One title, at the top: tools that list documents go by it."""
    for file in files:
        if file.path.suffix != ".md":
            continue
        titles = [number for number, line in _prose(file) if line.startswith("# ")]
        if not titles:
            yield Finding(file.path, 1, "has no title; begin it with `# `")
        for number in titles[1:]:
            yield Finding(file.path, number, "is a second title; use `## `")


def blobs_are_small(files: Sequence[Source]) -> Iterator[Finding]:
    """What is large is built or downloaded, and cached; it would stay in the history for ever."""
    for file in files:
        if len(file.content) > FILE_BYTES_MAX:
            message = f"has {len(file.content)} bytes, at most {FILE_BYTES_MAX}; build or fetch it instead"
            yield Finding(file.path, 1, message)


def links_lead_somewhere(files: Sequence[Source]) -> Iterator[Finding]:
    """A relative link in a document names a file or folder of the tree."""
    known = _known_paths(files)
    for file in files:
        if file.path.suffix != ".md":
            continue
        for number, line in _prose(file):
            for target in LINK.findall(line):
                path = target.partition("#")[0]
                if path and "://" not in target and not target.startswith("mailto:"):
                    resolved = _resolve(file.path.parent, path)
                    if resolved is None or resolved not in known:
                        yield Finding(
                            file.path, number, f"links to {path}, which is not in the tree; correct the link"
                        )


def map_names_what_exists(files: Sequence[Source]) -> Iterator[Finding]:
    """Each path that ARCHITECTURE.md names in a code span exists."""
    names = sorted(str(path) for path in _known_paths(files))
    top_level = {name.split("/")[0] for name in names}
    for file in files:
        if file.path != PurePosixPath("ARCHITECTURE.md"):
            continue
        for number, line in _prose(file):
            for span in CODE_SPAN.findall(line):
                if "/" not in span or span.split("/")[0] not in top_level:
                    continue
                for path in _braces_expanded(re.sub(r"<[^>]*>", "*", span.rstrip("/"))):
                    if not fnmatch.filter(names, path):
                        yield Finding(
                            file.path, number, f"names {path}, which is not in the tree; correct the map"
                        )


RULES: Final[tuple[Rule, ...]] = (
    operator_folder_is_no_package,
    nothing_of_one_machine,
    nothing_left_over,
    files_are_short,
    functions_are_short,
    documents_have_one_title,
    blobs_are_small,
    links_lead_somewhere,
    map_names_what_exists,
)


def _prose(file: Source) -> Iterator[tuple[int, str]]:
    """Numbered lines of a document outside its fenced blocks."""
    fence: str | None = None
    for number, line in enumerate(file.lines, 1):
        marker = FENCE.match(line)
        if fence is None and marker:
            fence = marker[1]
        elif fence is not None:
            if marker and marker[1] == fence:
                fence = None
        else:
            yield number, line


def _known_paths(files: Sequence[Source]) -> set[PurePosixPath]:
    return {path for file in files for path in (file.path, *file.path.parents)}


def _resolve(folder: PurePosixPath, target: str) -> PurePosixPath | None:
    parts = list(folder.parts)
    for part in PurePosixPath(target).parts:
        if part == "..":
            if not parts:
                return None
            parts.pop()
        else:
            parts.append(part)
    return PurePosixPath(*parts)


def _braces_expanded(text: str) -> list[str]:
    """`a/{b,c}` names `a/b` and `a/c`."""
    found = re.search(r"\{([^{}]*)\}", text)
    if not found:
        return [text]
    return [
        expanded
        for choice in found[1].split(",")
        for expanded in _braces_expanded(text[: found.start()] + choice.strip() + text[found.end() :])
    ]


def read_tree(root: Path) -> list[Source]:
    """The files that git tracks in `root`, and the new ones that it does not ignore."""
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, check=True, capture_output=True).stdout.decode().split("\0")
    # A file that was deleted but not yet committed is still listed.
    return [
        Source(PurePosixPath(name), (root / name).read_bytes())
        for name in sorted({name for name in names if name})
        if (root / name).is_file()
    ]


def objections(files: Sequence[Source]) -> list[Finding]:
    """All that all rules object to, in the order of the tree."""
    return sorted(finding for rule in RULES for finding in rule(files))


def main() -> int:
    """Print what is untidy; the status says whether anything is."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent
    findings = objections(read_tree(root))
    for finding in findings:
        print(finding)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
