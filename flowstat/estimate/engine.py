"""Counting where the data live: the one definition of the counts, run by the engine that holds the table.

Only the small table of counts comes back, and ids of runs that may be damaged. Nothing is created on the engine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from flowstat.errors import TraceError
from flowstat.estimate.connect import Engine, connected
from flowstat.estimate.counts import Counts
from flowstat.estimate.expression import (
    doubtful_table,
    links_of,
    links_table,
    log_table,
    repeats_table,
    retries_table,
    tree_table,
)
from flowstat.estimate.node_fields import as_text
from flowstat.estimate.prepare import UNKNOWN, Found, Prepared, prepare
from flowstat.estimate.tally import link_counts, log_counts, retry_notice, tree_counts
from flowstat.read.ancestors import refuse_cycles
from flowstat.read.database import database, load
from flowstat.read.graph import Graph
from flowstat.read.mapping import Mapping, duration
from flowstat.read.notices import Notices
from flowstat.read.repeats import IDS, distinct_spans
from flowstat.read.tables import DELIMITERS
from flowstat.read.words import shown

if TYPE_CHECKING:
    import ibis.expr.types as ir
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["count_on"]

TIES = "events at the time of another of their case, put in the order of their names: the table has no other order"
"""The problem of a log whose times do not say who follows whom."""

LOOKED_AT = 10_000_000
"""How many events' ids are fetched from an engine at most, to look for cycles of parents."""

NOT_LOOKED_AT = "events of runs in which neither ids nor times rule out a cycle of parents, too many to look for one"
UNLINKED = "tables with links in a form that can't be taken apart on this engine: span links are not counted"

FILE_ROW = "flowstat_file_row"
FILE_BAD = "flowstat_file_bad"

CSV = r"\.(csv|tsv)(\.\w+)?$"


def count_on(
    engine: str,
    table: str,
    graph: Graph | None = None,
    *,
    latencies: bool = False,
    memory: int | None = None,
    **mapping: Any,
) -> Counts:
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
    memory
        Bytes that looking for cycles of parents may hold here, see `flowstat.read.database.database`; what the engine
        may hold is its own matter, or an option in its URL (`duckdb://?memory_limit=2GB`).
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
    with these limits. Where neither ids nor times show that a run has no cycle of parents, its ids are fetched and
    looked at here; where these are more than `LOOKED_AT` events, a problem says so instead. Links are counted where
    the column `links` is a list of structs; else a problem says that there are some. Latencies are not counted. Many
    engines know times to the microsecond only. Texts as times are what the engine reads as such. MySQL and SQL Server
    are refused: `flowstat.estimate.connect.UNFIT` says why.

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
            counts = _count(there, ready, how, origin, notices, memory)
    return counts if graph is None else counts.against(graph)


def _count(engine: Engine, ready: Prepared, how: Mapping, origin: str, notices: Notices, memory: int | None) -> Counts:
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
    if ready.unlinked:
        notices.note(UNLINKED, origin)
    (repeats,) = engine.rows(repeats_table(rows))
    again = int(repeats["again"])
    links = links_of(rows) if "links" in rows.columns else None
    rows = rows.drop("links") if links is not None else rows
    each = distinct_spans(rows, _order(engine, rows, ready.node)) if again else rows
    found = engine.rows(tree_table(each, how.cut))
    counts = tree_counts(found, origin, notices, again=again, node=ready.node)
    if repeats["backward"]:
        _refuse_cycles(engine, doubtful_table(each), origin, notices, memory)
    more: dict[str, Any] = {}
    if links is not None:
        more["links"] = link_counts(engine.rows(links_table(each, links)), origin, notices, node=ready.node)
    if counts.errors:
        names = {row["name"] for row in found if row["name"] is not None and row["status"] != "dropped"}
        retry_notice(engine.rows(retries_table(_renamed(each, names, ready.node))), notices, node=ready.node)
    return replace(counts, problems=notices.problems, **more)


def _order(engine: Engine, rows: ir.Table, node: Callable[[str], str]) -> dict[str, Callable[[ir.Table], ir.Value]]:
    """Return how rows of one event are put in order by their nodes: not as the fields are that make the nodes."""
    import ibis

    if node is str:
        return {}
    named = rows.select(*IDS, name=rows.name.fill_null(""))
    kinds = named.group_by(*IDS).agg(number=named.name.nunique())
    several = named.semi_join(kinds.filter(kinds.number > 1), IDS).select("name").distinct()
    nodes = {row["name"]: node(row["name"]) for row in engine.rows(several) if row["name"]}
    place = {name: k for k, name in enumerate(sorted(set(nodes.values())))}
    places = [(name, place[made]) for name, made in nodes.items()]

    def by_node(spans: ir.Table) -> ir.Value:
        none = ibis.null("int64")
        # The rows of other events have one name each.
        one = ibis.ifelse(spans.name.isnull(), none, 0)
        return spans.name.cases(*places, else_=one) if places else one

    return {"name": by_node}


