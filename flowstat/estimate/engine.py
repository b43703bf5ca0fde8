"""Counting where the data live: the one definition of the counts, run by the engine that holds the table.

Only the small table of counts comes back. Nothing is created on the engine.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowstat.errors import TraceError
from flowstat.estimate.connect import Engine, connected
from flowstat.estimate.counts import Counts
from flowstat.estimate.expression import distinct_spans, log_table, repeats_table, tree_table
from flowstat.estimate.prepare import UNKNOWN, Found, Prepared, prepare
from flowstat.estimate.tally import log_counts, tree_counts
from flowstat.read.graph import Graph
from flowstat.read.mapping import Mapping, duration
from flowstat.read.notices import Notices
from flowstat.read.words import shown

if TYPE_CHECKING:
    import ibis.expr.types as ir
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["count_on"]

TIES = "events at the time of another of their case, put in the order of their names: the table has no other order"
"""The problem of a log whose times do not say who follows whom."""

FILE_ROW = "flowstat_file_row"


def count_on(engine: str, table: str, graph: Graph | None = None, *, latencies: bool = False, **mapping: Any) -> Counts:
    """Count the traces in a table of a database, or in files that an engine reads itself.

    Parameters
    ----------
    engine
        A URL, see `flowstat.estimate.connect.connected`: `duckdb:///path/file.db`, `postgres://user:password@host/db`,
        `spark://host:7077`, or any other that `ibis.connect` takes.
    table
        `name` or `schema.name` (a name with dots stands in double quotes); for DuckDB and Spark also a path, directory
        or glob of Parquet or CSV files, as the engine sees them.
    graph
        If given, messages along no arrow of it are counted as undeclared too.
    latencies
        Not to be had from an engine.
    **mapping
        Which column means what, as for `read_traces`: see `flowstat.read.mapping.Mapping`.

    Raises
    ------
    TraceError
        If the engine can't be reached or can't do it, the table or a column is not there, or rows lack ids or names
        (unless `skip_bad`: then they are counted as skipped).

    Notes
    -----
    The rules are those of `flowstat.estimate.counting.count` and, for columns, of `flowstat.read.tables.read_table`,
    with these limits. An event that is its own parent is an error, longer cycles of parents are not looked for. Of
    events that were recorded twice and differently, the first by content is first in the order of the engine's own
    texts. Many engines know times to the microsecond only. Texts as times are what the engine reads as such.

    In a log, events at the same time follow each other in the order of the rows where the engine knows one: DuckDB,
    Parquet files read by Spark, or a column of whole numbers called `row`, `seq`, `position` or the like.
    Otherwise they come in the order of their names, and a problem says how many they are.
    """
    if latencies:
        raise TraceError("latencies are not counted on an engine: leave them out, or count files here")
    if isinstance(mapping.get("cut"), str):
        mapping["cut"] = duration(mapping["cut"])
    how = Mapping(**mapping)
    notices = Notices(how.skip_bad)
    with connected(engine) as there:
        origin = f"{shown(table, 200)} on {there.shown}"
        with there.working(f"read {origin}"):
            found = _find(there, table)
        with there.working(f"count {origin}"):
            ready = prepare(found, how, origin, there.rows)
            counts = _count(there, ready, how, origin, notices)
    return counts if graph is None else counts.against(graph)


def _count(engine: Engine, ready: Prepared, how: Mapping, origin: str, notices: Notices) -> Counts:
    (checked,) = engine.rows(ready.check())
    unknown = int(checked.pop(UNKNOWN, 0))
    if unknown:
        notices.note("spans with an unknown word as their status, taken as ok", origin, unknown)
    for what, number in checked.items():
        if number:
            if not how.skip_bad:
                raise TraceError(
                    f"{origin}: {int(number):,} rows have no {what}; with --skip-bad they are left out and counted"
                )
            notices.note(f"rows without {what}, skipped", origin, int(number))
    rows = ready.rows(all_whole=not any(checked.values()))
    if ready.shape == "log":
        if "row" not in rows.columns:
            (ties,) = engine.rows(_ties(rows))
            if ties["number"]:
                notices.note(TIES, origin, int(ties["number"]))
        return log_counts(engine.rows(log_table(rows, how.cut)), origin, notices, node=ready.node)
    (repeats,) = engine.rows(repeats_table(rows))
    again = int(repeats["again"])
    found = engine.rows(tree_table(distinct_spans(rows) if again else rows, how.cut))
    return tree_counts(found, origin, notices, again=again, node=ready.node)


def _ties(log: ir.Table) -> ir.Table:
    """Count the events whose successor the times do not tell."""
    keys = [c for c in ("trace_id", "started_at") if c in log.columns]
    at_once = log.group_by(*keys).agg(number=log.count(), names=log.name.nunique())
    several = at_once.filter(at_once.names > 1)
    return several.agg(number=several.number.sum())


def _find(engine: Engine, table: str) -> Found:
    """Return the table of that name, or what is in the files."""
    if not table.strip():
        raise TraceError("no table was named")
    files = engine.kind in ("duckdb", "pyspark") and re.search(r"[/\\*]|\.(parquet|csv|tsv)(\.\w+)?$", table)
    if files:
        return _duckdb_files(engine, table) if engine.kind == "duckdb" else _spark_files(engine, table)
    parts = [part.strip('"') for part in re.findall(r'"[^"]+"|[^."]+', table)]
    *places, name = parts if len(parts) <= 3 else [table]
    place = tuple(places) if len(places) > 1 else places[0] if places else None
    import ibis.common.exceptions as ibis_errors

    try:
        found = engine.backend.table(name, database=place)
    except ibis_errors.TableNotFound:
        raise TraceError(f"no table {shown(table, 200)} on {engine.shown}{_others(engine, name, place)}") from None
    return _ordered(found) if engine.kind == "duckdb" else Found(found)


def _others(engine: Engine, name: str, place: str | tuple[str, ...] | None) -> str:
    """Say which tables there are."""
    try:
        if engine.kind == "duckdb":
            # Ibis 12 asks DuckDB 2 for this in a way that is gone.
            (names,) = zip(*engine.backend.raw_sql("select table_name from duckdb_tables()").fetchall(), strict=True)
        else:
            names = engine.backend.list_tables(database=place)
    # It only helps, and may be forbidden.
    except Exception:
        return ""
    near = get_close_matches(name, names, 3, 0.5) or sorted(names)[:5]
    return f"; there are {', '.join(shown(n) for n in near)}" if near else "; there is none in this schema"


def _ordered(table: ir.Table) -> Found:
    """Number the rows as DuckDB reads them, which is their order."""
    import ibis

    return Found(table.mutate(**{FILE_ROW: ibis.row_number()}), FILE_ROW)


def _duckdb_files(engine: Engine, path: str) -> Found:
    if Path(path).is_dir():
        path = f"{path.rstrip('/')}/*.parquet"
    backend: Any = engine.backend
    if re.search(r"\.(csv|tsv)(\.\w+)?$", path):
        return _ordered(backend.read_csv(path, all_varchar=True))
    return _ordered(backend.read_parquet(path))


def _spark_files(engine: Engine, path: str) -> Found:
    """Read files as a view of a session that is like the one there, so that nothing of that is changed."""
    import ibis
    from pyspark.sql import SparkSession

    running = SparkSession.getActiveSession()
    assert running is not None
    session = running.newSession()
    engine.backend = ibis.pyspark.connect(session)
    if found := re.search(r"\.(csv|tsv)(\.\w+)?$", path):
        delimiter = "\t" if found[1] == "tsv" else ","
        frame = session.read.csv(path, header=True, sep=delimiter, quote='"', escape='"', multiLine=True)
        return Found(_view(engine, session, frame))
    # Spark refuses times of nanoseconds, flowstat's own too, unless they may come as numbers.
    session.conf.set("spark.sql.legacy.parquet.nanosAsLong", "true")
    frame = session.read.parquet(path)
    frame = frame.selectExpr("*", f"struct(_metadata.file_path, _metadata.row_index) as {FILE_ROW}")
    return Found(_view(engine, session, frame), FILE_ROW)


def _view(engine: Engine, session: SparkSession, frame: DataFrame) -> ir.Table:
    frame.createOrReplaceTempView("flowstat_files")
    table: ir.Table = engine.backend.table("flowstat_files")
    return table
