"""Counts saved as a file: small, exact, and as good as the traces for every analysis."""

from __future__ import annotations

import json
from collections.abc import Iterable
from glob import has_magic
from pathlib import Path
from typing import Any

from flowstat.errors import OutputError, TraceError
from flowstat.estimate.counts import Counts
from flowstat.estimate.latency import Latency
from flowstat.read.notices import Problem
from flowstat.read.opening import open_unpacked
from flowstat.read.patterns import parse_pattern
from flowstat.read.traces import TraceFile, read_traces
from flowstat.read.words import is_storable, shown
from flowstat.results import counted

__all__ = ["add_counts", "format_counts", "parse_counts", "read_counts", "write_counts"]

KIND = "flowstat counts"
VERSION = 1

_NODES = ("starts", "errors", "pending", "dropped")
_PAIRS = ("undeclared", "links")


def format_counts(counts: Counts) -> str:
    """Return counts as JSON text, one line for each entry, so that two files can be compared line by line.

    Examples
    --------
    >>> from flowstat.estimate.counts import Counts
    >>> parse_counts(format_counts(Counts({("a", ""): 2}, {"a": 2}))).events
    {'a': 2}
    """
    data: dict[str, Any] = {"type": KIND, "version": VERSION}
    data["table"] = [[node, sent, n] for (node, sent), n in sorted(counts.table.items())]
    data |= {name: [[node, n] for node, n in sorted(getattr(counts, name).items())] for name in _NODES}
    data |= {name: [[a, b, n] for (a, b), n in sorted(getattr(counts, name).items())] for name in _PAIRS}
    # Sums of nanoseconds and of their squares outgrow the 64 bits that JSON readers keep: they are texts.
    data["latencies"] = [
        [a, b, known.number, str(known.total), str(known.squares), [list(item) for item in known.buckets.items()]]
        for (a, b), known in sorted(counts.latencies.items())
    ]
    data["files"] = list(counts.files)
    data["problems"] = [[p.what, p.number, p.example] for p in counts.problems]
    lines = []
    for name, value in data.items():
        if isinstance(value, list) and value:
            entries = ",\n  ".join(_text(entry) for entry in value)
            lines.append(f'"{name}": [\n  {entries}\n ]')
        else:
            lines.append(f'"{name}": {_text(value)}')
    return "{" + ",\n ".join(lines) + "}\n"


