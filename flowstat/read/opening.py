"""Files opened for reading, whatever they are packed in."""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa

from flowstat.errors import TraceError
from flowstat.read.notices import Notices

__all__ = ["GZIP", "ZSTD", "open_unpacked", "packing"]

GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"


def packing(path: Path) -> str | None:
    """Return what a file is packed with by its first bytes: `gzip`, `zstd` or None."""
    with path.open("rb") as file:
        head = file.read(4)
    return "gzip" if head.startswith(GZIP) else "zstd" if head == ZSTD else None


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

    How far it was read goes to `notices`. Reading may raise OSError or EOFError where the packed data are damaged
    or cut off.

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
        unpacked = pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd")
        return cast(BinaryIO, io.BufferedReader(unpacked, 1 << 20))
    return file


class _Gunzipped(io.RawIOBase):
    """A packed file whose damage is an OSError, whatever zlib calls it, and which closes what it reads."""

    def __init__(self, file: BinaryIO) -> None:
        self._packed = file
        self._plain = gzip.GzipFile(fileobj=file, mode="rb")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            return self._plain.readinto(buffer)
        except zlib.error as error:
            raise OSError(f"the packed data are damaged: {error}") from None

    def close(self) -> None:
        self._plain.close()
        self._packed.close()
        super().close()
