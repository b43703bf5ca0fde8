"""The bad records of one batch: each told once, and left out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from flowstat.read.notices import Notices

__all__ = ["BadRows"]


class BadRows:
    """Collects which rows of a batch are bad, and what is wrong with them.

    Parameters
    ----------
    place
        Gives what messages call a row of the batch: the file and the record's number.
    """

    def __init__(self, notices: Notices, place: Callable[[int], str]) -> None:
        self._notices = notices
        self._place = place
        self._reasons: list[tuple[np.ndarray, Callable[[int], str]]] = []

    def add(self, rows: np.ndarray | None, what: Callable[[int], str]) -> None:
        """These rows, if any, are bad; `what` tells why for each. Of several reasons the first is told."""
        if rows is not None and rows.any():
            self._reasons.append((rows, what))

    def drop(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Report the bad rows; return the batch without them.

        Raises
        ------
        TraceError
            For the first bad row, unless they are skipped.
        """
        if not self._reasons:
            return batch
        bad = np.logical_or.reduce([rows for rows, _ in self._reasons])
        for row in np.flatnonzero(bad).tolist():
            what = next(what for rows, what in self._reasons if rows[row])
            self._notices.bad(self._place(row), what(row))
        return batch.filter(pa.array(~bad))
