"""The traces of all workers in one directory: each writes its own file, and looks into those of the others."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import orjson

from flowstat.errors import OutputError, RunError
from flowstat.read.words import shown
from flowstat.run.amqp_core import Event
from flowstat.run.amqp_locks import lock
from flowstat.run.amqp_names import file_name
from flowstat.run.amqp_rows import Kept, Row, kept_of, lines_of, pending_line
from flowstat.run.amqp_tries import Tries
from flowstat.run.amqp_wire import Letter

__all__ = ["Shards"]

HANDLED = ("ok", "error")
PACKED = (".gz", ".zst")
PLACE = 44
"""Bits of a place that say where in its file a row begins; those above say which file."""


class Shards:
    """One worker's file, written, and all files of the directory, read as far as they are.

    About 150 bytes of memory for each event that is known: this worker's, and the others' up to the last `refresh`.

    Raises
    ------
    OutputError
        If the file can't be written.
    RunError
        If a worker of this name runs already.
    """

    def __init__(self, folder: str | Path, worker: str) -> None:
        self.folder = Path(folder)
        self.worker = worker
        self.path = self.folder / f"worker-{file_name(worker)}.jsonl"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "a+b", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise OutputError(f"can't write the trace {self.path}: {error.strerror or error}") from None
        if not lock(self._file):
            self._file.close()
            raise RunError(
                f"a worker {shown(worker)} runs already in {self.folder}: give this one another name"
            ) from None
        self._writing = threading.Lock()
        self._size = _whole(self._file)
        self._file.truncate(self._size)  # of a last line that a killed worker has not finished
        self._others: list[Path] = []
        self._numbers: dict[Path, int] = {}
        self._read: dict[Path, int] = {}
        self._known: dict[int, int] = {}
        self._tries = Tries(self.folder, worker)
        self._own = self._number(self.path)
        self._scan(self.path, self._own)

    def close(self) -> None:
        """Close the file, when what is being written is: from then on nothing more is recorded."""
        with self._writing:
            self._file.close()
        self._tries.close()

    def knows(self, span: str) -> bool:
        """Whether an event is recorded, or was noted as handled, as far as is known here."""
        return int(span, 16) in self._known

    def tries(self, span: str) -> int:
        """Return how often a message was about to be handled after it had come before."""
        return self._tries.of(span)

    def write(self, events: list[Event]) -> None:
        """Record events; when it returns they outlive this process.

        Raises
        ------
        OutputError
            If they can't be written: none of them is then.
        """
        lines = [lines_of(event, self.worker) for event in events]
        place = self._append(b"".join(lines))
        for event, text in zip(events, lines, strict=True):
            place += len(text)
            # The event's own line is the last one of its text.
            begins = place - len(text) + text.rfind(b"\n", 0, -1) + 1
            self._known[int(event.span, 16)] = self._own << PLACE | begins

    def try_again(self, span: str) -> None:
        """Note that a message is about to be handled which may have ended a worker before."""
        self._tries.add(span)

    def give_up(self, letter: Letter, source: str | None, key: str, node: str) -> None:
        """Record that a message is not handled."""
        self._append(pending_line(letter, source, key, node, self.worker))

    def refresh(self) -> None:
        """Read what the other workers have recorded since the last time."""
        for path in sorted(self.folder.glob("worker-*.jsonl")):
            if path != self.path and _size(path) != self._read.get(path, 0):
                self._scan(path, self._number(path))
        self._tries.refresh()

    def find(self, message: str, span: str) -> tuple[Row, Kept] | None:
        """Return the row of a message's event, if it is recorded."""
        place = self._known.get(int(span, 16))
        if place is None:
            return None
        row, kept = self._at(place)
        return (row, kept) if kept.message == message else None

    def history(self, node: str) -> Iterator[tuple[Row, Kept]]:
        """Yield all recorded events of a node that has a state, each once, in the order in which they changed it.

        Raises
        ------
        RunError
            If a row is damaged, was recorded before the node had a state, or is missing.
        """
        for packed in sorted(path for end in PACKED for path in self.folder.glob(f"worker-*.jsonl{end}")):
            raise RunError(
                f"{packed} is packed: the state of {shown(node)} is made of all traces there; unpack it, or work with "
                "another directory and graph name"
            )
        self.refresh()
        places: dict[str, tuple[int, int]] = {}
        for path, number in list(self._numbers.items()):
            for begins, _, row in _rows(path, 0):
                if row.get("name") != node or row.get("status") not in HANDLED:
                    continue
                kept = kept_of(row, f"{path} at byte {begins:,}")
                if kept.turn is None:
                    raise RunError(
                        f"{path} has events of {shown(node)} from when it had no state: they can't be applied to "
                        "it; record into another directory"
                    )
                places.setdefault(row["span_id"], (kept.turn, number << PLACE | begins))
        for expected, (turn, place) in enumerate(sorted(places.values()), 1):
            if turn != expected:
                what = (
                    f"its event number {expected:,} is in none of them"
                    if turn > expected
                    else "some have the same turn"
                )
                raise RunError(
                    f"the state of {shown(node)} can't be brought back from the traces in {self.folder}: {what}; bring "
                    "back each worker-*.jsonl that was taken away, and take those away that belong elsewhere"
                )
            yield self._at(place)

    def _at(self, place: int) -> tuple[Row, Kept]:
        """Return the row at a place."""
        path, begins = self._others[place >> PLACE], place & ((1 << PLACE) - 1)
        for _, _, row in _rows(path, begins):
            return row, kept_of(row, f"{path} at byte {begins:,}")
        raise RunError(f"{path} was cut while workers ran: bring it back, or start them anew without it")

    def _append(self, text: bytes) -> int:
        """Write at the end; return where it was."""
        rest = memoryview(text)
        begins = self._size
        try:
            with self._writing:
                while rest:
                    rest = rest[self._file.write(rest) :]
        except OSError as error:
            with suppress(OSError):  # no half line is left where the place allows it
                self._file.truncate(begins)
            raise OutputError(
                f"can't write the trace {self.path}: {error.strerror or error}; what was written before is readable"
            ) from error
        self._size += len(text)
        self._read[self.path] = self._size
        return begins

    def _number(self, path: Path) -> int:
        if path not in self._numbers:
            self._numbers[path] = len(self._others)
            self._others.append(path)
        return self._numbers[path]

    def _scan(self, path: Path, number: int) -> None:
        """Take note of the whole lines of a file that were not read yet."""
        for begins, ends, row in _rows(path, self._read.get(path, 0)):
            self._read[path] = ends
            if row["status"] in HANDLED:
                self._known[int(row["span_id"], 16)] = number << PLACE | begins


