"""JSON files that are one document, or one document a line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from flowstat.errors import TraceError
from flowstat.read.jsonlines import CUT_OFF
from flowstat.read.notices import Notices
from flowstat.read.opening import open_unpacked

__all__ = ["BOM", "OPEN", "first_lines", "is_one_a_line", "read_documents", "span_place"]

BOM = b"\xef\xbb\xbf"
OPEN = (b"[", b"{", b",", b":")
"""What a line ends with that goes on in the next."""


def read_documents(
    path: Path, origin: str, notices: Notices, is_whole: Callable[[Any], bool]
) -> Iterator[tuple[str, Any]]:
    """Read the documents of a JSON file, each with its place for messages: `file` or `file:line`.

    A file has one document a line if its first line, or its second, is one document by itself; else the whole
    file is one. A line that is no JSON is a bad record; a last line without its line end that is none is what
    a killed writer leaves: it is left out and reported.

    Parameters
    ----------
    is_whole
        Tells whether a value is one document, and not a part of one.

    Raises
    ------
    TraceError
        If the file can't be read, or is one document that is no JSON.
    """
    number = 0
    by_line = False
    try:
        with open_unpacked(path, origin, notices) as file:
            head = first_lines(file)
            by_line = is_one_a_line(head, is_whole)
            if not by_line:
                text = b"".join(head) + file.read()
                try:
                    document = orjson.loads(text)
                except orjson.JSONDecodeError as error:
                    raise TraceError(f"{origin}: not JSON (cut off or damaged?): {error}") from None
                yield origin, document
                return
            for number, line in enumerate(_lines(head, file), 1):
                if line.isspace():
                    continue
                try:
                    document = orjson.loads(line)
                except orjson.JSONDecodeError as error:
                    if line.endswith(b"\n"):
                        notices.bad(f"{origin}:{number}", f"not JSON: {error}")
                        continue
                    notices.note(CUT_OFF, f"{origin}:{number}: the last line is cut off and was left out")
                    return
                yield f"{origin}:{number}", document
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
        if not by_line:
            raise TraceError(f"{origin}: can't read it to its end: {reason}") from None
        notices.bad(f"{origin}:{number + 1}", f"can't read on: {reason}")


def first_lines(file: BinaryIO) -> list[bytes]:
    """Return the first lines of a file up to the second that is not blank, without the byte order mark."""
    lines: list[bytes] = []
    while sum(not line.isspace() for line in lines) < 2:
        line = file.readline()
        if not line:
            break
        lines.append(line.removeprefix(BOM) if not lines else line)
    return lines


def _lines(head: list[bytes], file: BinaryIO) -> Iterator[bytes]:
    yield from head
    yield from file


def is_one_a_line(head: list[bytes], is_whole: Callable[[Any], bool]) -> bool:
    """Return whether one of a file's first lines is a document by itself, and not the only line.

    The second counts only if the first could be a damaged line: not where it goes on to the next, as `[` does.
    """
    full = [line for line in head if not line.isspace()]
    if len(full) < 2:
        return False
    for line in full[:1] if full[0].rstrip().endswith(OPEN) else full:
        try:
            document = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if is_whole(document):
            return True
    return False


def span_place(place: str, number: int) -> str:
    """Return where a span is, for messages; `number` counts from 1 within its document."""
    return f"{place}: span {number}"
