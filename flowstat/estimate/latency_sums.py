"""Latencies of every pair of nodes, summed up by the database that holds the spans.

From the start of the event that sent a message to the start of the one that handles it. Where a time is unknown there
is no latency; one that is negative, because clocks disagree, is left out and reported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowstat.estimate.latency import GROWTH, Latency
from flowstat.estimate.recorded import LONG_AGO, Recorded
from flowstat.read.notices import Notices

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = ["log_latencies", "span_latencies"]

NEGATIVE = "messages handled before they were sent (clocks disagree), left out of the latencies"


def span_latencies(
    connection: DuckDBPyConnection, spans: str, recorded: Recorded, notices: Notices
) -> dict[tuple[str, str], Latency]:
    """Return (source, target) -> latency of the messages among spans, each event once.

    Parameters
    ----------
    spans
        A table or view with the columns of `recorded`.
    """
    if "started_at" not in recorded.types:
        return {}
    handled = "and c.status in ('ok', 'error')" if "status" in recorded.types else ""
    known = f"c.started_at > {LONG_AGO} and p.started_at > {LONG_AGO}"
    pairs = f"""select p.name as source, c.name as target, c.started_at::hugeint - p.started_at as latency
        from {spans} c join {spans} p on c.trace_id = p.trace_id and c.parent_id = p.span_id
        where {known} {handled}"""
    return _sums(connection, pairs, recorded.names, notices)


def log_latencies(
    connection: DuckDBPyConnection, recorded: Recorded, notices: Notices
) -> dict[tuple[str, str], Latency]:
    """Return (activity, next activity) -> latency from the start of one to the start of the other in a log."""
    pairs = """select * from (
            select name as source, lead(name) over run as target,
                lead(started_at) over run::hugeint - started_at as latency
            from spans window run as (partition by trace_id order by started_at nulls last, "row")
        ) where latency is not null"""
    return _sums(connection, pairs, recorded.names, notices)


def _sums(
    connection: DuckDBPyConnection, pairs: str, names: list[str], notices: Notices
) -> dict[tuple[str, str], Latency]:
    # Squares of 64 bits would overflow their sums: high and low halves are summed apart.
    found = connection.execute(
        f"""with pair as ({pairs}), half as (
            select source, target, latency < 0 as negative,
                case when latency <= 1 then 0 else ceil(ln(latency::double) / ln({GROWTH}::double))::int end as bucket,
                latency, latency >> 32 as high, latency & 4294967295 as low
            from pair
        )
        select source, target, negative, bucket, count(*), sum(latency),
            sum(high * high), sum(high * low), sum(low * low)
        from half group by all order by all"""
    ).fetchall()
    parts: dict[tuple[str, str], tuple[int, int, int, dict[int, int]]] = {}
    for source, target, negative, bucket, n, total, high, mixed, low in found:
        pair = names[source], names[target]
        if negative:
            notices.note(NEGATIVE, f"from {pair[0]} to {pair[1]}", n)
            continue
        number, sums, squares, buckets = parts.get(pair, (0, 0, 0, {}))
        squares += (int(high) << 64) + (int(mixed) << 33) + int(low)
        parts[pair] = number + n, sums + int(total), squares, buckets | {bucket: buckets.get(bucket, 0) + n}
    return {pair: Latency(*known) for pair, known in sorted(parts.items())}
