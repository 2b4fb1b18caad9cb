"""Make the virtual environment import the packages of this checkout in place.

Writes one `.pth` file that names the source folders and one launcher per
command, so that an edit is live at once and nothing is built or downloaded.
Run by `make setup` with the environment's own interpreter.
"""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("contract/src", "operator/src", "adapter/src", "engine/src", "tests/harness/src")
COMMANDS = {
    "eventengine": "eventengine.entry",
    "eventengine-operator": "eventengine_operator.__main__",
    "eventengine-adapter": "eventengine_adapter.__main__",
}


def main() -> None:
    """Write the path file and the launchers."""
    packages = Path(sysconfig.get_path("purelib"))
    path_file = packages / "eventengine_checkout.pth"
    path_file.write_text("".join(f"{ROOT / source}\n" for source in SOURCES))
    scripts = Path(sysconfig.get_path("scripts"))
    for command, module in COMMANDS.items():
        launcher = scripts / command
        launcher.write_text(f"#!{sys.executable}\nimport sys\nfrom {module} import main\nsys.exit(main())\n")
        launcher.chmod(0o755)


if __name__ == "__main__":
    main()
