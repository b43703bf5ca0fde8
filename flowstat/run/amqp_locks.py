"""Locks between the processes of a machine, freed by the system when a process ends, however it does."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from flowstat.errors import OutputError, RunError
from flowstat.run.amqp_names import file_name

__all__ = ["Lock", "lock", "lock_of"]


def lock_of(folder: Path, node: str) -> Lock:
    """Return the right to handle the messages of a node with a state."""
    return Lock(folder / f".{file_name(node)}.lock")


def lock(file: BinaryIO) -> bool:
    """Lock a file for this process until it is closed; return whether no other has it."""
    try:
        import fcntl
    except ImportError:
        raise RunError("workers need file locks, which this system lacks: run them on Linux or macOS") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


class Lock:
    """A right that one process of the machine has at a time, until it ends, however."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None

    def take(self) -> bool:
        """Take it, if no other process has it."""
        if self._file is not None:
            return True
        try:
            file = open(self._path, "ab")  # noqa: SIM115
        except OSError as error:
            raise OutputError(f"can't write {self._path}: {error.strerror or error}") from None
        if not lock(file):
            file.close()
            return False
        self._file = file
        return True

    def release(self) -> None:
        """Let another process have it."""
        if self._file is not None:
            self._file.close()
            self._file = None
