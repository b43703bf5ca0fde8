"""The writer of a journal: one process at a time, and nothing is handled before it is written."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any
from zlib import crc32

import msgspec

from flowstat.errors import OutputError, RunError
from flowstat.read.closing import Closing
from flowstat.read.words import shown
from flowstat.run.feeds import Feed, MakeFeed
from flowstat.run.journal import FRAME, LARGEST, MAGIC
from flowstat.run.journalled import JournalledFeed, States
from flowstat.run.loop import Injection

__all__ = ["JournalWriter", "lock", "make_way"]


class JournalWriter(Closing):
    """Writes a journal; every entry is with the operating system before `add` returns.

    `pulled` is called when something has come from outside, before it is written.

    Parameters
    ----------
    path
        A file that is not there yet, or with `size` one that was read up to there, to go on;
        `file` is it, where it is open and locked already.
    header
        Of the run; not written again when a journal goes on.
    marks
        After how many messages from outside the digests of all states are written; 0: at the end only.

    Raises
    ------
    OutputError
        If the file is there already, can't be written, or another process writes it.
    """

    def __init__(
        self,
        path: str | Path,
        header: Mapping[str, Any] | None = None,
        *,
        size: int | None = None,
        file: FileIO | None = None,
        marks: int = 0,
    ) -> None:
        self.path = Path(path)
        self.marks = marks
        self.pulled: Callable[[], object] = _nothing
        self._added = 0
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder().decode
        try:
            if size is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = file or open(self.path, "xb" if size is None else "r+b", buffering=0)  # noqa: SIM115
            if file is None and not lock(self._file.fileno()):
                self._file.close()
                raise OutputError(f"another process writes the journal {self.path}")
            if size is not None:
                self._file.truncate(size)
                self._file.seek(size)
        except OSError as error:
            if size is None and self.path.exists():
                raise OutputError(f"{self.path} is there already: choose another name, or --overwrite") from None
            raise OutputError(f"can't write the journal {self.path}: {error.strerror or error}") from None
        self._size = size or 0
        if size is None:
            self._write(MAGIC + self._frame(dict(header or {})))
        self._begins = self._size if size is None else -1

    def add(self, injection: Injection, turn: int = 0, time: int = 0, what: str = "") -> Injection:
        """Write a message from outside, or an answer; return it as a replay will find it.

        Raises
        ------
        RunError
            If its body can't be kept: it is to be made of None, truth values, numbers, texts, bytes, lists and dicts,
            not nested some hundred times, and of less than 1 GiB.
        OutputError
            If it can't be written; what was written before stays.
        """
        node, key, body = injection
        try:
            frame = self._frame([[node, key, body, turn, time, what]])
            kept = self._decode(frame[FRAME.size :])[0]
            same = kept[2] == body and _same(kept[2], body)
        except RecursionError:
            raise RunError(f"a journal can't keep a body of {shown(node)}: it is nested too deeply") from None
        except (TypeError, ValueError, OverflowError, msgspec.MsgspecError) as error:
            raise RunError(f"a journal can't keep the message {shown(repr(injection))}: {error}") from None
        if not same:
            raise RunError(
                f"a journal can't keep the body {shown(repr(body))}: make it of None, truth values, numbers, texts, "
                "bytes, lists and dicts with text keys"
            )
        self._write(frame)
        return node, key, kept[2]

    def tick(self, turn: int, time: int) -> None:
        """Write that timers went off at a time."""
        self._write(self._frame([[None, "", None, turn, time, ""]]))

    def end(self, end: Mapping[str, Any]) -> None:
        """Write how the run ended."""
        self._write(self._frame({"end": dict(end)}))

    def mark(self, states: States) -> None:
        """Write the digests of all states."""
        self._write(self._frame({"states": dict(states)}))

    def following(self, injections: Iterable[Injection], states: Callable[[], States]) -> Iterator[Injection]:
        """Yield messages from outside, each of them written before.

        All that came of one is over when the next is asked for.
        """
        for injection in injections:
            self.pulled()
            self.mark_before(states)
            yield self.add(injection)

    def feed(self, make: MakeFeed, states: Callable[[], States]) -> Feed:
        """Return the feed of a run in time, whose messages and times are written."""
        return JournalledFeed(make(0, None), self, states)

    def mark_before(self, states: Callable[[], States]) -> None:
        """Write the digests of all states before the next message from outside, if it is time."""
        if self.marks and self._added and self._added % self.marks == 0:
            self.mark(states())
        self._added += 1

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if kind is not None and self._size == self._begins:  # nothing was accepted: no file is left of it
            self.path.unlink(missing_ok=True)

    def _frame(self, content: object) -> bytes:
        data = self._encode(content)
        if len(data) >= LARGEST:
            raise ValueError(f"it takes {len(data):,} bytes, and fewer than {LARGEST:,} are kept")
        return FRAME.pack(len(data), crc32(data)) + data

    def _write(self, frame: bytes) -> None:
        rest = memoryview(frame)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            # No half frame is left where the place allows it.
            with suppress(OSError):
                self._file.truncate(self._size)
                self._file.seek(self._size)
            raise OutputError(
                f"can't write the journal {self.path}: {error.strerror or error}; what was written before is readable"
            ) from error
        self._size += len(frame)


def lock(descriptor: int) -> bool:
    """Take the lock of a journal that only its writer has; the system gives it back when that process ends."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


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


def _nothing() -> None:
    """Be called."""


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
