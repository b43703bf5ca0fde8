"""Results as text: for a terminal, for another program, or for a page."""

from __future__ import annotations

import csv
import html
import io
import json
import re
import shutil
import sys
from typing import Literal, get_args

from flowstat.errors import OutputError
from flowstat.read.words import visible
from flowstat.results import Result, cell, plain

__all__ = ["TableFormat", "render"]

TableFormat = Literal["table", "json", "csv", "markdown"]

PAGE = 100
"""How wide a table is where there is no terminal."""

NARROWEST = 12
"""A column of text is not folded below this; the table is wider than its place then."""

# An underscore between letters or digits is no markup, and readable as it is.
_markup = re.compile(r"[\\|*`\[\]~]|(?<![^\W_])_|_(?![^\W_])")


def render(result: Result, format: TableFormat = "table", width: int | None = None) -> str:
    r"""Return a result as text that ends with a line end.

    Parameters
    ----------
    result
        Any flowstat result.
    format
        `table`: aligned columns, long texts folded, numbers with four digits. `json`: all of the result and
        its rows, with full precision; infinity is the text `inf`. `csv`: a header and the rows (RFC 4180),
        full precision, lists joined with `"; "`. `markdown`: a pipe table with its title and notes.
    width
        Characters a table may take; the terminal's width, or 100 where there is none, if not given. A
        table that can't be that narrow is wider: nothing is cut.

    Raises
    ------
    OutputError
        If the format is unknown.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Ends(Result):
    ...     columns = ("outcome", "probability")
    ...     def rows(self):
    ...         return [{"outcome": "shipped", "probability": 0.975}]
    >>> print(render(Ends(), "csv").replace("\r", ""), end="")
    outcome,probability
    shipped,0.975
    """
    if format == "table":
        return _table(result, width)
    if format == "json":
        return _json(result)
    if format == "csv":
        return _csv(result)
    if format == "markdown":
        return _markdown(result)
    raise OutputError(f"unknown format {format!r}: it is one of {', '.join(get_args(TableFormat))}")


def _table(result: Result, width: int | None) -> str:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    numeric = result.numeric()
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    cells = [[visible(cell(row[c])) for c in result.printed()] for row in result.rows()]
    needed = 0
    for name, column in zip(result.printed(), zip(*cells, strict=True), strict=False):
        head = name.replace("_", " ")
        right = name in numeric
        longest = max(Text(text).cell_len for text in (head, *column))
        whole = right or longest <= NARROWEST
        needed += (longest if whole else NARROWEST) + 3
        table.add_column(head, justify="right" if right else "left", no_wrap=whole, overflow="fold")
    for line in cells:
        # As Text, so that nothing in a name is taken for markup.
        table.add_row(*map(Text, line))
    if width is None:
        width = shutil.get_terminal_size((PAGE, 24)).columns if sys.stdout.isatty() else PAGE
    console = Console(file=io.StringIO(), width=max(width, needed), color_system=None, force_terminal=False)
    with console.capture() as captured:
        for text in filter(None, [result.title]):
            console.print(Text(visible(text)), end="\n\n")
        console.print(table if cells else Text("nothing to show"))
        for note in result.notes():
            console.print()
            console.print(Text(visible(note)))
    return "\n".join(line.rstrip() for line in captured.get().rstrip().split("\n")) + "\n"


def _json(result: Result) -> str:
    data = {**result.to_dict(), "title": result.title, "columns": list(result.columns)}
    data |= {"rows": plain(result.rows()), "notes": list(result.notes())}
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, indent=2, default=str)
    # Half a surrogate pair is no UTF-8; written as an escape it is JSON.
    return text.encode("utf-8", "backslashreplace").decode("utf-8") + "\n"


def _csv(result: Result) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(result.columns)
    writer.writerows([_exact(row[c]) for c in result.columns] for row in result.rows())
    return text.getvalue()


def _markdown(result: Result) -> str:
    numeric = result.numeric()
    lines = [[escaped(c.replace("_", " ")) for c in result.printed()]]
    lines += [["---:" if c in numeric else "---" for c in result.printed()]]
    lines += [[escaped(cell(row[c])) for c in result.printed()] for row in result.rows()]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    parts = [f"**{escaped(result.title)}**"] if result.title else []
    return "\n\n".join([*parts, table, *map(escaped, result.notes())]) + "\n"


def _exact(value: object) -> str:
    """Return a value with all its digits, for another program."""
    if value is None or value != value:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return "; ".join(map(_exact, value))
    return str(value)


def escaped(text: str) -> str:
    """Return a text that Markdown shows as it is, on one line."""
    return _markup.sub(r"\\\g<0>", html.escape(visible(text), quote=False))
