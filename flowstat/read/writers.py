"""Traces written in any format, chosen by name."""

from __future__ import annotations

from pathlib import Path

from flowstat.errors import OutputError
from flowstat.read.canonical import TraceWriter, open_writer
from flowstat.read.formats import SUFFIXES as READ
from flowstat.read.words import is_storable, visible

__all__ = ["open_trace_writer"]

SUFFIXES = {
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".otlp.json": "otlp",
    ".otlp.jsonl": "otlp",
    ".jaeger.json": "jaeger",
    ".xes": "xes",
    ".xes.gz": "xes",
}

PACKED = (".gz", ".zst")


def open_trace_writer(path: str | Path, format: str | None = None, *, overwrite: bool = False) -> TraceWriter:
    """Open a trace for writing canonical batches to, in the format given or that its name says.

    It is written whole or not at all: when the block that the writer serves fails, nothing of it stays.

    Parameters
    ----------
    format
        `parquet`, `jsonl`, `otlp`, `jaeger` or `xes`; Parquet where the name has no ending that is known.

    Raises
    ------
    OutputError
        If something is there already and `overwrite` is not set, or the place can't be written; if no format is given
        and the name says one, or a packing, that is not written.
    """
    path = Path(path)
    if format is None:
        format = _named(path)
    if format == "parquet" and not is_storable(str(path)):
        raise OutputError(f"can't write Parquet to {visible(str(path))}: the name is not UTF-8 text")
    if format in ("parquet", "jsonl"):
        return open_writer(path, format, overwrite=overwrite, whole=True)  # type: ignore[arg-type]
    if path.exists():
        if not overwrite:
            raise OutputError(f"{path} is there already: choose another name, or --overwrite")
        if not path.is_file():
            raise OutputError(f"{path} is no file: it is not overwritten")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if format == "otlp":
            from flowstat.read.otlp_writer import OtlpWriter

            return OtlpWriter(path)
        if format == "jaeger":
            from flowstat.read.jaeger_writer import JaegerWriter

            return JaegerWriter(path)
        from flowstat.read.xes import XesWriter

        return XesWriter(path)
    except OSError as error:
        raise OutputError(f"can't write a trace to {path}: {error.strerror or error}") from None


def _named(path: Path) -> str:
    """Return the format that a name says."""
    name = path.name.lower()
    named = [suffix for suffix in SUFFIXES if name.endswith(suffix)]
    if named:
        return SUFFIXES[max(named, key=len)]
    if name.endswith((*READ, *PACKED)):
        known = ", ".join(f"*{suffix}" for suffix in SUFFIXES)
        raise OutputError(f"{path}: no traces are written under such a name ({known} are): name the format with --to")
    return "parquet"
