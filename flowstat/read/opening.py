"""Files opened for reading, whatever they are packed in."""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa

from flowstat.errors import TraceError

__all__ = ["GZIP", "ZSTD", "open_unpacked", "packing"]

GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"


def packing(path: Path) -> str | None:
    """Return what a file is packed with by its first bytes: `gzip`, `zstd` or None."""
    with path.open("rb") as file:
        head = file.read(4)
    return "gzip" if head.startswith(GZIP) else "zstd" if head == ZSTD else None


def open_unpacked(path: Path, origin: str) -> BinaryIO:
    """Open a file for buffered binary reading, unpacking gzip and zstd on the way.

    Reading may raise OSError where the packed data are damaged or cut off.

    Raises
    ------
    TraceError
        If the file can't be opened.
    """
    try:
        kind = packing(path)
        if kind is None:
            return path.open("rb")
        if kind == "gzip":
            import gzip

            return cast(BinaryIO, gzip.open(path, "rb"))
        return cast(BinaryIO, io.BufferedReader(pa.input_stream(str(path), compression="zstd"), 1 << 20))
    except OSError as error:
        raise TraceError(f"can't read the trace {origin}: {error.strerror or error}") from None
