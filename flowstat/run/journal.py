"""The journal of a run: every message from outside, written before it is handled.

A run in sequence is a function of its graph, behaviours, seed and of what came from outside, so the journal is all of
it. The file begins with a line that says what it is; then come frames: the length of the content and its CRC-32, four
bytes each with the lowest first, and the content, in MessagePack. The first frame is the header, the last one, if the
run came to its end, its end; those between are lists of entries. A process that is
killed leaves at most a frame that is cut off.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BufferedReader
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import msgspec

from flowstat.errors import RunError

__all__ = ["FRAME", "LARGEST", "MAGIC", "Entry", "Journal", "damaged", "read_journal", "repair"]

MAGIC = b"flowstat journal 1\n"
FRAME = struct.Struct("<II")
LARGEST = 1 << 30
"""No frame is this long (1 GiB): what claims to be is damaged."""


class Entry(NamedTuple):
    """What came from outside: a message, a program's answer, or (without a node) only a time at which timers went off.

    `turn` is how many messages had been handled, `time` what the clock said; both are 0 where time does not count.
    `what` became of the message that is answered; it is "" for a message from outside.
    """

    node: str | None
    key: str
    body: Any
    turn: int = 0
    time: int = 0
    what: str = ""

    @property
    def from_outside(self) -> bool:
        """Whether it is a message from outside."""
        return self.node is not None and not self.what


@dataclass(frozen=True)
class Journal:
    """A journal that was read.

    Attributes
    ----------
    header
        Of the run: `graph` (a digest), `seed`, `clock`, `limits`.
    entries
        What came from outside, in order.
    end
        How the run ended: `events`, `runs`, `span`, `errors`, `dropped`, `stopped`, `states` (digests by node; None
        where an interrupt ended it within an event); None if it was killed.
    size, torn
        Bytes up to where it is whole, and bytes after that: what a killed process left of its last frame.
    marks
        Digests of all states, each with the number of entries that come before them.
    """

    header: Mapping[str, Any]
    entries: tuple[Entry, ...]
    end: Mapping[str, Any] | None
    size: int
    torn: int = 0
    marks: tuple[tuple[int, Mapping[str, str]], ...] = ()


def read_journal(path: str | Path) -> Journal:
    """Read a journal; what a killed process left of its last frame is left out.

    Raises
    ------
    RunError
        If the file can't be read, is no journal, or is damaged before its last frame: said with the place.
    """
    path = Path(path)
    entries: list[Entry] = []
    marks: list[tuple[int, Mapping[str, str]]] = []
    header: Any = None
    end: Any = None
    decode, make = msgspec.msgpack.Decoder().decode, Entry._make
    try:
        with path.open("rb") as file, _mapped(file) as data:
            if data[: len(MAGIC)] != MAGIC:
                raise RunError(f"{path} is no journal of flowstat")
            size = len(MAGIC)
            for frame, size in _frames(data, path):  # noqa: B007
                content = decode(frame)
                if header is None:
                    header = content
                elif isinstance(content, dict) and "states" in content:
                    marks.append((len(entries), content["states"]))
                elif isinstance(content, dict):
                    end = content.get("end")
                else:
                    entries += map(make, content)
            torn = len(data) - size
    except OSError as error:
        raise RunError(f"can't read the journal {path}: {error.strerror or error}") from None
    if header is None:
        raise RunError(f"the journal {path} ends within its header: nothing had been accepted yet")
    return Journal(header, tuple(entries), end, size, torn, tuple(marks))


def repair(path: str | Path) -> Journal:
    """Read a journal and cut off what a killed process left of its last frame; one that is whole stays as it is."""
    journal = read_journal(path)
    if journal.torn:
        with suppress(OSError):
            os.truncate(path, journal.size)
    return journal


def damaged(path: Path, place: int) -> RunError:
    """Return the error of a journal that is wrong at a byte, and goes on after that."""
    return RunError(
        f"the journal {path} is damaged at byte {place:,}: what comes after can't be trusted. What was accepted before "
        f"is in its first {place:,} bytes: copy these to a file, and replay that"
    )


@contextmanager
def _mapped(file: BufferedReader) -> Iterator[mmap | bytes]:
    """Yield a file's bytes, which are read as they are looked at."""
    if not os.fstat(file.fileno()).st_size:
        yield b""
        return
    with mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        yield data


def _frames(data: mmap | bytes, path: Path) -> Iterator[tuple[bytes, int]]:
    """Yield each whole frame's content and where it ends; a frame that is cut off is the last."""
    place, total, head, unpack = len(MAGIC), len(data), FRAME.size, FRAME.unpack_from
    while place + head <= total:
        length, checksum = unpack(data, place)
        begin = place + head
        if not length and not any(data[place:]):  # room that was made, and never written
            return
        if begin + length > total and length < LARGEST:
            return
        content = data[begin : begin + length]
        if not 0 < length < LARGEST or crc32(content) != checksum:
            if begin + length == total:
                return
            raise damaged(path, place)
        place = begin + length
        yield content, place
