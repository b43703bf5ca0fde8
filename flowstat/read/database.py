"""A throw-away DuckDB database: tables that outgrow the memory are kept on disk, and nothing is left behind."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from flowstat.errors import FlowstatError, TraceError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = ["MEMORY", "database", "files", "load", "quoted", "size"]

MEMORY = 1 << 30
"""Bytes that DuckDB may hold unless told otherwise."""

LEAST = 100 << 20
"""Bytes with which joins of any size get through: what two threads need."""

SHARE = LEAST // 2
"""Bytes that each thread needs."""


@contextmanager
def database(memory: int | None = None) -> Iterator[DuckDBPyConnection]:
    """Open a database that lives as long as the block, in a directory of its own.

    Parameters
    ----------
    memory
        Bytes that it may hold in memory; what is more goes to disk (`TMPDIR` says where).

    Raises
    ------
    TraceError
        If the memory or the disk do not suffice: with what to do.
    """
    import duckdb

    memory = MEMORY if memory is None else memory
    if memory < LEAST:
        raise TraceError(f"--memory is {memory:,} bytes: sorting and joining take at least {LEAST >> 20} MB")
    with tempfile.TemporaryDirectory(prefix="flowstat-", ignore_cleanup_errors=True) as place:
        connection = duckdb.connect(
            ":memory:",  # spilled to the directory all the same, and not compressed first
            config={
                "memory_limit": f"{memory >> 20}MiB",
                "threads": min(os.cpu_count() or 1, memory // SHARE),
                "temp_directory": place,
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
            },
        )
        # A notebook without ipywidgets refuses to change what is off there already.
        with suppress(duckdb.InvalidInputException):
            connection.execute("set enable_progress_bar = false")
        try:
            yield connection
        except duckdb.OutOfMemoryException:
            raise TraceError(
                f"the traces do not fit in {memory >> 20:,} MB with what can be put aside on disk: raise --memory, or "
                f"set TMPDIR to a larger disk (now {tempfile.gettempdir()})"
            ) from None
        except duckdb.IOException as error:
            first = str(error).split("\n", 1)[0]
            raise TraceError(f"can't put rows aside on disk ({first}): set TMPDIR to a place with room") from None
        except duckdb.InterruptException:
            raise KeyboardInterrupt from None
        except RuntimeError as error:
            # What DuckDB makes of Ctrl-C during a query.
            if "interrupted" not in str(error):
                raise
            raise KeyboardInterrupt from None
        finally:
            with suppress(duckdb.Error):
                connection.close()


def load(
    connection: DuckDBPyConnection,
    table: str,
    batches: Iterator[pa.RecordBatch],
    shape: pa.Schema,
    prepare: Callable[[pa.RecordBatch], pa.RecordBatch],
) -> None:
    """Stream batches into a new table of the database, whose rows keep their order.

    A FlowstatError of the stream comes out as it went in, not as DuckDB words it.
    """
    failed: list[BaseException] = []

    def stream() -> Iterator[pa.RecordBatch]:
        try:
            for batch in batches:
                yield prepare(batch)
        except (FlowstatError, KeyboardInterrupt) as error:
            failed.append(error)
            raise

    import duckdb

    reader = pa.RecordBatchReader.from_batches(shape, stream())
    connection.register("incoming", reader)
    try:
        connection.execute(f"create table {table} as select * from incoming")
    except duckdb.Error:
        if failed:
            raise failed[0] from None
        raise
    finally:
        connection.unregister("incoming")


def files(parts: Sequence[Path]) -> str:
    """Return files as a list in SQL: `*` and the like in their names stand for themselves.

    Examples
    --------
    >>> print(files([Path("it's[1].parquet")]))
    ['it''s[[]1].parquet']
    """
    return "[" + ", ".join(quoted("".join(f"[{c}]" if c in "*?[{" else c for c in str(part))) for part in parts) + "]"


def quoted(text: str) -> str:
    """Return a text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def size(text: str) -> int:
    """Return a size such as `500MB` or `2GB` in bytes.

    Raises
    ------
    TraceError
        If the text is no size.

    Examples
    --------
    >>> size("2GB")
    2147483648
    """
    import re

    found = re.fullmatch(r"\s*([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*([kmgt])i?b?\s*", text, re.IGNORECASE)
    if found is None:
        raise TraceError(f"not a size: {text[:40]!r}; write a number with MB or GB, such as 2GB")
    return int(float(found[1]) * 1024 ** ("kmgt".index(found[2].lower()) + 1))
