"""What the tests draw: names, keys, graphs, and forests of events as the rows that record them."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from flowstat.read.canonical import COLUMNS, schema
from flowstat.read.graph import Arrow, Component, Graph, Route
from flowstat.read.patterns import format_pattern

Row = dict[str, Any]

AWKWARD = ["graph", "digraph", "a->b", "-", ".", "a-", "@0.5", "@", "//", "/", "#", "*2", "{", '"', "\\", "[x]", ";"]
AWKWARD += ["a b", " ", "\n", "\r", "\t", "\0", "\x1c", "\u2028", "\ufeff", "é", "用户", "🙂", "\u0301", "1"]

names = st.sampled_from("abcd") | st.sampled_from(AWKWARD) | st.text(min_size=1, max_size=6)
keys = st.sampled_from(["#", "", "ok", "a.*", "eu.#.x", "##", "/", "a/b"]) | st.text(max_size=4)
shares = st.none() | st.floats(0, 0.1) | st.just(0.05)
arguments = st.sampled_from(["", "-", "[", "]]", '"', "//", "#", ";", "->"]) | st.text(max_size=5)


@st.composite
def graphs(draw: st.DrawFn, names: st.SearchStrategy[str] = names, components: int = 3) -> Graph:
    """Draw a graph: its nodes in any order, arrows with keys and shares, up to so many components."""
    triples = st.lists(st.builds(Arrow, names, keys, names, shares), max_size=8, unique_by=lambda arrow: arrow[:3])
    commands = st.lists(arguments, max_size=3).map(tuple)
    routes = st.lists(st.builds(Route, names, keys), max_size=3)
    beside = st.builds(Component, commands, names, routes.map(tuple)) | st.builds(
        Component, commands, st.none(), routes.filter(bool).map(tuple)
    )
    return Graph.of(draw(triples), draw(st.lists(names, max_size=5)), draw(st.lists(beside, max_size=components)))


def event(trace: int | str, span: int | str, name: str | None, **more: Any) -> Row:
    """Return a row of a trace: a root that sends nothing, unless told otherwise."""
    row: Row = dict.fromkeys(COLUMNS)
    return row | {"trace_id": trace, "span_id": span, "name": name, "sent": "", "status": "ok"} | more


@st.composite
def forests(draw: st.DrawFn, names: st.SearchStrategy[str] = names) -> list[Row]:
    """Draw the rows of some runs, in any order.

    Handlings fan out, fail and emit into nothing; some messages are never handled, some rows come twice,
    some parents were not recorded; ids are numbers or texts, the same in every run; clocks disagree.
    """
    label = draw(st.sampled_from([int, str]))
    rows: list[Row] = []
    for run in range(draw(st.integers(0, 4))):
        made: list[Row] = []
        for span in range(draw(st.integers(1, 8))):
            handled = [row for row in made if row["status"] in ("ok", "error")]
            parent = draw(st.sampled_from(handled)) if handled and draw(st.integers(0, 9)) else None
            status = draw(
                st.sampled_from(["ok", "ok", "ok", "error", "pending", "dropped"] if parent else ["ok", "error"])
            )
            times = draw(st.tuples(*[st.none() | st.integers(0, 2**61)] * 3))
            made.append(
                event(
                    label(run + 2**63),
                    label(span),
                    None if status == "dropped" else draw(names),
                    status=status,
                    parent=parent and parent["name"],
                    parent_id=parent and parent["span_id"],
                    **dict(zip(("sent_at", "started_at", "ended_at"), times, strict=True)),
                )
            )
        for row in made:
            children = [c["name"] for c in made if c["parent_id"] == row["span_id"] and c["status"] != "dropped"]
            row["sent"] = format_pattern(children)
        rows += made
    lost = draw(st.sets(st.integers(0, max(0, len(rows) - 1)), max_size=2))
    rows = [row for k, row in enumerate(rows) if k not in lost]
    rows += draw(st.lists(st.sampled_from(rows), max_size=3)) if rows else []
    return draw(st.permutations(rows))


def write_json_lines(path: Path, rows: Iterable[Row]) -> Path:
    """Write rows as JSON Lines, times as whole nanoseconds."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_parquet(path: Path, rows: Sequence[Row]) -> Path:
    """Write rows as one canonical Parquet file; each is a row group of few rows, as a recording's are."""
    texts = any(isinstance(row["trace_id"], str) for row in rows)
    pq.write_table(
        pa.Table.from_pylist(list(rows), schema(pa.string() if texts else pa.uint64())), path, row_group_size=3
    )
    return path


def line(trace: int | str, *nodes: str) -> list[Row]:
    """Return the rows of a run whose events each send one message on."""
    return [
        event(
            trace,
            k + 1,
            name,
            parent_id=k or None,
            parent=nodes[k - 1] if k else None,
            sent=format_pattern(nodes[k + 1 : k + 2]),
        )
        for k, name in enumerate(nodes)
    ]
