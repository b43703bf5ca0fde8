"""Traces: found by name, told apart by content, read lazily as Arrow batches."""

from __future__ import annotations

import glob
import shutil
import sys
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from flowstat.errors import TraceError
from flowstat.read.canonical import schema
from flowstat.read.formats import SUFFIXES, recognise
from flowstat.read.mapping import Mapping, duration
from flowstat.read.notices import Notices
from flowstat.read.parquet import Marks, marks_of
from flowstat.read.words import shown

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
    """

    format: str
    origins: tuple[str, ...]
    parts: tuple[Path, ...]
    mapping: Mapping = field(default_factory=Mapping)

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
        Files, directories, glob patterns, or `-` for standard input; in any format that
        `flowstat.read.formats.recognise` tells by content, plain or packed with gzip or zstd.
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
    found: list[tuple[str, str, tuple[Path, ...]]] = []
    with ExitStack() as copies:
        for path in paths:
            if str(path) == "-":
                copy = copies.enter_context(tempfile.NamedTemporaryFile(prefix="flowstat-stdin-"))
                shutil.copyfileobj(sys.stdin.buffer, copy)
                copy.flush()
                found.append((recognise(Path(copy.name), "<stdin>"), "<stdin>", (Path(copy.name),)))
            else:
                found.extend(_find(str(path)))
        if not found:
            raise TraceError("no trace given")
        _refuse_idle(how, found)
        traces = Traces(tuple(_together(found, how)))
        weakref.finalize(traces, copies.pop_all().close)
    return traces


def _refuse_idle(mapping: Mapping, found: Sequence[tuple[str, str, tuple[Path, ...]]]) -> None:
    """Raise a TraceError if an option was given that changes nothing about any of the traces."""
    for option in mapping.given:
        formats = _FOR.get(option)
        if formats and not any(format in formats for format, _, _ in found):
            format, origin, _ = found[0]
            *some, last = dict.fromkeys(_WORDS[format] for format in formats)
            use = f"{', '.join(some)} and {last}" if some else last
            rest = "" if len(found) == 1 else ", and none of the others is such"
            raise TraceError(f"--{option} is for {use}: {origin} is {_WORDS[format]}{rest}")


def _together(found: Sequence[tuple[str, str, tuple[Path, ...]]], mapping: Mapping) -> Iterator[TraceFile]:
    """Yield canonical traces and counts one by one, and the files of each foreign format together."""
    foreign: dict[str, list[tuple[str, tuple[Path, ...]]]] = {}
    for format, origin, parts in found:
        if format in (*CANONICAL, "counts"):
            yield TraceFile(format, (origin,), parts, mapping)
        else:
            foreign.setdefault(format, []).append((origin, parts))
    for format, files in foreign.items():
        origins = tuple(origin for origin, _ in files)
        yield TraceFile(format, origins, tuple(part for _, parts in files for part in parts), mapping)


def _find(path: str) -> Iterator[tuple[str, str, tuple[Path, ...]]]:
    try:
        if Path(path).exists():
            matches = [path]
        elif glob.has_magic(path):
            matches = sorted(glob.glob(path, recursive=True))
        else:
            matches = []
    except (OSError, ValueError) as error:
        raise TraceError(f"can't read the trace {shown(path, 200)}: {error}") from None
    if not matches:
        raise TraceError(f"no such trace: {shown(path, 200)}")
    for match in matches:
        place = Path(match)
        if not place.is_dir():
            yield recognise(place, match), match, (place,)
            continue
        segments = tuple(sorted(place.glob("part-*.parquet")))
        if segments:
            yield recognise(segments[0], match), match, segments
            continue
        try:
            # A link to a directory may lead back: it is not followed.
            seen = (p for p in place.iterdir() if not p.name.startswith("."))
            inside = sorted(p for p in seen if (not p.is_symlink() if p.is_dir() else _is_trace(p)))
        except OSError as error:
            raise TraceError(f"can't read the directory {match}: {error.strerror}") from None
        if not inside:
            raise TraceError(f"{match} is a directory without traces (*{', *'.join(SUFFIXES)})")
        for entry in inside:
            yield from _find(str(entry))


def _is_trace(path: Path) -> bool:
    return path.name.lower().removesuffix(".gz").removesuffix(".zst").endswith(SUFFIXES)
