"""`python -m eventengine_contract generate [--check] ROOT`: write, or compare, the generated files."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .generating import generated_files


def main() -> int:
    """Write the generated files below ROOT; with --check, fail where one differs."""
    parser = argparse.ArgumentParser(prog="eventengine_contract", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    generate = commands.add_parser("generate", help="write the CRD, the JSON Schema and the reference pages")
    generate.add_argument(
        "--check", action="store_true", help="only compare; exit 1 where a file is out of date"
    )
    generate.add_argument("root", type=Path, help="the repository's root")
    options = parser.parse_args()
    outdated = []
    for name, content in generated_files().items():
        path = options.root / name
        if path.exists() and path.read_text() == content:
            continue
        outdated.append(name)
        if not options.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
    for name in outdated:
        print(f"{name}: {'out of date; `make update` writes it anew' if options.check else 'written'}")
    return 1 if options.check and outdated else 0


if __name__ == "__main__":
    sys.exit(main())
