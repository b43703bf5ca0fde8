"""Files of spans for the tests: rows written and read back, documents read, what readers say of odd ones."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pytest
from hypothesis import strategies as st

from flowstat.errors import TraceError
from flowstat.read.canonical import COLUMNS, TraceWriter, links_type, schema, span_schema
from flowstat.read.mapping import Mapping
from flowstat.read.notices import Notices
from flowstat.read.own_spans import Ids
from tests.strategies import Row, forests

Reader = Callable[[Path, str, Mapping, Notices], Iterator[pa.RecordBatch]]

TIMES = ("sent_at", "started_at", "ended_at")


@st.composite
def linked_forests(draw: st.DrawFn) -> list[Row]:
    """Draw a forest whose events have keys, workers and links too, and times before 1970."""
    rows = []
    for row in draw(forests()):
        links = draw(st.lists(st.sampled_from(rows), max_size=2)) if rows else []
        more = {
            "key": draw(st.sampled_from([None, "", "eu.ok"])),
            "worker": draw(st.sampled_from([None, "", "w1", "w2"])),
            "links": [{"trace_id": link["trace_id"], "span_id": link["span_id"]} for link in links] or None,
        }
        if draw(st.integers(0, 9)) == 0:
            more |= {"started_at": draw(st.integers(-(2**63), 2**63 - 1)), "name": row["name"] or draw(st.just("lost"))}
        rows.append(row | more)
    return rows


def batch_of(rows: Sequence[Row]) -> pa.RecordBatch:
    """Return rows as a canonical batch with links."""
    ids = pa.string() if any(isinstance(row["trace_id"], str) for row in rows) else pa.uint64()
    want = pa.schema([*schema(ids), pa.field("links", links_type(ids))])
    return pa.RecordBatch.from_pylist([row if "links" in row else row | {"links": None} for row in rows], schema=want)


def write(writer: TraceWriter, rows: Sequence[Row], size: int = 3) -> None:
    """Write rows in batches of so many."""
    with writer:
        for start in range(0, len(rows), size):
            writer.write(batch_of(rows[start : start + size]))


def plain(batch: pa.RecordBatch) -> list[Row]:
    """Return a batch's rows with times in nanoseconds."""
    columns = {}
    for field, column in zip(batch.schema, batch.columns, strict=True):
        columns[field.name] = (column.cast(pa.int64()) if pa.types.is_timestamp(field.type) else column).to_pylist()
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def read(reader: Reader, path: Path, notices: Notices | None = None, **mapping: Any) -> list[Row]:
    """Read a file's rows; its batches are what the schema of spans says."""
    rows: list[Row] = []
    for batch in reader(path, "traces.json", Mapping(**mapping), notices or Notices()):
        batch.validate(full=True)
        assert batch.schema.equals(span_schema())
        rows += plain(batch)
    return rows


def read_text(
    reader: Reader, tmp_path: Path, content: Any, notices: Notices | None = None, **mapping: Any
) -> list[Row]:
    """Read a file with that content: bytes, or what becomes JSON."""
    path = tmp_path / "traces.json"
    path.write_bytes(content if isinstance(content, bytes) else orjson.dumps(content))
    return read(reader, path, notices, **mapping)


def complaint(reader: Reader, tmp_path: Path, content: Any) -> str:
    """Return the error that a file is refused with; with bad records skipped, the same is counted."""
    with pytest.raises(TraceError) as caught:
        read_text(reader, tmp_path, content)
    notices = Notices(skip_bad=True)
    read_text(reader, tmp_path, content, notices)
    assert notices.problems[0].example == str(caught.value)
    return str(caught.value)


def is_refused_well(reader: Reader, tmp_path: Path, content: bytes) -> bool:
    """Whether a file, with bad records skipped or not, is read, or refused with its name."""
    for skip in (False, True):
        try:
            read_text(reader, tmp_path, content, Notices(skip_bad=skip))
        except TraceError as error:
            if not str(error).startswith("traces.json"):
                return False
    return True


def relabelled(rows: Sequence[Row]) -> Counter[str]:
    """Return rows with their ids as the writers of spans write them, in any order."""
    traces, spans = Ids(32), Ids(16)
    found = []
    for row in rows:
        new = {column: row[column] for column in COLUMNS}
        new["trace_id"] = traces.hex(row["trace_id"])
        new["span_id"] = spans.hex(row["span_id"])
        new["parent_id"] = None if row["parent_id"] is None else spans.hex(row["parent_id"])
        links = row.get("links") or []
        new["links"] = [
            {"trace_id": traces.hex(link["trace_id"]), "span_id": spans.hex(link["span_id"])} for link in links
        ] or None
        found.append(new)
    return counted(found)


def counted(rows: Sequence[Row]) -> Counter[str]:
    """Return how often each row comes."""
    return Counter(repr(sorted(row.items())) for row in rows)
