"""What the writers of spans share: a draft that becomes the file when all is written, and ids in hex digits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa

from flowstat.errors import OutputError
from flowstat.read.own_spans import Ids, rows_of
from flowstat.read.span_rows import SpanRow

__all__ = ["SpanWriter"]


class SpanWriter:
    """Takes canonical batches; nothing is at `path` before the writer closes, or if the block that it serves fails.

    Raises
    ------
    OutputError
        From every method, if the place can't be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.traces, self.spans = Ids(32), Ids(16)
        self._draft = path.with_name(f".{path.name}.draft")
        with self._writing():
            self.file = self._draft.open("wb")

    def write(self, batch: pa.RecordBatch) -> None:
        """Take rows in the canonical schema, perhaps with a column `links`."""
        with self._writing():
            self.take([self._relabelled(row) for row in rows_of(batch)])

    def close(self) -> None:
        """Finish the file; one without any rows can be read too."""
        if self.file.closed:
            return
        with self._writing():
            self.finish()
            self.file.close()
            os.replace(self._draft, self.path)

    def take(self, rows: list[SpanRow]) -> None:
        """Write rows, or keep them; their ids are hex digits."""
        raise NotImplementedError

    def finish(self) -> None:
        """Write what is still to be written."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._discard()

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

    def _discard(self) -> None:
        with suppress(OSError, AttributeError):
            self.file.close()
        with suppress(OSError):
            self._draft.unlink()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._discard()
            raise OutputError(f"can't write the trace {self.path}: {error.strerror or error}") from error
        except OutputError:
            self._discard()
            raise
