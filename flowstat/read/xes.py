"""XES event logs, also packed (.xes.gz): each trace is a case, each of its events an activity.

Plain blocks of traces are read by `flowstat.read.xes_blocks`; from the first that is not plain, the rest of the file
by expat. Both give the same. No more than a few blocks are in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO
from xml.parsers import expat

import numpy as np
import pyarrow as pa

from flowstat.errors import TraceError
from flowstat.read.mapping import Mapping
from flowstat.read.nodes import Template, template_of
from flowstat.read.notices import Notices
from flowstat.read.opening import open_unpacked, read_as_far
from flowstat.read.words import shown
from flowstat.read.xes_batches import SPAN_KEYS, Converter, LogConverter, SpanConverter
from flowstat.read.xes_blocks import Events, plain_events
from flowstat.read.xes_writer import MARK, NAME, TIME, XesWriter

__all__ = ["XesWriter", "read_xes"]

CUT_OFF = (3, 5, 6, 20)
"""Expat's codes for no element, an unclosed token, a partial character and an unclosed CDATA section."""

CHUNK = 1 << 20
STEP = 1 << 12
LONGEST = 64 << 20
"""Bytes of one trace beyond which the rest is left to expat, which needs not hold a trace whole."""
ROWS = 1 << 15
"""Events that a batch has at least, unless it is the last."""


def read_xes(path: Path, origin: str, mapping: Mapping, notices: Notices) -> Iterator[pa.RecordBatch]:
    """Read an XES log in batches.

    The case is the trace's `concept:name`; traces of one name are one case, and a trace without a name is called
    `(trace 3)` by its number. The activity is the event's `concept:name`, the time its `time:timestamp`, perhaps
    unknown. `mapping.case`, `activity` and `time` name other attributes for that, and `mapping.node` is filled with
    attributes of events, such as `{concept:name}+{lifecycle:transition}`. Events keep their order. A log that
    `XesWriter` wrote gives its spans back.

    Bad records are events without a name, outside of a trace, or with a time that can't be read; they are numbered
    from 1 in the file, as traces are. Where the file is cut off, damaged or not well-formed, the trace there and all
    behind it are one bad record; events of unknown time, which come last in their case, are noted.

    Yields
    ------
    pyarrow.RecordBatch
        Columns trace_id and name (dictionaries) and started_at; at least one batch, perhaps empty. Spans in
        `flowstat.read.canonical.span_schema` of a log of spans.

    Raises
    ------
    TraceError
        If the file can't be read or is not XES; for a bad record unless they are skipped.
    """
    with closing(open_unpacked(path, origin, notices)) as file:
        document = _Document(file, path, origin, mapping, notices)
        found: list[Events] = []
        rows = 0
        convert: Converter | None = None
        for events in document.events():
            convert = convert or document.converter()
            found.append(events)
            rows += len(events.case_of)
            if rows >= ROWS:
                yield convert.batch(found)
                found, rows = [], 0
        convert = convert or document.converter()
        if rows or not convert.events:
            yield convert.batch(found)


class _Broken(Exception):
    """The text is not XML from a line on: where, and why."""


class _Document:
    """One XES file, read from its start to its end."""

    def __init__(self, file: BinaryIO, path: Path, origin: str, mapping: Mapping, notices: Notices) -> None:
        self.file = file
        self.path = path
        self.origin = origin
        self.case = mapping.case or NAME
        self.time = mapping.time or TIME
        activity = mapping.activity or NAME
        self.template = template_of(mapping.node) or Template((activity,), (("", activity), ("", None)))
        self.notices = notices
        self.spans = False
        self._header = b""
        self._skipped = 0  # bytes after the header that the present parser did not see
        self._damage = ""
        self._walker: _Walker | None = None

    def events(self) -> Iterator[Events]:
        """Yield the events, some traces at once: of what can be read, up to the first trace that is not whole."""
        whole = 0
        try:
            for events in self._events():
                whole += len(events.cases)
                yield events
        except _Broken as broken:
            where, what = broken.args
            if self._walker is None:
                damage = f"can't read the trace {self.origin}: {self._damage}"
                raise TraceError(damage if self._damage else f"{where}: {what}") from None
            events = self._walker.take()
            whole += len(events.cases)
            yield events
            if not self._damage:
                self.notices.bad(where, f"{what}: can't read on from trace {whole + 1}")
        if self._damage:
            self.notices.bad(f"{self.origin}: trace {whole + 1}", f"can't read on: {self._damage}")

    def _events(self) -> Iterator[Events]:
        scout = _Walker(self, scouting=True)
        head = b""
        while scout.first < 0:
            step = self._read(STEP)
            head += step
            try:
                self._feed(scout, step)
            except _Broken:
                if scout.first < 0:
                    raise
            self.spans = scout.spans
            if not step:
                yield scout.take()
                return
        self._header, rest = head[: scout.first], head[scout.first :]
        plain = scout.plain and not head.startswith((b"\xfe\xff", b"\xff\xfe"))
        end = b"</trace>"
        while plain and (chunk := self._read(CHUNK)):
            rest += chunk
            cut = rest.rfind(end) + len(end)
            if cut < len(end):
                if len(rest) > LONGEST:
                    break
                continue
            events = plain_events(rest[:cut], scout.case, scout.keys)
            if events is None:
                break
            yield events
            rest = rest[cut:]
            self._skipped += cut
        walker = self._walker = _Walker(self, self._header)
        self._feed(walker, rest)
        chunk = b"-"
        while chunk:
            yield walker.take()
            chunk = self._read(CHUNK)
            self._feed(walker, chunk)
        yield walker.take()

    def _read(self, size: int) -> bytes:
        """Return so many bytes of the file, or as many as can be read."""
        if self._damage:
            return b""
        data, self._damage = read_as_far(self.file, size)
        return data

    def converter(self) -> Converter:
        """Return what makes batches of the events."""
        if self.spans:
            return SpanConverter(self.origin, self.notices)
        return LogConverter(self.origin, self.notices, self.template, self.time)

    def _feed(self, walker: _Walker, data: bytes) -> None:
        """Parse some bytes; none end the document."""
        try:
            walker.parser.Parse(data, not data)
        except expat.ExpatError as error:
            what = expat.ErrorString(error.code)
            where = f"{self.origin}:{self.line(walker.parser.ErrorLineNumber)}"
            if error.code in CUT_OFF:
                raise _Broken(where, f"the file ends within the log (cut off?): {what}") from None
            raise _Broken(where, f"not well-formed XML: {what}") from None
        except (LookupError, ValueError) as error:
            raise TraceError(f"{self.origin}: its encoding can't be read: {error}") from None

    def line(self, line: int) -> int:
        """Return the file's number of a line of the present parser."""
        skipped = self._skipped
        if skipped:
            with closing(open_unpacked(self.path, self.origin)) as file:
                read_as_far(file, len(self._header))
                while skipped and (data := read_as_far(file, min(skipped, CHUNK))[0]):
                    line += data.count(b"\n")
                    skipped -= len(data)
        return line


