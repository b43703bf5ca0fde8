"""How pictures are saved, in a format that the name says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from flowstat.errors import OutputError

__all__ = ["save_picture"]


def save_picture(path: str | Path, suffixes: Sequence[str], make: Callable[[str], bytes]) -> None:
    """Write what `make` gives for the ending of a name, one of `suffixes`.

    Raises
    ------
    OutputError
        For another ending, or a place that can't be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in suffixes:
        raise OutputError(f"can't draw to {path}: its name must end in {', '.join(suffixes[:-1])} or {suffixes[-1]}")
    data = make(suffix)
    try:
        path.write_bytes(data)
    except OSError as error:
        raise OutputError(f"can't draw to {path}: {error.strerror or error}") from None
