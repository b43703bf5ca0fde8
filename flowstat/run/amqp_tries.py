"""Which messages were tried again after a worker may have ended at them: kept by all workers together."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import suppress
from pathlib import Path

from flowstat.errors import OutputError, RunError
from flowstat.run.amqp_names import file_name

__all__ = ["Tries"]

LINE = 17
"""Bytes of a line: an event's id, and the line's end."""


class Tries:
    """One worker's file of tries, written, and those of all, read; an event's id a line, before it is handled.

    The files' names begin with a dot: they are no traces.

    Raises
    ------
    OutputError
        If the file can't be written.
    RunError
        If another one can't be read.
    """

    def __init__(self, folder: Path, worker: str) -> None:
        self._folder = folder
        self._path = folder / f".tries-{file_name(worker)}"
        self._read: dict[Path, int] = {}
        self._counts: Counter[bytes] = Counter()
        try:
            self._file = open(self._path, "ab", buffering=0)  # noqa: SIM115
            self._file.truncate(self._file.tell() // LINE * LINE)
        except OSError as error:
            raise OutputError(f"can't write {self._path}: {error.strerror or error}") from None

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def of(self, span: str) -> int:
        """Return how often an event was tried again, as far as is known here."""
        return self._counts[span.encode()]

    def add(self, span: str) -> None:
        """Note that an event is tried again; when it returns, that outlives this process."""
        line = f"{span}\n".encode()
        begins = self._file.seek(0, os.SEEK_END)
        try:
            while line:
                line = line[self._file.write(line) :]
        except OSError as error:
            with suppress(OSError):  # a part of a line would displace all after it
                self._file.truncate(begins)
            raise OutputError(f"can't write {self._path}: {error.strerror or error}") from None
        self._read_on(self._path)

    def refresh(self) -> None:
        """Read what others have noted since the last time."""
        for path in sorted(self._folder.glob(".tries-*")):
            self._read_on(path)

    def _read_on(self, path: Path) -> None:
        place = self._read.get(path, 0)
        try:
            with path.open("rb") as file:
                file.seek(place)
                found = file.read()
        except OSError as error:
            raise RunError(f"can't read {path}: {error.strerror or error}") from None
        whole = len(found) // LINE * LINE
        self._counts.update(found[at : at + LINE - 1] for at in range(0, whole, LINE))
        self._read[path] = place + whole