_hexadecimal = re.compile("[0-9a-f]{16}").fullmatch


def _rows(path: Path, begins: int) -> Iterator[tuple[int, int, Row]]:
    """Yield each row of a file from a place on, with where its line begins and ends; but no line that is not whole.

    Raises
    ------
    RunError
        If the file can't be read, or a line is no row.
    """
    try:
        with path.open("rb") as file:
            file.seek(begins)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                ends = begins + len(line)
                row = orjson.loads(line)
                if not (isinstance(row, dict) and _hexadecimal(str(row.get("span_id"))) and "status" in row):
                    raise ValueError("it is no row of a worker's trace")
                yield begins, ends, row
                begins = ends
    except ValueError as error:
        raise RunError(f"{path} is damaged at byte {begins:,}: {error}; take the file away") from None
    except OSError as error:
        raise RunError(f"can't read {path}: {error.strerror or error}") from None


def _size(path: Path) -> int:
    """Return the bytes of a file; -1 if that can't be said."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _whole(file: BinaryIO) -> int:
    """Return where the last whole line of a file ends."""
    place = file.seek(0, os.SEEK_END)
    while place > 0:
        begins = max(0, place - (1 << 16))
        file.seek(begins)
        part = file.read(place - begins)
        found = part.rfind(b"\n")
        if found >= 0:
            return begins + found + 1
        place = begins
    return 0
