"""Connections to the engines that hold traces: DuckDB, PostgreSQL, Spark, and whatever else Ibis connects to.

Nothing is written there: DuckDB files are opened read-only, PostgreSQL's transactions are read-only and see one
snapshot, and Spark gets views of its own session at most.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import pyarrow as pa

from flowstat.errors import FlowstatError, TraceError
from flowstat.estimate.spark import SECONDS, spark_backend
from flowstat.read.words import shown

if TYPE_CHECKING:
    from ibis.backends import BaseBackend

__all__ = ["Engine", "connected"]

EXAMPLES = "duckdb:///path/file.db, postgres://user@host/database or spark://host:7077"

EXTRAS = {"postgres": "postgres", "pyspark": "spark"}
"""Ibis backends that an extra of flowstat brings; DuckDB comes with flowstat."""

UNFIT = {
    "mysql": "MySQL cuts what it collects after 1,024 bytes and takes names that differ in case only for one",
    "mssql": "SQL Server takes names that differ in case only for one",
}
"""Backends of Ibis that would give wrong numbers without a word, as they are set up."""

ROWS = 1 << 16
"""How many rows of a stream come at once."""


class Engine:
    """A backend of Ibis, and how it is called in messages.

    Attributes
    ----------
    backend
        What runs the queries.
    shown
        The URL without user, password and options.
    """

    def __init__(self, backend: BaseBackend, url: str) -> None:
        self.backend = backend
        self.shown = visible_url(url)
        self._url = url

    @property
    def kind(self) -> str:
        """The name of the backend: `duckdb`, `postgres`, `pyspark`, ..."""
        name: str = self.backend.name
        return name

    def rows(self, query: Any) -> list[dict[str, Any]]:
        """Run a query (an Ibis table) and return its rows: for small results."""
        if self.kind == "pyspark":
            # Not by pandas or Arrow, whose newest versions Spark does not always support.
            found = self.backend.raw_sql(self.backend.compile(query)).collect()
            return [row.asDict(recursive=True) for row in found]
        rows: list[dict[str, Any]] = self.backend.to_pyarrow(query).to_pylist()
        return rows

    def batches(self, query: Any, shape: pa.Schema) -> Iterator[pa.RecordBatch]:
        """Run a query and stream its rows."""
        if self.kind == "pyspark":
            rows = self.backend.raw_sql(self.backend.compile(query)).toLocalIterator()
            while some := [row.asDict() for row in islice(rows, ROWS)]:
                yield pa.RecordBatch.from_pylist(some, shape)
            return
        if self.kind == "duckdb":
            # Ibis 12 asks DuckDB 2 for this, too, in a way that is gone.
            batches = self.backend.con.sql(self.backend.compile(query)).to_arrow_reader(ROWS)
        else:
            batches = self.backend.to_pyarrow_batches(query, chunk_size=ROWS)
        for batch in batches:
            yield batch.cast(shape)

    @contextmanager
    def working(self, doing: str) -> Iterator[None]:
        """Turn what the engine raises in the block into a TraceError: `can't DOING: reason`."""
        with _told(self._url, f"can't {doing}"):
            yield


@contextmanager
def connected(url: str) -> Iterator[Engine]:
    """Connect to the engine of a URL for the length of the block.

    Parameters
    ----------
    url
        `duckdb:///path/file.db` (`duckdb://` is a database in memory, for Parquet and CSV files),
        `postgres://user:password@host:port/database` (or `postgresql://`), `spark://host:port` (`spark://local[2]`
        runs in this process), or any other URL that `ibis.connect` takes. What follows `?` are options of the
        connection: of Spark its properties, such as `?spark.executor.memory=4g`.

    Raises
    ------
    TraceError
        If the URL is wrong, a package for it is missing, or the server can't be reached. No message holds a password.
    """
    parts = _split(url)
    with ExitStack() as stack:
        with _told(url, f"can't connect to {visible_url(url)}"):
            engine = Engine(_open(parts, url, stack), url)
        yield engine


def _split(url: str) -> SplitResult:
    if url.startswith("spark://"):
        # Several masters, or local[2], are no host of a URL.
        masters, _, options = url.removeprefix("spark://").partition("?")
        return SplitResult("spark", masters.rstrip("/"), "", options, "")
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 -- it is looked at here, so that a wrong one is found now
    except ValueError:
        raise TraceError(
            f"not the URL of an engine: {visible_url(url)} can't be taken apart; special characters in a user or "
            "password are written as %40 (@), %2F (/), %3A (:)"
        ) from None
    if not parts.scheme or "://" not in url:
        raise TraceError(f"not the URL of an engine: {shown(url.split('@')[-1], 80)}; it is such as {EXAMPLES}")
    return parts


def _open(parts: SplitResult, url: str, stack: ExitStack) -> BaseBackend:
    """Return the backend; the stack undoes what was done."""
    import ibis

    if parts.scheme == "spark":
        return spark_backend(parts, stack)
    if parts.scheme == "duckdb":
        backend = _duckdb(parts)
    elif parts.scheme in ("postgres", "postgresql"):
        options = {} if "connect_timeout" in dict(parse_qsl(parts.query)) else {"connect_timeout": SECONDS}
        backend = ibis.connect(url, **options)
    else:
        backend = ibis.connect(url)
    stack.callback(_close, backend)
    if backend.name in UNFIT:
        raise TraceError(
            f"can't count on {visible_url(url)}: {UNFIT[backend.name]}; export the table as Parquet or CSV, and count "
            "that"
        )
    if backend.name == "postgres":
        stack.enter_context(_snapshot(backend))
    return backend


def _close(backend: BaseBackend) -> None:
    # What closing says can't change the numbers.
    with suppress(Exception):
        backend.disconnect()


def _duckdb(parts: SplitResult) -> BaseBackend:
    import ibis

    place = unquote(parts.netloc + parts.path)
    options: dict[str, Any] = dict(parse_qsl(parts.query))
    if not place or place == ":memory:":
        return ibis.duckdb.connect(**options)
    if not Path(place).is_file():
        raise TraceError(
            f"no such DuckDB file: {shown(place, 200)} (a relative path has two slashes: duckdb://file.db)"
        )
    return ibis.duckdb.connect(place, read_only=True, **options)


@contextmanager
def _snapshot(backend: BaseBackend) -> Iterator[None]:
    """Read one state of a PostgreSQL database in all queries, and write nothing."""
    from psycopg import IsolationLevel

    connection = backend.con
    connection.read_only = True
    connection.isolation_level = IsolationLevel.REPEATABLE_READ
    with connection.transaction():
        yield


def visible_url(url: str) -> str:
    """Return a URL without user, password and options, for messages.

    Examples
    --------
    >>> visible_url("postgres://me:secret@db:5432/traces?sslmode=require")
    'postgres://db:5432/traces'
    """
    scheme, found, rest = url.partition("://")
    if not found:
        return shown(rest or scheme, 80)
    return shown(f"{scheme}://{re.split('[?#]', rest.rpartition('@')[2])[0]}", 80)


@contextmanager
def _told(url: str, failed: str) -> Iterator[None]:
    """Turn whatever a driver raises in the block into a TraceError without secrets."""
    try:
        yield
    except (FlowstatError, NameError, AssertionError):
        raise
    except ImportError as error:
        raise TraceError(f"{failed}: {_missing(url, error)}") from None
    # Every driver has errors of its own, and those of one of them are no others' kin.
    except Exception as error:
        raise TraceError(f"{failed}: {_without_secrets(_reason(error), url)}") from None


def _missing(url: str, error: ImportError) -> str:
    cause = error.__cause__ if isinstance(error.__cause__, ImportError) else error
    kind = {"postgresql": "postgres", "spark": "pyspark"}.get(scheme := url.split("://")[0], scheme)
    extra = f"flowstat[{EXTRAS[kind]}]" if kind in EXTRAS else f"ibis-framework[{kind}]"
    return f"a package is missing ({cause.name or shown(str(cause))}): pip install '{extra}'"


def _reason(error: BaseException) -> str:
    """Return what an error says, on one line: of Java's, what Spark says, not where it was."""
    error = _first(error)
    lines = [line.strip() for line in str(error).splitlines()]
    skipped = ("at ", "JVM stacktrace", "Traceback", "==", "^", "LINE ")
    kept = [line for line in lines if line and not line.startswith(skipped)]
    text = " ".join(kept[:4]) or type(error).__name__
    return shown(text, 400)


def _first(error: BaseException) -> BaseException:
    """Return the driver's first error: what closing a cursor says after it hides it."""
    driver = type(error).__module__.partition(".")[0]
    first, earlier = error, error.__cause__ or error.__context__
    while earlier is not None:
        if type(earlier).__module__.partition(".")[0] == driver != "builtins":
            first = earlier
        earlier = earlier.__cause__ or earlier.__context__
    return first


def _without_secrets(text: str, url: str) -> str:
    """Return a text with nothing of a URL's user part, or of the values of its options, in it."""
    before, found, _ = url.partition("://")[2].rpartition("@")
    words = {word for part in before.split(":", 1)[1:] for word in (part, unquote(part))} if found else set()
    with suppress(ValueError):
        words |= {
            value for key, value in parse_qsl(urlsplit(url).query) if re.search("pass|secret|token|key", key, re.I)
        }
    text = text.replace(url, visible_url(url))
    for word in sorted(words - {""}, key=len, reverse=True):
        text = text.replace(word, "***") if len(word) > 3 else re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", "***", text)
    return text
