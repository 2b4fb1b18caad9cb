"""`make bench`: every row-group in its short form; `make bench ONLY=name`: one in its long form.

Each group writes build/benchmarks/NAME.json and NAME.md, and some a picture; a run of all groups also writes them
together into build/benchmarks/summary.md. What was measured is printed. The status is 0 only if no gating row of the
measured groups was lost. Figures of a machine that does something else beside are worthless; the load average and each
run's disturbance stand beside the results.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
import traceback
from pathlib import Path
from typing import Final

BENCHMARKS: Final = Path(__file__).resolve().parent
sys.path[:0] = [str(BENCHMARKS), str(BENCHMARKS.parents[1] / "tools")]

from eventengine_harness.exceptions import HarnessError  # noqa: E402
from eventengine_harness.interrupts import end_in_order  # noqa: E402
from eventengine_harness.locations import REPOSITORY  # noqa: E402
from eventengine_harness.running import say  # noqa: E402
from frame import machine  # noqa: E402
from frame.context import Context  # noqa: E402
from frame.tables import Table  # noqa: E402

RESULTS: Final = REPOSITORY / "build" / "benchmarks"


def groups() -> list[str]:
    """The row-groups: the modules in rows/, in order."""
    return sorted(path.stem for path in (BENCHMARKS / "rows").glob("*.py") if not path.stem.startswith("_"))


def measure(name: str, *, long: bool, description: dict[str, object]) -> Table:
    """Measure one group and write its files."""
    module = importlib.import_module(f"rows.{name}")
    folder = RESULTS / name
    folder.mkdir(parents=True, exist_ok=True)
    context = Context(name, long, folder, RESULTS, description)
    started = time.monotonic()
    table: Table = module.measure(context)
    document = {
        "group": name,
        "form": "long" if long else "short",
        "seconds": round(time.monotonic() - started, 1),
        "machine": description,
        **table.to_json(),
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")
    (RESULTS / f"{name}.md").write_text(table.to_markdown())
    for picture in table.pictures:
        (RESULTS / picture.file_name).write_text(picture.svg)
    say(f"{name}: done in {document['seconds']} s")
    return table


def main() -> int:
    """As `measure_groups`; told to end, it ends what it started and says what is left."""
    end_in_order()
    try:
        return measure_groups()
    except KeyboardInterrupt:
        say(f"interrupted; groups that were done have their tables in {RESULTS.relative_to(REPOSITORY)}/")
        return 130


def measure_groups() -> int:
    """Measure what was asked for, write the files, print the summary."""
    known = groups()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=known, help="measure this group only")
    parser.add_argument("--long", action="store_true", help="the long form, at most 45 minutes a group")
    options = parser.parse_args()
    description = machine.describe()
    names = [options.only] if options.only else known
    RESULTS.mkdir(parents=True, exist_ok=True)
    failed: list[str] = []
    parts = [f"Measured on {machine.one_line(description)}.\n"]
    for name in names:
        try:
            table = measure(name, long=options.long, description=description)
        except Exception as error:  # noqa: BLE001 - one group that fails doesn't take the others' results with it
            say(f"{name}: {error}" if isinstance(error, HarnessError) else traceback.format_exc())
            failed.append(name)
            first_line = next(iter(str(error).splitlines()), type(error).__name__)
            parts.append(f"### {name}\n\nNot measured: {first_line}\n")
            continue
        parts.append(table.to_markdown())
        if not table.holds:
            failed.append(name)
    summary = "\n".join(parts)
    if not options.only:
        (RESULTS / "summary.md").write_text(summary)
    print(summary)
    if failed:
        say(f"rows were lost in: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
