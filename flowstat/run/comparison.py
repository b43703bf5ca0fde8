"""Whether a replay does what was recorded: its rows, and the states at its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from flowstat.errors import RunError
from flowstat.read.canonical import schema, to_json_rows
from flowstat.read.words import shown
from flowstat.results import Result, Row, counted
from flowstat.run.tally import RunResult

__all__ = ["Comparison", "Difference", "ReplayResult", "compare_states"]

Line = dict[str, object]


class Difference(NamedTuple):
    """Where a replay differs: `span` is the event's id, `node` its node, `what` a column, and both its values."""

    span: int | None
    node: str | None
    what: str
    recorded: object
    replayed: object

    def sentence(self) -> str:
        """Return what differs."""
        where = f"event {self.span:,}" if self.span is not None else "the end"
        at = f" at {shown(self.node)}" if self.node is not None else ""
        return (
            f"The replay differs at {where}{at}: {self.what} was {shown(repr(self.recorded))} and is "
            f"{shown(repr(self.replayed))}. Its behaviour, or one before it, uses what is not in the journal: "
            "real time, chance of its own, a file, a network; or the code is not the code that ran."
        )


@dataclass(frozen=True)
class ReplayResult(Result):
    """What a replay did: how the run went, and where it differs from what was recorded, if it does."""

    title: ClassVar[str] = "Where the replay differs"
    columns: ClassVar[tuple[str, ...]] = ("span", "node", "what", "recorded", "replayed")

    run: RunResult
    compared: int
    differences: tuple[Difference, ...]
    torn: int = 0

    def rows(self) -> list[Row]:
        """Return the differences, a line each."""
        return [d._asdict() for d in self.differences]

    def to_dict(self) -> dict[str, Any]:
        """Return all of the result as JSON-ready data."""
        return {**super().to_dict(), "run": self.run.to_dict(), "differences": self.rows()}

    def notes(self) -> tuple[str, ...]:
        """Return `sentences`."""
        return tuple(self.sentences())

    def sentences(self) -> list[str]:
        """Return what happened, a sentence each."""
        said = [f"Replayed {counted(self.run.events, 'event')} in {counted(self.run.runs, 'run')}."]
        if self.torn:
            said.append(f"The journal's last {counted(self.torn, 'byte')} were cut off in writing, and are left out.")
        said += [d.sentence() for d in self.differences]
        if not self.differences and self.compared:
            said.append(f"{counted(self.compared, 'row')} of the trace compared: all are the same.")
        return said


class Comparison:
    """A trace writer that compares what a replay writes with a recorded trace, row by row, and hands it on."""

    def __init__(self, recorded: str | Path, writer: Any = None) -> None:
        self._recorded = _rows(Path(recorded))
        self._writer = writer
        self.path = Path(recorded)
        self.compared = 0
        self.difference: Difference | None = None

    def write(self, batch: pa.RecordBatch) -> None:
        """Compare a batch."""
        if self._writer is not None:
            self._writer.write(batch)
        if self.difference:
            return
        rows = to_json_rows(batch)
        for old, new in zip_longest(islice(self._recorded, len(rows)), rows):
            if old is None:  # the trace of a run that was killed ends before its journal does
                return
            if old != new:
                self.difference = _difference(old, new)
                return
            self.compared += 1

    def rest(self) -> Difference | None:
        """Return the first difference; a row that is recorded and was not replayed is one too."""
        if self.difference is None:
            left = next(self._recorded, None)
            if left is not None:
                span: Any = left.get("span_id")
                self.difference = Difference(span, str(left.get("name")), "status", left.get("status"), None)
        return self.difference

    def close(self) -> None:
        """Close what it hands on to."""
        if self._writer is not None:
            self._writer.close()

    def __enter__(self) -> Comparison:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def compare_states(recorded: Mapping[str, str], states: Mapping[str, str]) -> Difference | None:
    """Return the first node whose state is another one at the end."""
    for node in sorted({*recorded, *states}):
        if recorded.get(node) != states.get(node):
            return Difference(None, node, "the state's digest", recorded.get(node), states.get(node))
    return None


def _difference(old: Line, new: Line) -> Difference:
    what = next(column for column in new if old.get(column) != new[column])
    span: Any = old["span_id"]
    # A row that is not as it was shows what the event that sent it did; what it sent itself, that shows its own.
    node = old["name"] if what in ("sent", "status") or old["parent"] is None else old["parent"]
    if what not in ("sent", "status") and isinstance(old["parent_id"], int):
        span = old["parent_id"]
    return Difference(span, None if node is None else str(node), what, old.get(what), new[what])


def _rows(path: Path) -> Iterator[Line]:
    """Yield a canonical trace's rows in their order, as JSON-ready data."""
    try:
        if path.is_dir() or path.suffix == ".parquet":
            files = sorted(path.glob("part-*.parquet")) if path.is_dir() else [path]
            kinds = schema()
            for file in files:
                for batch in pq.ParquetFile(file).iter_batches():
                    yield from to_json_rows(
                        pa.RecordBatch.from_arrays([batch.column(f.name).cast(f.type) for f in kinds], schema=kinds)
                    )
            return
        with path.open("rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):  # cut off by a kill
                    return
                yield orjson.loads(line)
    except (OSError, pa.ArrowException, orjson.JSONDecodeError, KeyError) as error:
        raise RunError(f"can't read the recorded trace {path}: {error}") from None
