"""Counting by one scan over dictionary codes: for canonical Parquet whose ids are known to be right.

The recorder and the importer mark what they write (`flowstat.read.canonical.MARK`): no event is in it twice. Then
node and send pattern are all there is to look at, and no id is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flowstat.errors import TraceError
from flowstat.read.canonical import STARTS, STATUSES
from flowstat.read.words import shown

__all__ = ["Scanned", "scan_segments"]

ROWS = 1 << 18
"""Rows looked at together: enough that Python's share of the work is none, few enough for memory."""

WORKERS = 2

WORDS = ("name", "sent", "status", "parent")


@dataclass
class Scanned:
    """What the scan of a segment found, as numbers of rows."""

    events: Counter[tuple[str, str]] = field(default_factory=Counter)
    starts: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    pending: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    """Messages that no arrow took, of unknown sender."""
    rows: int = 0

    def add(self, other: Scanned) -> None:
        """Add what another segment says."""
        for mine, theirs in (
            (self.events, other.events),
            (self.starts, other.starts),
            (self.errors, other.errors),
            (self.pending, other.pending),
            (self.dropped, other.dropped),
        ):
            mine.update(theirs)  # type: ignore[arg-type]
        self.lost += other.lost
        self.rows += other.rows


def scan_segments(parts: Sequence[Path], progress: Callable[[Path, int], None] | None = None) -> Scanned:
    """Count the rows of canonical Parquet files, a few at once.

    Parameters
    ----------
    parts
        The segments of one trace.
    progress
        Called with each segment's path and number of rows when it is done.

    Raises
    ------
    TraceError
        If a segment can't be read or a row can't be counted, naming both.

    Notes
    -----
    Takes time linear in the rows and memory for a few batches and for the distinct (node, pattern) pairs.
    """
    total = Scanned()
    with ThreadPoolExecutor(WORKERS) as pool:
        for part, found in zip(parts, _ahead(pool, _scan, parts), strict=True):
            total.add(found)
            if progress:
                progress(part, found.rows)
    return total


def _ahead(pool: ThreadPoolExecutor, work: Callable[[Path], Scanned], parts: Iterable[Path]) -> Iterator[Scanned]:
    """Map in order, with only a few segments begun ahead of what is taken."""
    waiting = []
    for part in parts:
        waiting.append(pool.submit(work, part))
        if len(waiting) > 2 * WORKERS:
            yield waiting.pop(0).result()
    for future in waiting:
        yield future.result()


def _scan(part: Path) -> Scanned:
    found = Scanned()
    pairs = _Pairs(found.events)
    try:
        with pq.ParquetFile(part, read_dictionary=list(WORDS)) as file:
            starts = _starts(file.metadata.metadata or {})
            for group in range(file.num_row_groups):
                columns = _needed(file, group, starts is not None)
                for batch in file.iter_batches(ROWS, row_groups=[group], columns=columns, use_threads=False):
                    _add(found, pairs, batch, part, starts is None)
    except (pa.ArrowException, OSError) as error:
        first = shown(str(error).split("\n", 1)[0], 200)
        raise TraceError(f"{part} can't be read as Parquet (truncated or damaged?): {first}") from None
    pairs.flush()
    found.starts.update(starts or {})
    return found


def _starts(metadata: dict[bytes, bytes]) -> dict[str, int] | None:
    """Return where runs start, if the writer says so."""
    try:
        found = msgspec.json.decode(metadata.get(STARTS, b"null"), type=dict[str, int] | None)
    except msgspec.DecodeError:
        return None
    return found


def _needed(file: pq.ParquetFile, group: int, told: bool) -> list[str]:
    """Return the columns of a row group that its statistics don't answer for, nor the writer (where runs start)."""
    about = file.metadata.row_group(group)
    facts = {}
    for k in range(about.num_columns):
        column = about.column(k)
        if column.path_in_schema in ("parent", "parent_id", "status") and column.statistics is not None:
            facts[column.path_in_schema] = column.statistics
    columns = list(WORDS)
    status = facts.get("status")
    if status is not None and status.has_min_max and status.null_count == 0 and status.min == status.max == "ok":
        columns.remove("status")
        if told:
            columns.remove("parent")
    if told:
        return columns
    parents, ids = (
        facts[column].null_count if column in facts and facts[column].has_null_count else None
        for column in ("parent", "parent_id")
    )
    if parents is None or parents != ids:
        columns.append("parent_id")
    return columns