def parse_counts(text: str | bytes, origin: str = "<text>") -> Counts:
    """Read counts back.

    Raises
    ------
    TraceError
        If the text is not what `format_counts` writes, or says something impossible.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TraceError(f"{origin} is no counts file: {error}") from None
    if not isinstance(data, dict) or data.get("type") != KIND:
        raise TraceError(f"{origin} is no counts file: flowstat count -o writes one")
    if data.get("version") != VERSION:
        raise TraceError(
            f"{origin}: counts of version {shown(repr(data.get('version')))}; this flowstat reads version {VERSION}: "
            "count the traces again"
        )
    try:
        fields: dict[str, Any] = {"table": {(node, sent): n for node, sent, n in _rows(data, "table", (str, str, int))}}
        fields |= {name: dict(_rows(data, name, (str, int))) for name in _NODES}
        fields |= {name: {(a, b): n for a, b, n in _rows(data, name, (str, str, int))} for name in _PAIRS}
        fields["latencies"] = {
            (a, b): Latency(n, int(total), int(squares), _buckets(buckets))
            for a, b, n, total, squares, buckets in _rows(data, "latencies", (str, str, int, str, str, list))
        }
        fields["files"] = tuple(_texts(data.get("files", [])))
        fields["problems"] = tuple(Problem(*row) for row in _rows(data, "problems", (str, int, str)))
    except (TypeError, ValueError, KeyError) as error:
        raise TraceError(f"{origin} is a damaged counts file: {shown(str(error), 200)}") from None
    for node, sent in fields["table"]:
        try:
            parse_pattern(sent)
        except TraceError as error:
            raise TraceError(f"{origin}: an event at {shown(node)!r}: {error}") from None
    counts = Counts(**fields)
    for what, numbers in (("starts", counts.starts), ("errors", counts.errors)):
        for node, n in numbers.items():
            events = counts.events.get(node, 0)
            if n > events:
                raise TraceError(f"{origin}: {n:,} {what} at {shown(node)!r}, which has {counted(events, 'event')}")
    return counts


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _rows(data: dict[str, Any], name: str, types: tuple[type, ...]) -> list[list[Any]]:
    rows = data[name]
    if not isinstance(rows, list):
        raise ValueError(f"{name!r} is no list")
    for row in rows:
        if not isinstance(row, list) or [type(v) for v in row] != list(types):
            raise ValueError(f"{name!r} has the entry {shown(repr(row), 80)}")
        texts = [v for v in row if isinstance(v, str)]
        numbers = [v for v in row if isinstance(v, int)]
        empty = row[0] == "" or (name in ("links", "undeclared", "latencies") and row[1] == "")
        if empty or not all(map(is_storable, texts)) or not all(0 <= v < 2**63 for v in numbers):
            raise ValueError(f"{name!r} has the entry {shown(repr(row), 80)}")
        if name == "latencies" and not row[2]:
            raise ValueError(f"{name!r} has a pair without latencies: {shown(repr(row), 80)}")
    keys = 2 if name == "latencies" else sum(kind is str for kind in types)
    if name != "problems" and len({tuple(row[:keys]) for row in rows}) < len(rows):
        raise ValueError(f"{name!r} has an entry twice")
    return rows


def _buckets(pairs: list[Any]) -> dict[int, int]:
    if not all(isinstance(p, list) and [type(v) for v in p] == [int, int] and min(p) >= 0 for p in pairs):
        raise ValueError("'latencies' has damaged buckets")
    return dict(pairs)


def _texts(values: Any) -> list[str]:
    if not isinstance(values, list) or not all(isinstance(v, str) and is_storable(v) for v in values):
        raise ValueError("'files' is no list of texts")
    return values


def read_counts(*paths: str | Path) -> Counts:
    """Read counts files and add them up.

    Parameters
    ----------
    *paths
        Files, directories, glob patterns, or `-` for standard input, as for `flowstat.read.traces.read_traces`.

    Raises
    ------
    TraceError
        If a file can't be read or is no counts file.
    """
    for path in map(str, paths):
        if path != "-" and not has_magic(path) and not Path(path).exists():
            raise TraceError(f"can't read the counts {shown(path, 200)}: No such file or directory")
    if not paths:
        return Counts()
    traces = read_traces(*paths)  # which keeps the copy of standard input for as long as it is there
    return add_counts(traces.files)


def add_counts(files: Iterable[TraceFile]) -> Counts:
    """Add up counts files that were found.

    Raises
    ------
    TraceError
        If one can't be read or is no counts file.
    """
    total = Counts()
    for file in files:
        for origin, part in zip(file.origins, file.parts, strict=False):
            try:
                with open_unpacked(part, origin) as unpacked:
                    text = unpacked.read()
            except (OSError, EOFError, ValueError) as error:
                reason = getattr(error, "strerror", None) or error
                raise TraceError(f"can't read the counts {shown(origin, 200)}: {reason}") from None
            total = total + parse_counts(text, origin)
    return total


def write_counts(counts: Counts, path: str | Path) -> None:
    """Write counts to a file, whole or not at all.

    Raises
    ------
    OutputError
        If it can't be written.
    """
    path = Path(path)
    if path.exists() and not path.read_bytes()[:64].lstrip().startswith(b'{"type"'):
        raise OutputError(f"{path} is there already and is no counts file: it is not overwritten")
    draft = path.with_name(f".{path.name}.draft")
    try:
        draft.write_text(format_counts(counts), encoding="utf-8")
        draft.replace(path)
    except BaseException as error:
        draft.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OutputError(f"can't write {path}: {error.strerror or error}") from None
        raise