class _Walker:
    """Collects events as a parser tells of elements.

    Parameters
    ----------
    header
        What comes before the first trace, if that was read before.
    scouting
        Look for where the first trace begins, and no further.
    """

    def __init__(self, document: _Document, header: bytes = b"", scouting: bool = False) -> None:
        self.document = document
        self.parser = parser = expat.ParserCreate()
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.StartDoctypeDeclHandler = self._doctype
        parser.XmlDeclHandler = self._declaration
        self.plain = True
        """Whether the text is in an encoding that plain blocks are read in."""
        self.spans = False
        self.case = document.case
        self.keys: tuple[str, ...] = tuple(dict.fromkeys((*document.template.fields, document.time)))
        self.first = -1
        """Where the first trace begins."""
        self._levels: list[str] = []
        self._cases: list[str | None] = []
        self._case_of: list[int] = []
        self._rows: list[dict[str, str]] = []
        self._whole = 0, 0
        self._scouting = scouting
        self._told = True  # what the header says was told by the scout
        parser.Parse(header, False)
        self._told = False

    def take(self) -> Events:
        """Return the events of the traces that are whole, and forget them."""
        cases, rows = self._whole
        texts = {key: pa.array([row.get(key) for row in self._rows[:rows]], pa.string()) for key in self.keys}
        events = Events(pa.array(self._cases[:cases], pa.string()), np.array(self._case_of[:rows], np.int32), texts)
        del self._cases[:cases], self._case_of[:rows], self._rows[:rows]
        self._case_of = [case - cases for case in self._case_of]
        self._whole = 0, 0
        return events

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        above = self._levels[-1] if self._levels else ""
        level = tag.rpartition(":")[2]
        if not above:
            if level != "log":
                raise TraceError(f"{self.document.origin} is XML but no XES log: it begins with <{shown(tag)}>")
        elif level == "trace" and above == "log":
            self._cases.append(None)
            if self.first < 0:
                self.first = self.parser.CurrentByteIndex
                if self._scouting:
                    self.parser.StartElementHandler = self.parser.EndElementHandler = None
        elif level == "event" and above == "trace":
            self._case_of.append(len(self._cases) - 1)
            self._rows.append({})
        elif level == "event" and above == "log":
            level = "stray event"
            if not self._told:
                line = self.document.line(self.parser.CurrentLineNumber)
                self.document.notices.bad(f"{self.document.origin}:{line}", "an event outside of any trace")
        else:
            level = "attribute"
            key, value = attributes.get("key"), attributes.get("value")
            if key is not None and value is not None:
                self._attribute(above, key, value)
        self._levels.append(level)

    def _attribute(self, above: str, key: str, value: str) -> None:
        if above == "event":
            if key in self.keys:
                self._rows[-1][key] = value
        elif above == "trace":
            if key == self.case:
                self._cases[-1] = value
        elif above == "log" and key == MARK and value == "spans" and self.first < 0:
            self.spans, self.case, self.keys = True, NAME, SPAN_KEYS

    def _end(self, tag: str) -> None:
        if self._levels.pop() == "trace":
            self._whole = len(self._cases), len(self._rows)

    def _doctype(self, *_: Any) -> None:
        raise TraceError(f"{self.document.origin} declares a document type (DOCTYPE): an XES log has none")

    def _declaration(self, version: str, encoding: str | None, standalone: int) -> None:
        self.plain = encoding is None or encoding.lower() in ("utf-8", "us-ascii")
