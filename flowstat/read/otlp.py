"""OTLP/JSON: the spans of OpenTelemetry, as one document or (the collector's file exporter) one document a line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import orjson
import pyarrow as pa

from flowstat.errors import TraceError
from flowstat.read.documents import first_lines, is_one_a_line
from flowstat.read.formats import OTLP_KEYS
from flowstat.read.jsonlines import CUT_OFF
from flowstat.read.mapping import Mapping
from flowstat.read.notices import Notices
from flowstat.read.opening import open_unpacked
from flowstat.read.otlp_spans import SpanDecoder

__all__ = ["read_otlp"]

BLOCK = 1 << 22

KEYS = (*OTLP_KEYS, "batches")


def read_otlp(path: Path, origin: str, mapping: Mapping, notices: Notices) -> Iterator[pa.RecordBatch]:
    """Read spans of OTLP/JSON in batches of `flowstat.read.canonical.span_schema`.

    Both spellings of the fields are read (`resourceSpans`, `resource_spans`), `instrumentationLibrarySpans`, and
    `batches` in place of `resourceSpans`, as Tempo answers; documents of other signals are left out and noted. Ids are
    32 and 16 hex digits, or as many bytes in base64, told apart by length and alphabet; they come out in lower-case
    hex. A parent's id that is empty or all zeros is none. A time of 0 is unknown. The status is `error` where the
    span's code is 2. What is a node, see `flowstat.read.nodes`; the worker is the resource's `service.instance.id`,
    `host.name` or `k8s.pod.name`. Spans of the scope `flowstat` are canonical rows that `flowstat convert` wrote, and
    come back as they were.

    What no column needs is skipped and not checked: of a span that is read, an attribute can be damaged.

    Raises
    ------
    TraceError
        Naming the file, the line where documents are lines, and the span.
    """
    try:
        with open_unpacked(path, origin, notices) as file:
            head = first_lines(file)
            if not is_one_a_line(head, _is_whole):
                text = b"".join(head) + file.read()
                _check(text, origin)
                yield from SpanDecoder(mapping.node).batches([(origin, text)], notices)
                return
            decoder = SpanDecoder(mapping.node)
            for first, lines in _blocks(head, file, origin, notices):
                places = enumerate(lines, first)
                yield from decoder.batches(
                    [(f"{origin}:{n}", line) for n, line in places if not line.isspace()], notices
                )
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
        raise TraceError(f"{origin}: can't read it to its end: {reason}") from None


def _is_whole(value: Any) -> bool:
    return isinstance(value, dict) and (not value or any(key in value for key in KEYS))


def _check(text: bytes, origin: str) -> None:
    """Raise a TraceError if a text is no JSON at all: nothing of it can be read then."""
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise TraceError(f"{origin}: not JSON (cut off or damaged?): {error}") from None


def _blocks(head: list[bytes], file: BinaryIO, origin: str, notices: Notices) -> Iterator[tuple[int, list[bytes]]]:
    """Yield a file's lines, some megabytes at a time, with the number of the first.

    Those before a place that can't be read come too. A last line without its line end that is no JSON is what a killed
    writer leaves: it is left out and reported.
    """
    lines, size, first = head, 0, 1
    failure: OSError | EOFError | None = None
    try:
        for line in file:
            lines.append(line)
            size += len(line)
            if size >= BLOCK:
                yield (first, lines)
                lines, size, first = [], 0, first + len(lines)
    except (OSError, EOFError) as error:
        failure = error
    number = first + len(lines)
    if lines and not lines[-1].endswith(b"\n"):
        try:
            orjson.loads(lines[-1])
        except orjson.JSONDecodeError:
            lines.pop()
            notices.note(CUT_OFF, f"{origin}:{number - 1}: the last line is cut off and was left out")
    yield (first, lines)
    if failure is not None:
        reason = getattr(failure, "strerror", None) or failure
        notices.bad(f"{origin}:{number}", f"can't read on: {reason}")