class _Pairs:
    """Numbers of (node, pattern) as one array, for as long as batches share their dictionaries."""

    def __init__(self, into: Counter[tuple[str, str]]) -> None:
        self.into = into
        self.words: tuple[pa.Array, pa.Array] | None = None
        self.numbers = np.zeros(0, np.int64)

    def add(self, name: pa.DictionaryArray, sent: pa.DictionaryArray, codes: np.ndarray) -> None:
        """Count codes: of the node times the number of patterns, plus of the pattern."""
        words = name.dictionary, sent.dictionary
        width = len(words[0]) * len(words[1])
        if width > max(4 * len(codes), 1 << 16):
            seen, numbers = np.unique(codes, return_counts=True)
            self._count(words, seen, numbers)
            return
        if self.words is None or not all(a.equals(b) for a, b in zip(words, self.words, strict=True)):
            self.flush()
            self.words, self.numbers = words, np.zeros(width, np.int64)
        self.numbers += np.bincount(codes, minlength=width)

    def flush(self) -> None:
        """Put what was counted under its words."""
        if self.words is not None:
            seen = np.flatnonzero(self.numbers)
            self._count(self.words, seen, self.numbers[seen])
        self.words = None

    def _count(self, words: tuple[pa.Array, pa.Array], codes: np.ndarray, numbers: np.ndarray) -> None:
        names, sents = (array.to_pylist() for array in words)
        for code, n in zip(codes.tolist(), numbers.tolist(), strict=True):
            at, pattern = divmod(code, len(sents))
            self.into[names[at], sents[pattern]] += n


def _add(found: Scanned, pairs: _Pairs, batch: pa.RecordBatch, part: Path, rooted: bool) -> None:
    """Add a batch; who is a root is looked at if asked."""
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    name, sent = columns["name"], columns["sent"]
    first = found.rows + 1
    found.rows += len(batch)
    names, name_codes = _codes(name)
    if sent.null_count:
        raise TraceError(f"{part}: row {first + pc.index(pc.is_null(sent), True).as_py()} has no sent")
    sent_codes = sent.indices.to_numpy()
    handled = None
    named = None if name.null_count == 0 else name_codes < len(names)
    if "status" in columns:
        statuses, status_codes = _codes(columns["status"])
        _refuse_status(statuses, status_codes, part, first)
        state = {word: status_codes == code for code, word in enumerate(statuses)}
        if state.keys() - {"ok"}:
            nobody = np.zeros(len(batch), bool)
            handled = state.get("ok", nobody) | state.get("error", nobody)
            dropped = state.get("dropped", nobody)
            found.errors.update(_tally(names, name_codes[state.get("error", nobody)]))
            found.pending.update(_tally(names, name_codes[state.get("pending", nobody)]))
            parents, parent_codes = _codes(columns["parent"])
            found.dropped.update(_tally(parents, parent_codes, dropped))
            found.lost += int((parent_codes[dropped] == len(parents)).sum())
            named = dropped if named is None else named | dropped
    if named is not None and name.null_count and not named.all():
        raise TraceError(f"{part}: row {first + int(named.argmin())} has no name: which node handled it?")
    if "" in names and (name_codes == names.index("")).any():
        row = first + int(np.argmax(name_codes == names.index("")))
        raise TraceError(f"{part}: row {row} has an empty name: which node handled it?")
    if rooted:
        root = _nulls(columns.get("parent_id", columns["parent"]))
        found.starts.update(_tally(names, name_codes[root if handled is None else root & handled]))
    if handled is not None:
        name_codes, sent_codes = name_codes[handled], sent_codes[handled]
    wide = len(names) * len(sent.dictionary) >= 2**31
    name_codes = name_codes.astype(np.int64) if wide else name_codes
    pairs.add(name, sent, name_codes * len(sent.dictionary) + sent_codes)


def _nulls(column: pa.Array) -> np.ndarray:
    if not column.null_count:
        return np.zeros(len(column), bool)
    return np.asarray(pc.is_null(column))


def _codes(column: pa.DictionaryArray) -> tuple[list[str], np.ndarray]:
    """Return a column's words and its codes; a null has the code after the last word's."""
    words = column.dictionary.to_pylist()
    indices = column.indices
    if indices.null_count:
        indices = indices.fill_null(len(words))
    return words, indices.to_numpy()


def _tally(words: list[str], codes: np.ndarray, rows: np.ndarray | None = None) -> dict[str, int]:
    """Return how often each word comes among the codes (of some rows); nulls are left out."""
    numbers = np.bincount(codes if rows is None else codes[rows], minlength=1)
    return {words[code]: int(numbers[code]) for code in np.flatnonzero(numbers).tolist() if code < len(words)}


def _refuse_status(statuses: list[str], codes: np.ndarray, part: Path, first: int) -> None:
    known = [code for code, word in enumerate(statuses) if word in STATUSES]
    strange = ~np.isin(codes, known)
    if strange.any():
        row = int(strange.argmax())
        if codes[row] == len(statuses):
            raise TraceError(f"{part}: row {first + row} has no status")
        what = f"has the status {shown(repr(statuses[codes[row]]))}: it is one of {', '.join(STATUSES)}"
        raise TraceError(f"{part}: row {first + row} {what}")
