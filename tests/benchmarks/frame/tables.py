"""Tables: what a row-group reached, against what it was to reach.

Owns the row, the table with its pictures, and their two forms: JSON for machines, Markdown for people. Pure. A row
that was lost stays a row; `holds` says so, and the note says by how much and why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

WRITTEN_TOGETHER: Final = ("", "×", "%")
"""Units without a space before them."""
NOT_MEASURED: Final = "not measured"
COLUMNS: Final = ("what", "reached", "target", "margin", "holds", "note")


@dataclass(frozen=True)
class Row:
    """One figure against its target.

    `holds` is None where there is nothing to reach and the figure is for orientation only. `gates` says whether a
    lost row fails the command: ratios do, absolute figures of one machine do not.
    """

    what: str
    reached: str
    target: str
    holds: bool | None
    note: str = ""
    margin: str = ""
    gates: bool = True

    @classmethod
    def at_most(
        cls,
        what: str,
        value: float,
        limit: float,
        unit: str,
        *,
        margin: float = 0.0,
        note: str = "",
        gates: bool = True,
    ) -> Self:
        """A figure that is to stay at or below `limit`, a share `margin` of it left to noise."""
        return cls(
            what,
            quantity(value, unit),
            f"≤ {quantity(limit, unit)}",
            value <= limit * (1 + margin),
            note,
            f"{margin:.0%}" if margin else "",
            gates,
        )

    @classmethod
    def at_least(
        cls,
        what: str,
        value: float,
        limit: float,
        unit: str,
        *,
        margin: float = 0.0,
        note: str = "",
        gates: bool = True,
    ) -> Self:
        """A figure that is to reach `limit`, a share `margin` of it left to noise."""
        return cls(
            what,
            quantity(value, unit),
            f"≥ {quantity(limit, unit)}",
            value >= limit * (1 - margin),
            note,
            f"{margin:.0%}" if margin else "",
            gates,
        )

    @classmethod
    def shown(cls, what: str, value: float | str, unit: str = "", *, note: str = "") -> Self:
        """A figure for orientation."""
        text = value if isinstance(value, str) else quantity(value, unit)
        return cls(what, text, "", None, note)

    @classmethod
    def missed(cls, what: str, target: str, why: str) -> Self:
        """A figure that could not be measured: lost, and kept."""
        return cls(what, NOT_MEASURED, target, False, why)

    def cells(self) -> list[str]:
        """The row's cells in the order of COLUMNS."""
        verdict = {True: "yes", False: "**no**", None: ""}[self.holds]
        return [self.what, self.reached, self.target, self.margin, verdict, self.note]


@dataclass(frozen=True)
class Detail:
    """A further table below the rows: what each system showed."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Picture:
    """A picture beside a table, as SVG; the name is its file's, without the suffix."""

    name: str
    title: str
    svg: str

    @property
    def file_name(self) -> str:
        """Beside the table's own file."""
        return f"{self.name}.svg"


@dataclass(frozen=True)
class Table:
    """What one row-group reached, and everything that it was reached from."""

    title: str
    rows: Sequence[Row]
    details: Sequence[Detail] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    pictures: Sequence[Picture] = ()

    @property
    def holds(self) -> bool:
        """Whether no gating row was lost."""
        return not any(row.holds is False and row.gates for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        """The form that is kept."""
        rows = [
            {
                "what": row.what,
                "reached": row.reached,
                "target": row.target,
                "margin": row.margin,
                "holds": row.holds,
                "gates": row.gates,
                "note": row.note,
            }
            for row in self.rows
        ]
        return {"title": self.title, "holds": self.holds, "rows": rows, "data": dict(self.data)}

    def to_markdown(self) -> str:
        """The form that people read."""
        parts = [f"### {self.title}", ""]
        for picture in self.pictures:
            parts += [f"![{picture.title}]({picture.file_name})", ""]
        parts += [markdown(COLUMNS, [row.cells() for row in self.rows])]
        for detail in self.details:
            parts += ["", detail.title, "", markdown(detail.columns, detail.rows)]
        return "\n".join(parts) + "\n"


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; a bar within a cell is escaped."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def quantity(value: float, unit: str) -> str:
    """A figure with as many digits as mean something, and its unit; a whole number has no others."""
    if isinstance(value, int):
        text = f"{value:,}"
    elif value != 0 and abs(value) < 10:
        text = f"{value:.3g}"
    elif abs(value) < 100:
        text = f"{value:.1f}"
    else:
        text = f"{value:,.0f}"
    separator = "" if unit in WRITTEN_TOGETHER else " "
    return f"{text}{separator}{unit}"


def span(values: Sequence[float], unit: str) -> str:
    """The least and the greatest of some figures; nothing if there are none."""
    if not values:
        return ""
    ends = dict.fromkeys(quantity(value, "") for value in (min(values), max(values)))
    separator = "" if unit in WRITTEN_TOGETHER else " "
    return f"{' to '.join(ends)}{separator}{unit}"


def milliseconds(nanoseconds: float) -> str:
    """A time in milliseconds, from nanoseconds."""
    return quantity(nanoseconds / 1e6, "ms")


def megabytes(count: float) -> str:
    """A size in MB of 10^6 bytes."""
    return quantity(count / 1e6, "MB")
