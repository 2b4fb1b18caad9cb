"""Generate the Python modules of the adapter's .proto file, or with --check compare them with what is there.

The compiler comes with grpcio-tools, which is locked like every other tool. What it writes is prefixed with a
notice that says so and is otherwise left as it is.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
FOLDER: Final = ROOT / "adapter" / "src" / "eventengine_adapter" / "keda"
SOURCE: Final = "externalscaler.proto"
NOTICE: Final = f"# Generated from {SOURCE} by tools/protocol_buffers.py. Do not edit.\n"


def generate() -> dict[str, str]:
    """The generated modules by file name.

    Raises:
        subprocess.CalledProcessError: the compiler refuses the .proto file; it has said why.
    """
    with tempfile.TemporaryDirectory() as folder:
        compiler = [sys.executable, "-m", "grpc_tools.protoc", f"-I{FOLDER}"]
        subprocess.run([*compiler, f"--python_out={folder}", f"--pyi_out={folder}", SOURCE], check=True)
        return {path.name: NOTICE + path.read_text() for path in sorted(Path(folder).iterdir())}


def main() -> int:
    """Write the modules; with --check, fail where one differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="only compare; exit 1 where a file is out of date"
    )
    options = parser.parse_args()
    outdated = []
    for name, content in generate().items():
        path = FOLDER / name
        if path.exists() and path.read_text() == content:
            continue
        outdated.append(name)
        if not options.check:
            path.write_text(content)
    for name in outdated:
        print(f"{name}: {'out of date; `make update` writes it anew' if options.check else 'written'}")
    return 1 if options.check and outdated else 0


if __name__ == "__main__":
    sys.exit(main())
