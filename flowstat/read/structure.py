"""What the ids of a trace say about it: spans seen twice, parents that are missing, times that run back."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from flowstat.errors import TraceError
from flowstat.read.notices import Problem

__all__ = ["check_structure"]


def check_structure(table: pa.Table, origin: str) -> tuple[np.ndarray, list[Problem]]:
    """Check the tree that the ids of one trace file describe.

    A span id that comes again in its run is the same event recorded twice and counts once: a row that was
    handled before one that was not, then the first by content. A
    parent that never appears leaves its child an orphan: it counts as an event, but starts no run. Times
    that run backwards change no count.

    Parameters
    ----------
    table
        Canonical columns of one file.
    origin
        The file's name in messages.

    Returns
    -------
    keep : (rows,) bool array
        The rows that count.
    problems
        What was found.

    Raises
    ------
    TraceError
        If an event is its own ancestor: no run can have done that.
    """
    n = len(table)
    problems: list[Problem] = []
    trace = pd.factorize(_column(table, "trace_id"))[0].astype(np.int64)
    has_parent = ~np.asarray(pc.is_null(table["parent_id"]))
    spans = _column(table, "span_id")
    parents = _column(table, "parent_id", fill=spans)
    codes, unique = pd.factorize(np.concatenate([spans, parents]))
    width = len(unique) + 1
    event = trace * width + codes[:n]
    parent_event = trace * width + codes[n:]

    def example(row: int) -> str:
        run, span = table["trace_id"][row].as_py(), table["span_id"][row].as_py()
        return f"{origin}: trace {run}, span {span}"

    order = np.argsort(event, kind="stable")
    ordered = event[order]
    again = np.zeros(n, bool)
    again[order[1:][ordered[1:] == ordered[:-1]]] = True
    if again.any():
        problems.append(Problem("events recorded twice, counted once", int(again.sum()), example(int(again.argmax()))))
        rows = np.flatnonzero(np.isin(event, event[again]))
        again[rows] = True
        again[_first_by_content(table, rows, event[rows])] = False
    keep = ~again
    firsts = order[keep[order]]
    at = np.searchsorted(event[firsts], parent_event)
    at = np.minimum(at, len(firsts) - 1)
    found = has_parent & (event[firsts][at] == parent_event) if n else has_parent
    orphans = keep & has_parent & ~found
    if orphans.any():
        what = "events whose parent was not recorded, counted but starting no run"
        problems.append(Problem(what, int(orphans.sum()), example(int(orphans.argmax()))))
    up = np.where(found, firsts[at] if n else 0, np.arange(n))
    _refuse_cycles(up, keep & found, example)
    problems.extend(_backward_times(table, keep, example))
    return keep, problems


def _first_by_content(table: pa.Table, rows: np.ndarray, event: np.ndarray) -> np.ndarray:
    """Return one row for each event: one that was handled before others, then by content, not by place."""
    some = table.take(pa.array(rows)).select(["status", "name", "sent"]).to_pandas().astype(object)
    some = some.assign(event=event, row=rows, unhandled=~some["status"].isin(["ok", "error"]))
    by = ["event", "unhandled", "name", "sent", "status", "row"]
    chosen: np.ndarray = some.sort_values(by).drop_duplicates("event")["row"].to_numpy()
    return chosen


def _column(table: pa.Table, name: str, fill: np.ndarray | None = None) -> np.ndarray:
    column = table[name].combine_chunks()
    if fill is not None and column.null_count:
        column = pc.if_else(pc.is_null(column), pa.array(fill, column.type), column)
    return np.asarray(column.to_numpy(zero_copy_only=False))


def _refuse_cycles(up: np.ndarray, child: np.ndarray, example: Callable[[int], str]) -> None:
    """Raise if following `up` from some child never comes to a root (pointer doubling: log2 n steps)."""
    ancestor = up
    for _ in range(max(1, len(up).bit_length())):
        ancestor = ancestor[ancestor]
    lost = child & child[ancestor] if len(up) else child
    if lost.any():
        row = int(lost.argmax())
        raise TraceError(
            f"{example(row)}: this event is among its own ancestors ({int(lost.sum())} events hang on a cycle of "
            "parents): the ids are damaged"
        )


def _backward_times(table: pa.Table, keep: np.ndarray, example: Callable[[int], str]) -> list[Problem]:
    problems = []
    for before, after in (("sent_at", "started_at"), ("started_at", "ended_at")):
        late = np.asarray(pc.fill_null(pc.less(table[after], table[before]), False)) & keep
        if late.any():
            what = f"events whose {after} is before their {before} (clocks disagree); counts do not depend on it"
            problems.append(Problem(what, int(late.sum()), example(int(late.argmax()))))
    return problems
