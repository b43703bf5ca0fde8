"""Files opened for reading, whatever they are packed in."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import tempfile
import weakref
import zlib
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa

from flowstat.errors import TraceError
from flowstat.read.notices import Notices
from flowstat.read.words import is_storable

__all__ = ["GZIP", "ZSTD", "Stand", "copied", "linked", "open_unpacked", "packing", "read_as_far"]

GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"
SKIPPABLE = b"\x2a\x4d\x18"
"""What follows the first byte, 0x50 to 0x5f, of a zstd frame that holds no data: pzstd writes one at the head."""

PIECE = 1 << 14
"""Bytes unpacked of zstd at once: what is lost where the packed data are cut off, as zstd gives all or nothing."""


def packing(path: Path) -> str | None:
    """Return what a file is packed with by its first bytes: `gzip`, `zstd` or None."""
    with path.open("rb") as file:
        head = file.read(4)
    if head.startswith(GZIP):
        return "gzip"
    return "zstd" if head == ZSTD or (head[1:] == SKIPPABLE and head[0] & 0xF0 == 0x50) else None


class _Metered(io.RawIOBase):
    """A file that tells how many bytes were read of it."""

    def __init__(self, path: Path, notices: Notices) -> None:
        self._file = path.open("rb", buffering=0)
        self._notices = notices

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        n = self._file.readinto(buffer) or 0
        self._notices.advance(n)
        return n

    def close(self) -> None:
        self._file.close()
        super().close()


def open_unpacked(path: Path, origin: str, notices: Notices | None = None) -> BinaryIO:
    """Open a file for buffered binary reading, unpacking gzip and zstd on the way.

    Packed data may be of several members (gzip) or frames (zstd). How far the file was read goes to `notices`. Reading
    may raise OSError or EOFError where the packed data are damaged or cut off; `read_as_far` gives what comes before.

    Raises
    ------
    TraceError
        If the file can't be opened.
    """
    try:
        kind = packing(path)
        raw = _Metered(path, notices or Notices())
    except OSError as error:
        raise TraceError(f"can't read the trace {origin}: {error.strerror or error}") from None
    file = cast(BinaryIO, io.BufferedReader(raw, 1 << 20))
    if kind == "gzip":
        return cast(BinaryIO, io.BufferedReader(_Gunzipped(file), 1 << 20))
    if kind == "zstd":
        return cast(BinaryIO, io.BufferedReader(_Unzstd(file), 1 << 20))
    return file


def read_as_far(file: BinaryIO, size: int) -> tuple[bytes, str]:
    """Return so many bytes of a file, or as many as can be read, and why no more can be if the file is damaged."""
    parts: list[bytes] = []
    try:
        while size > 0 and (part := file.read1(size)):  # type: ignore[attr-defined]
            parts.append(part)
            size -= len(part)
    except (OSError, EOFError) as error:
        return b"".join(parts), str(getattr(error, "strerror", None) or error)
    return b"".join(parts), ""


class Stand:
    """A temporary file that stands in for another; it is there for as long as this object is.

    Its name ends as that of the other, which may tell the format.
    """

    def __init__(self, name: str) -> None:
        ending = name[-20:] if is_storable(name[-20:]) else ""
        descriptor, path = tempfile.mkstemp(prefix="flowstat-", suffix=ending)
        os.close(descriptor)
        self.path = Path(path)
        weakref.finalize(self, _remove, path)


def copied(file: BinaryIO, origin: str, name: str = "") -> Stand:
    """Return a copy of all that is left to read of a file.

    Raises
    ------
    TraceError
        If it can't be read, or there is no place for it.
    """
    try:
        stand = Stand(name)
        with stand.path.open("wb") as copy:
            shutil.copyfileobj(file, copy)
    except (OSError, EOFError) as error:
        raise TraceError(f"can't read the trace {origin}: {getattr(error, 'strerror', None) or error}") from None
    return stand


def linked(path: Path) -> Stand:
    """Return a link to a file whose name is no text, which not all libraries can open."""
    stand = Stand(path.name)
    stand.path.unlink()
    stand.path.symlink_to(os.path.realpath(path))
    return stand


def _remove(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)


class _Gunzipped(io.RawIOBase):
    """A packed file whose damage is an OSError, whatever zlib calls it, and which closes what it reads."""

    def __init__(self, file: BinaryIO) -> None:
        self._packed = file
        self._plain = gzip.GzipFile(fileobj=file, mode="rb")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            found = self._plain.read1(len(buffer))  # `readinto` would lose what comes before the damage
        except zlib.error as error:
            raise OSError(f"the packed data are damaged: {error}") from None
        buffer[: len(found)] = found
        return len(found)

    def close(self) -> None:
        self._plain.close()
        self._packed.close()
        super().close()


class _Unzstd(io.RawIOBase):
    """The same for zstd."""

    def __init__(self, file: BinaryIO) -> None:
        self._packed = file
        self._plain = pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        found = self._plain.read(min(len(buffer), PIECE))
        buffer[: len(found)] = found
        return len(found)

    def close(self) -> None:
        self._plain.close()
        self._packed.close()
        super().close()
