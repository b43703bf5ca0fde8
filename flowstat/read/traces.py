"""Traces: found by name, told apart by content, read lazily as Arrow batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from flowstat.errors import TraceError
from flowstat.read.canonical import schema
from flowstat.read.finding import Found, find_traces
from flowstat.read.mapping import Mapping, duration
from flowstat.read.notices import Notices
from flowstat.read.opening import Stand
from flowstat.read.parquet import Marks, marks_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TraceFile", "Traces", "read_traces"]

# What reads each format; imported when it is met. It takes a file, its name in messages, how it is read, and where
# problems go to.
_READERS = {
    "parquet": ("flowstat.read.parquet", "read_parquet"),
    "jsonl": ("flowstat.read.jsonlines", "read_json_lines"),
    "table": ("flowstat.read.tables", "read_table"),
    "csv": ("flowstat.read.tables", "read_table"),
    "otlp": ("flowstat.read.otlp", "read_otlp"),
    "jaeger": ("flowstat.read.jaeger", "read_jaeger"),
    "zipkin": ("flowstat.read.zipkin", "read_zipkin"),
    "xes": ("flowstat.read.xes", "read_xes"),
    "ocel_json": ("flowstat.read.ocel", "read_ocel"),
    "ocel_sqlite": ("flowstat.read.ocel", "read_ocel"),
}

CANONICAL = ("parquet", "jsonl")

TOGETHER = ("zipkin",)
"""Formats whose reader takes all files at once: what belongs together may stand in two of them."""

_WORDS = {
    "parquet": "canonical Parquet",
    "jsonl": "canonical JSON Lines",
    "table": "Parquet tables",
    "csv": "CSV",
    "otlp": "OTLP/JSON",
    "jaeger": "Jaeger",
    "zipkin": "Zipkin",
    "xes": "XES",
    "ocel_json": "OCEL",
    "ocel_sqlite": "OCEL",
    "counts": "counts",
}

# Which formats each of the options is for that not all have a use for.
_TABLES = ("csv", "table")
_FOR = {
    "case": (*_TABLES, "xes", "ocel_json", "ocel_sqlite"),
    **dict.fromkeys(("activity", "time"), (*_TABLES, "xes")),
    **dict.fromkeys(("trace", "span", "parent", "name"), _TABLES),
    "node": (*_TABLES, "otlp", "jaeger", "zipkin", "xes"),
    "cut": tuple(format for format in _WORDS if format != "counts"),
}


@dataclass(frozen=True)
class TraceFile:
    """Rows that belong together: one canonical trace, or all files of one foreign format.

    The ids of a canonical trace are its own, and so two of them never share a run. Those of other formats are
    the world's: a run may go on from file to file.

    Attributes
    ----------
    format
        See `flowstat.read.formats.recognise`.
    origins, parts
        The names of its files in messages, and where they are.
    mapping
        How they are read.
    stands
        What has to be kept for as long as the parts are read: some may be temporary.
    """

    format: str
    origins: tuple[str, ...]
    parts: tuple[Path, ...]
    mapping: Mapping = field(default_factory=Mapping)
    stands: tuple[Stand, ...] = field(default=(), repr=False, compare=False)

    @property
    def origin(self) -> str:
        """Its name in messages."""
        more = len(self.origins) - 1
        return self.origins[0] if not more else f"{self.origins[0]} and {more} more"

    @property
    def is_canonical(self) -> bool:
        """Whether it has the canonical columns."""
        return self.format in CANONICAL

    @property
    def is_marked(self) -> bool:
        """Whether its writer vouches for its ids: see `flowstat.read.canonical.MARK`."""
        return self.marks() is not None

    def marks(self) -> Marks | None:
        """Return what its writer vouches for, if anything."""
        return marks_of(self.parts) if self.format == "parquet" else None

    def batches(self, notices: Notices | None = None) -> Iterator[pa.RecordBatch]:
        """Read the rows in order, in the canonical schema, that of spans, or as a log's case, activity and time.

        Raises
        ------
        TraceError
            Naming the file, and the line, row or record, that can't be read.
        """
        notices = notices or Notices(self.mapping.skip_bad)
        module, name = _READERS[self.format]
        read = getattr(import_module(module), name)
        names = self.origins if len(self.origins) == len(self.parts) else map(str, self.parts)
        files = list(zip(self.parts, names, strict=True))
        if self.format in TOGETHER:
            yield from read(files, self.mapping, notices)
            return
        if self.format in _TABLES:
            read = partial(read, units={})
        ids: pa.DataType | None = None
        shape: tuple[bool, object] | None = None
        for part, origin in files:
            for batch in read(part, origin, self.mapping, notices):
                kind = batch.schema.field("trace_id").type
                if self.is_canonical and kind != (ids or kind):
                    raise TraceError(f"{origin}: its ids are {kind}, those before it {ids}: all are one or the other")
                is_log = "span_id" not in batch.schema.names
                if not self.is_canonical and shape not in (None, (is_log, is_log and kind)):
                    raise TraceError(
                        f"{origin}: it is not of the same kind as the files before it (spans, or a log whose cases are "
                        f"{ids}): count it by itself, and merge the counts"
                    )
                ids, shape = kind, (is_log, is_log and kind)
                yield batch


@dataclass(frozen=True)
class Traces:
    """Recorded traces, read lazily: nothing is in memory until it is counted."""

    files: tuple[TraceFile, ...]

    def batches(self, notices: Notices | None = None) -> Iterator[pa.RecordBatch]:
        """Read all rows, file by file; what was found on the way goes to `notices`.

        Canonical rows come as they were recorded. Spans and logs become canonical: parents, send patterns and ids
        are worked out on disk, see `flowstat.read.resolve`.
        """
        from flowstat.read.resolve import canonical_batches

        for file in self.files:
            told = notices or Notices(file.mapping.skip_bad)
            yield from file.batches(told) if file.is_canonical else canonical_batches(file, told)

    def frame(self) -> pd.DataFrame:
        """Return all rows as a pandas data frame, with the canonical columns; ids are texts if any file's are."""
        import pandas as pd

        batches = [batch.select(schema().names) for batch in self.batches()]
        texts = any(pa.types.is_string(batch.schema.field("trace_id").type) for batch in batches)
        want = schema(pa.string() if texts else pa.uint64())
        tables = [pa.Table.from_batches([batch]).cast(want) for batch in batches]
        whole = pa.concat_tables([want.empty_table(), *tables]).unify_dictionaries()
        # Ids beyond 2**53 beside a null would lose digits as floats.
        frame: pd.DataFrame = whole.to_pandas(types_mapper={pa.uint64(): pd.UInt64Dtype()}.get)
        return frame


