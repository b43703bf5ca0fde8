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
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self
from zlib import crc32

import msgspec

from flowstat.errors import OutputError, RunError
from flowstat.read.words import shown
from flowstat.run.loop import Injection

__all__ = ["Entry", "Journal", "JournalWriter", "make_way", "read_journal", "repair"]

MAGIC = b"flowstat journal 1\n"
FRAME = struct.Struct("<II")
LARGEST = 1 << 30
"""No frame is this long: what claims to be is damaged."""


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
        How the run ended: `events`, `runs`, `span`, `stopped`, `states` (digests by node); None if it was killed.
    size, torn
        Bytes up to where it is whole, and bytes after that: what a killed process left of its last frame.
    """

    header: Mapping[str, Any]
    entries: tuple[Entry, ...]
    end: Mapping[str, Any] | None
    size: int
    torn: int = 0


class JournalWriter:
    """Writes a journal; every entry is with the operating system before `add` returns.

    Parameters
    ----------
    path
        A file that is not there yet, or with `size` one that was read up to there, to go on.
    header
        Of the run; not written again when a journal goes on.
    sync
        Whether every entry is to be on the disk before it is handled, so that it outlives the machine too; far slower.

    Raises
    ------
    OutputError
        If the file is there already, or can't be written.
    """

    def __init__(
        self, path: str | Path, header: Mapping[str, Any] | None = None, *, size: int | None = None, sync: bool = False
    ) -> None:
        self.path = Path(path)
        self.sync = sync
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder().decode
        try:
            if size is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "xb" if size is None else "r+b", buffering=0)  # noqa: SIM115
            if size is not None:
                self._file.truncate(size)
                self._file.seek(size)
        except FileExistsError:
            raise OutputError(f"{self.path} is there already: choose another name, or --overwrite") from None
        except OSError as error:
            raise OutputError(f"can't write the journal {self.path}: {error.strerror or error}") from None
        self._size = size or 0
        if size is None:
            self._write(MAGIC + self._frame(dict(header or {})))

    def add(self, injection: Injection, turn: int = 0, time: int = 0, what: str = "") -> Injection:
        """Write a message from outside, or an answer; return it as a replay will find it.

        Raises
        ------
        RunError
            If its body can't be kept: it is to be made of None, truth values, numbers, texts, bytes, lists and dicts.
        OutputError
            If it can't be written; what was written before stays.
        """
        node, key, body = injection
        try:
            frame = self._frame([[node, key, body, turn, time, what]])
            kept = self._decode(frame[FRAME.size :])[0]
        except (TypeError, ValueError, OverflowError, msgspec.MsgspecError) as error:
            raise RunError(f"a journal can't keep the message {shown(repr(injection))}: {error}") from None
        if kept[2] != body or not _same(kept[2], body):
            raise RunError(
                f"a journal can't keep the body {shown(repr(body))}: make it of None, truth values, numbers, texts, "
                "bytes, lists and dicts with text keys"
            )
        self._write(frame)
        return node, key, kept[2]

    def tick(self, turn: int, time: int) -> None:
        """Write that timers went off at a time."""
        self._write(self._frame([[None, "", None, turn, time]]))

    def end(self, end: Mapping[str, Any]) -> None:
        """Write how the run ended."""
        self._write(self._frame({"end": dict(end)}))

    def following(self, injections: Iterable[Injection]) -> Iterator[Injection]:
        """Yield messages from outside, each of them written before."""
        for injection in injections:
            if not isinstance(injection, (tuple, list)) or len(injection) != 3:
                raise RunError(f"an injection is (node, key, body), not {shown(repr(injection))}")
            yield self.add(injection)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _frame(self, content: object) -> bytes:
        data = self._encode(content)
        return FRAME.pack(len(data), crc32(data)) + data

    def _write(self, frame: bytes) -> None:
        rest = memoryview(frame)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
            if self.sync:
                os.fsync(self._file.fileno())
        except OSError as error:
            # No half frame is left where the place allows it.
            with suppress(OSError):
                self._file.truncate(self._size)
                self._file.seek(self._size)
            raise OutputError(
                f"can't write the journal {self.path}: {error.strerror or error}; what was written before is readable"
            ) from error
        self._size += len(frame)


def read_journal(path: str | Path) -> Journal:
    """Read a journal; what a killed process left of its last frame is left out.

    Raises
    ------
    RunError
        If the file can't be read, is no journal, or is damaged before its last frame: said with the place.
    """
    path = Path(path)
    entries: list[Entry] = []
    header: Any = None
    end: Any = None
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise RunError(f"{path} is no journal of flowstat")
            size = len(MAGIC)
            for data, size in _frames(file, path):  # noqa: B007
                content = msgspec.msgpack.decode(data)
                if header is None:
                    header = content
                elif isinstance(content, dict):
                    end = content["end"]
                else:
                    entries += [Entry(*entry) for entry in content]
            torn = os.fstat(file.fileno()).st_size - size
    except OSError as error:
        raise RunError(f"can't read the journal {path}: {error.strerror or error}") from None
    if header is None:
        raise RunError(f"the journal {path} ends within its header: nothing had been accepted yet")
    return Journal(header, tuple(entries), end, size, torn)


def make_way(path: str | Path, overwrite: bool) -> None:
    """Remove a journal that is there, if it may be overwritten; never what is no journal.

    Raises
    ------
    OutputError
        If it may not.
    """
    path = Path(path)
    if not path.exists():
        return
    if not overwrite:
        raise OutputError(f"{path} is there already: choose another name, or --overwrite")
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise OutputError(f"{path} is no journal: it is not overwritten")
        path.unlink()
    except OSError as error:
        raise OutputError(f"can't write the journal {path}: {error.strerror or error}") from None


def repair(path: str | Path) -> Journal:
    """Read a journal and cut off what a killed process left of its last frame; one that is whole stays as it is."""
    journal = read_journal(path)
    if journal.torn:
        with suppress(OSError):
            os.truncate(path, journal.size)
    return journal


def _frames(file: BufferedReader, path: Path) -> Iterator[tuple[bytes, int]]:
    """Yield each whole frame's content and where it ends; a frame that is cut off is the last."""
    place = file.tell()
    total = os.fstat(file.fileno()).st_size
    while place < total:
        head = file.read(FRAME.size)
        if len(head) < FRAME.size:
            return
        length, checksum = FRAME.unpack(head)
        if not length and not any(head + file.read()):  # room that was made, and never written
            return
        data = file.read(min(length, LARGEST))
        if len(data) < length < LARGEST:
            return
        if not 0 < length < LARGEST or crc32(data) != checksum:
            if place + FRAME.size + length == total:
                return
            raise RunError(f"the journal {path} is damaged at byte {place:,}: what comes after can't be trusted")
        place += FRAME.size + length
        yield data, place


def _same(kept: object, body: object) -> bool:
    """Whether a body came back as it was, also in its types: 1 is not True, and a tuple is no list."""
    if type(kept) is not type(body):
        return False
    if isinstance(body, list):
        return all(map(_same, kept, body))  # type: ignore[call-overload]
    if isinstance(body, dict):
        return all(_same(*keys) for keys in zip(kept, body, strict=True)) and all(  # type: ignore[call-overload]
            map(_same, kept.values(), body.values())  # type: ignore[attr-defined]
        )
    return True
