"""The base of every result: frozen, and shown the same way in a terminal, a notebook or a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from html import escape
from math import isfinite
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]
"""One line of a result: column name -> plain Python value."""


LONGEST = 200
"""A text is cut in a table beyond this; `rows`, JSON and CSV have all of it."""

WIDEST = 60
"""How wide a column of plain text is made; a longer text stands out of it."""


LINEAGES = (
    "Some events send several messages: these numbers are about one lineage of a run, picked at random at each of them."
)
"""What a result says whose runs fan out."""


@dataclass(frozen=True)
class Result:
    """Base of the frozen results.

    A subclass sets `title`, lists its `columns` in order, and gives its lines in `rows`;
    `notes` are sentences that belong under its table.
    """

    title: ClassVar[str] = ""
    version: ClassVar[int] = 1
    columns: ClassVar[tuple[str, ...]] = ()
    beside: ClassVar[tuple[str, ...]] = ()
    """Columns that a printed table leaves out: they are in frames and files."""

    def rows(self) -> list[Row]:
        """Return the lines of the result, best or first one first; keys are `columns`."""
        raise NotImplementedError

    def notes(self) -> tuple[str, ...]:
        """Return sentences that a reader of the table needs."""
        return ()

    def to_dict(self) -> dict[str, Any]:
        """Return all of the result as JSON-ready data, with its type and format version."""
        data = {f.name: plain(getattr(self, f.name)) for f in fields(self) if f.repr}
        return {"type": type(self).__name__, "version": self.version, **data}

    def frame(self) -> pd.DataFrame:
        """Return the rows as a pandas data frame."""
        import pandas as pd

        return pd.DataFrame(self.rows(), columns=list(self.columns))

    def numeric(self) -> frozenset[str]:
        """Return the columns that hold numbers only: they are aligned to the right."""
        rows = self.rows()
        return frozenset(c for c in self.columns if rows and all(_is_number(r[c]) for r in rows))

    def printed(self) -> tuple[str, ...]:
        """Return the columns that a printed table has."""
        return tuple(c for c in self.columns if c not in self.beside)

    def __str__(self) -> str:
        numeric, columns = self.numeric(), self.printed()
        lines = [[c.replace("_", " ") for c in columns]]
        lines += [[" ".join(cell(r[c]).split()) for c in columns] for r in self.rows()]
        widths = [min(max(map(len, column)), WIDEST) for column in zip(*lines, strict=True)]
        aligned = (
            "  ".join(
                text.rjust(width) if c in numeric else text.ljust(width)
                for c, text, width in zip(columns, line, widths, strict=True)
            ).rstrip()
            for line in lines
        )
        return "\n".join([self.title, *aligned, *self.notes()])

    def _repr_html_(self) -> str:
        numeric, columns = self.numeric(), self.printed()
        side = {c: f' style="text-align:{"right" if c in numeric else "left"}"' for c in columns}
        head = "".join(f"<th{side[c]}>{escape(c.replace('_', ' '))}</th>" for c in columns)
        body = "".join(
            "<tr>" + "".join(f"<td{side[c]}>{escape(cell(row[c]))}</td>" for c in columns) + "</tr>"
            for row in self.rows()
        )
        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes())
        return (
            f"<table><caption>{escape(self.title)}</caption><thead><tr>{head}</tr></thead>"
            f"<tbody>{body}</tbody></table>{notes}"
        )


def cell(value: object) -> str:
    """Return a value as a person reads it in a table: four digits, lists joined, nothing for None, no endless text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, (list, tuple)):
        return ", ".join(cell(v) for v in value)
    text = str(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def number(value: float) -> str:
    """Return a number with four significant digits and no needless zeros."""
    if value != value or value in (float("inf"), float("-inf")):
        return str(value)
    if value == 0 or 1e-4 <= abs(value) < 1e7:
        text = f"{value:.{max(0, 4 - len(str(int(abs(value)))))}f}" if abs(value) >= 1 else f"{value:.4g}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{value:.3e}"


def counted(n: int, what: str) -> str:
    """Return a number of things in words: `1 run`, `2,000 runs`."""
    return f"{n:,} {what}" + ("" if n == 1 else "s")


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def plain(value: Any) -> Any:
    """Turn a value into JSON-ready data; infinity becomes the string `inf`, and what is no number null."""
    if isinstance(value, Result):
        return value.to_dict()
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value) if f.repr}
    if hasattr(value, "_asdict"):
        return {k: plain(v) for k, v in value._asdict().items()}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(v) for v in value]
    if isinstance(value, float) and not isfinite(value):
        return None if value != value else str(value)
    return value