def read_traces(*paths: str | Path, **mapping: Any) -> Traces:
    """Find traces; their rows are read when they are counted.

    Parameters
    ----------
    *paths
        Files, directories, glob patterns, pipes, or `-` for standard input; in any format that
        `flowstat.read.formats.recognise` tells by content, plain or packed with gzip or zstd. A file that is found
        twice is read once.
    **mapping
        How foreign formats are read: `case`, `activity`, `time`, `trace`, `span`, `parent`, `name` (columns), `node`
        (a template such as `"{service}.{name}"`), `cut` (a duration such as `"90s"`, or nanoseconds), `skip_bad`. See
        `flowstat.read.mapping.Mapping`.

    Raises
    ------
    TraceError
        If nothing is there, or a file is empty or in no known format; if an option is for none of the formats.
    """
    if isinstance(mapping.get("cut"), str):
        mapping["cut"] = duration(mapping["cut"])
    how = Mapping(**mapping)
    found = find_traces(map(str, paths))
    if not found:
        raise TraceError("no trace given")
    _refuse_idle(how, found)
    return Traces(tuple(_together(found, how)))


def _refuse_idle(mapping: Mapping, found: Sequence[Found]) -> None:
    """Raise a TraceError if an option was given that changes nothing about any of the traces."""
    for option in mapping.given:
        formats = _FOR.get(option)
        if formats and not any(one.format in formats for one in found):
            *some, last = dict.fromkeys(_WORDS[format] for format in formats)
            use = f"{', '.join(some)} and {last}" if some else last
            rest = "" if len(found) == 1 else ", and none of the others is such"
            raise TraceError(f"--{option} is for {use}: {found[0].origin} is {_WORDS[found[0].format]}{rest}")


def _together(found: Sequence[Found], mapping: Mapping) -> Iterator[TraceFile]:
    """Yield canonical traces and counts one by one, and the files of each foreign format together."""
    foreign: dict[str, list[Found]] = {}
    for one in found:
        if one.format in (*CANONICAL, "counts"):
            yield TraceFile(one.format, (one.origin,), one.parts, mapping, one.stands)
        else:
            foreign.setdefault(one.format, []).append(one)
    for format, some in foreign.items():
        origins = tuple(one.origin for one in some)
        parts = tuple(part for one in some for part in one.parts)
        yield TraceFile(format, origins, parts, mapping, tuple(stand for one in some for stand in one.stands))
