"""What the writers of spans share: ids in hex digits."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pyarrow as pa

from flowstat.read.drafts import DraftWriter
from flowstat.read.own_spans import Ids, rows_of
from flowstat.read.span_rows import SpanRow

__all__ = ["SpanWriter"]


class SpanWriter(DraftWriter):
    """Takes canonical batches, and relabels their ids in hex digits.

    Raises
    ------
    OutputError
        From every method, if the place can't be written.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.traces, self.spans = Ids(32), Ids(16)
        with self.writing():
            self.file = self.draft.open("wb")

    def write(self, batch: pa.RecordBatch) -> None:
        """Take rows in the canonical schema, perhaps with a column `links`."""
        with self.writing():
            self.take([self._relabelled(row) for row in rows_of(batch)])

    def close(self) -> None:
        """Finish the file; one without any rows can be read too."""
        if self.file.closed:
            return
        with self.writing():
            self.finish()
            self.file.close()
            self.settle()

    def take(self, rows: list[SpanRow]) -> None:
        """Write rows, or keep them; their ids are hex digits."""
        raise NotImplementedError

    def finish(self) -> None:
        """Write what is still to be written."""

    def _relabelled(self, row: SpanRow) -> SpanRow:
        return row._replace(
            trace_id=self.traces.hex(row.trace_id),
            span_id=self.spans.hex(row.span_id),
            parent_id=None if row.parent_id is None else self.spans.hex(row.parent_id),
            links=tuple(
                {"trace_id": self.traces.hex(link["trace_id"]), "span_id": self.spans.hex(link["span_id"])}
                for link in row.links or ()
            ),
        )

    def discard(self) -> None:
        """Remove the draft."""
        with suppress(OSError, AttributeError):
            self.file.close()
        super().discard()