def _refuse_cycles(engine: Engine, doubtful: ir.Table, origin: str, notices: Notices, memory: int | None) -> None:
    """Look here at the runs in which ids and times leave it open whether an event is among its own ancestors."""
    (found,) = engine.rows(doubtful.agg(number=doubtful.count()))
    if found["number"] > LOOKED_AT:
        notices.note(NOT_LOOKED_AT, origin, int(found["number"]))
    if not 0 < found["number"] <= LOOKED_AT:
        return
    shape = pa.schema(dict.fromkeys(doubtful.columns, pa.string()))
    texts = doubtful.select(**{column: as_text(doubtful[column]) for column in doubtful.columns})
    with database(memory) as connection:
        load(connection, "doubtful", engine.batches(texts, shape), shape, lambda batch: batch)
        refuse_cycles(connection, "doubtful", origin)


def _renamed(spans: ir.Table, names: Iterable[str], node: Callable[[str], str]) -> ir.Table:
    """Return spans in which names that stand for one node are one."""
    first: dict[str, str] = {}
    others = {name: kept for name in sorted(names) if (kept := first.setdefault(node(name), name)) != name}
    return spans.mutate(name=spans.name.substitute(others)) if others else spans


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
    files = engine.kind in ("duckdb", "pyspark") and re.search(rf"[/\\*]|\.parquet(\.\w+)?$|{CSV}", table)
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
    if re.search(CSV, path):
        # A table of one column, of lines that begin with some character.
        lines = backend.read_csv(path, columns={"line": "varchar"}, delim="\n", quote="", escape="", header=False)
        first = engine.rows(lines.filter(lines.line.strip() != "").limit(1))
        delimiter = _delimiter(first[0]["line"] if first else "")
        return _ordered(backend.read_csv(path, all_varchar=True, delim=delimiter, quote='"', escape='"', header=True))
    return _ordered(backend.read_parquet(path))


def _spark_files(engine: Engine, path: str) -> Found:
    """Read files as a view of a session that is like the one there, so that nothing of that is changed."""
    import ibis
    from pyspark.sql import SparkSession

    running = SparkSession.getActiveSession()
    assert running is not None
    session = running.newSession()
    engine.backend = ibis.pyspark.connect(session)
    if re.search(CSV, path):
        return Found(_view(engine, session, _spark_csv(session, path)), bad=FILE_BAD)
    # Spark refuses times of nanoseconds, flowstat's own too, unless they may come as numbers.
    session.conf.set("spark.sql.legacy.parquet.nanosAsLong", "true")
    frame = session.read.parquet(path)
    frame = frame.selectExpr("*", f"struct(_metadata.file_path, _metadata.row_index) as {FILE_ROW}")
    return Found(_view(engine, session, frame), FILE_ROW)


def _spark_csv(session: SparkSession, path: str) -> DataFrame:
    """Read CSV as `flowstat.read.tables` does, with the column `FILE_BAD` for rows of another number of fields."""
    lines = session.read.text(path)
    quotes = lines.selectExpr("_metadata.file_path", "length(value) - length(replace(value, '\"', '')) as number")
    odd = quotes.groupBy("file_path").sum("number").filter("`sum(number)` % 2 = 1").first()
    if odd is not None:
        # Spark would read to the end of the file.
        raise TraceError(
            f"{shown(odd[0], 200)}: a quote is opened in it that nothing closes: one that is meant is doubled"
        )
    first = lines.filter("trim(value) != ''").first()
    form: dict[str, Any] = {
        "sep": _delimiter(first[0] if first else ""),
        "quote": '"',
        "escape": '"',
        "multiLine": True,
    }
    form["unescapedQuoteHandling"] = "RAISE_ERROR"
    header = session.read.csv(path, header=False, **form).first()
    columns = session.read.csv(path, header=True, **form)
    # Spark takes columns of all files by their place, unless their names are to be looked at: as they are.
    own = columns.columns == [name or "" for name in header or ()]
    if not own and len(columns.inputFiles()) > 1:
        raise TraceError(f"{shown(path, 200)}: two columns have one name, or one has none: Spark can't tell them apart")
    schema = columns.schema.add(FILE_BAD, "string")
    form |= {"enforceSchema": not own, "columnNameOfCorruptRecord": FILE_BAD}
    return session.read.csv(path, header=True, schema=schema, **form)


def _delimiter(header: str) -> str:
    """Return what the first line of a CSV file has most of outside of quotes, as `flowstat.read.tables` does."""
    bare = re.sub('"[^"]*("|$)', "", header)
    return max(DELIMITERS, key=bare.count)


def _view(engine: Engine, session: SparkSession, frame: DataFrame) -> ir.Table:
    frame.createOrReplaceTempView("flowstat_files")
    table: ir.Table = engine.backend.table("flowstat_files")
    return table
