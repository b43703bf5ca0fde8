"""The recorder: what the event loop notes of each event becomes batches of canonical rows."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flowstat.errors import OutputError
from flowstat.read.canonical import STATUSES, TIMES, TraceWriter, schema
from flowstat.run.codes import Codes

__all__ = ["DROPPED", "ERROR", "PENDING", "Recorder", "failed"]

ERROR: Final = -STATUSES.index("error")
DROPPED: Final = -STATUSES.index("dropped")
PENDING: Final = -STATUSES.index("pending")
"""In the column `sent`, a number below 0 is a status other than ok; such an event sent nothing, but see `failed`."""

Integers = npt.NDArray[np.int64]


def failed(sent: int) -> int:
    """Return what the column `sent` holds for an event that ended with an error and yet sent a pattern: tried again."""
    return ERROR if sent == 0 else PENDING - sent


class Recorder:
    """The rows since the last batch, column by column.

    An event loop appends to the lists itself. Rows are in the order of their span ids, which are 1, 2,
    3, ...: these need no list. Without a clock runs follow one another, and only where each begins is noted; with one,
    `runs` has the run of each row, and `times` when it was sent, started and ended.
    """

    def __init__(self, writer: TraceWriter, clocked: bool) -> None:
        self.hops: list[int] = []
        self.parents: list[int] = []
        self.sent: list[int] = []
        self.runs: list[int] = []
        self.times: tuple[list[int | None], list[int | None], list[int | None]] = ([], [], [])
        self._clocked = clocked
        self._writer = writer
        self._written = 0
        self._run = 0
        self._begins: list[int] = []

    def begin_run(self) -> None:
        """Note that the next row is the first of a new run."""
        self._begins.append(len(self.hops))

    def note(
        self, hop: int, parent: int, sent: int, run: int, sent_at: int | None, started: int | None, ended: int | None
    ) -> None:
        """Note a row of a run in time."""
        self.hops.append(hop)
        self.parents.append(parent)
        self.sent.append(sent)
        self.runs.append(run)
        sent_ats, starts, ends = self.times
        sent_ats.append(sent_at)
        starts.append(started)
        ends.append(ended)

    def add(self, hop: int, parent: int, sent: int, run: int, sent_at: int | None) -> None:
        """Note a row of a message that was not handled."""
        if self._clocked:
            self.note(hop, parent, sent, run, sent_at, None, None)
            return
        self.hops.append(hop)
        self.parents.append(parent)
        self.sent.append(sent)

    def write(self, codes: Codes) -> None:
        """Write the rows noted since the last batch as one batch.

        Raises
        ------
        OutputError
            If they can't be written; what was written before stays readable.
        """
        n = len(self.hops)
        if not n:
            return
        try:
            batch = self._batch(n, codes)
        except (UnicodeEncodeError, OverflowError, pa.ArrowException) as error:
            raise OutputError(f"these rows can't be stored in a trace: {error}") from None
        self._writer.write(batch)
        self._written += n
        for column in (self.hops, self.parents, self.sent, self.runs, *self.times):
            column.clear()

    def _batch(self, n: int, codes: Codes) -> pa.RecordBatch:
        hops, parents, sent = (np.fromiter(c, np.int64, n) for c in (self.hops, self.parents, self.sent))
        runs = np.fromiter(self.runs, np.int64, n) if self._clocked else self._following(n)
        status = np.where(sent >= 0, 0, np.where(sent >= PENDING, -sent, -ERROR))
        pattern = np.where(sent >= 0, sent, np.where(sent >= PENDING, 0, PENDING - sent))
        none = pa.nulls(n)
        nodes = pa.array(codes.nodes, pa.string())
        columns = {
            "trace_id": pa.array(runs.view(np.uint64)),
            "span_id": pa.array(np.arange(self._written + 1, self._written + n + 1, dtype=np.uint64)),
            "parent_id": pa.array(parents.view(np.uint64), mask=parents == 0),
            "parent": _words(codes.parent, hops, nodes),
            "name": _words(codes.name, hops, nodes),
            "key": _words(codes.key, hops, pa.array(codes.keys, pa.string())),
            "sent": _dictionary(pattern, pa.array(codes.sent, pa.string())),
            "status": _dictionary(status, pa.array(STATUSES)),
        }
        if self._clocked:
            for name, times in zip(TIMES, self.times, strict=True):
                columns[name] = pa.array(times, pa.int64()).view(pa.timestamp("ns", tz="UTC"))
        kinds = schema()
        return pa.RecordBatch.from_arrays(
            [columns[f.name] if f.name in columns else none.cast(f.type) for f in kinds], schema=kinds
        )

    def _following(self, n: int) -> Integers:
        """Return the run of each of n rows where runs follow one another."""
        begins = np.zeros(n + 1, np.int64)
        begins[np.array(self._begins, np.int64)] = 1
        runs: Integers = self._run + np.cumsum(begins[:n])
        self._run = int(runs[-1])
        # A run may have begun whose first row belongs to the next batch.
        self._begins = [0] if begins[n] else []
        return runs


def _words(of_hop: list[int], hops: Integers, words: pa.Array) -> pa.DictionaryArray:
    return _dictionary(np.fromiter(of_hop, np.int64, len(of_hop))[hops], words)


def _dictionary(codes: Integers, words: pa.Array) -> pa.DictionaryArray:
    missing = codes < 0
    indices = pa.array(codes.astype(np.int32), mask=missing if missing.any() else None)
    return pa.DictionaryArray.from_arrays(indices, words, safe=False)
