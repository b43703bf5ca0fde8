"""How fast traces are counted, beside what else could count them, and in how much memory.

Each contender runs in a process of its own on the same made file, in turn; its time is that of the counting, its memory
the peak of the process. `FLOWSTAT_EVENTS` (millions, 10,50 by default) says how many events.
"""

import os
import statistics
import tempfile
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks import made
from tests.benchmarks.harness import Row, contest, median_ratio

LARGE = 31_000_000
"""Events that are ten gigabytes of JSON Lines."""

SIZES = [int(float(m) * 1e6) for m in os.environ.get("FLOWSTAT_EVENTS", "10,50").split(",")]

# The first array of a process imports pandas where it is installed: no more to be timed than the peers' imports.
FLOWSTAT = "import pyarrow as pa; pa.array([1]); import flowstat as fs, flowstat.estimate.counting"
JOINING = f"{FLOWSTAT}; import duckdb, ibis"
COUNT = "counts = fs.count(fs.read_traces(path)); result = sum(counts.events.values())"


@contextmanager
def scratch():
    with tempfile.TemporaryDirectory(prefix="flowstat-bench-") as place:
        yield Path(place)


def millions(n):
    return f"{n / 1e6:g} million events"


def told(contenders, events):
    parts = []
    for name, (seconds, peak, _) in contenders.items():
        took = statistics.median(seconds)
        parts.append(f"{name} {took:.2f} s, {events / took / 1e6:.2f} M/s, {peak:,.0f} MB")
    return "; ".join(parts)


PM4PY = (
    "import pandas as pd, pm4py\n{read}",
    "dfg, starts, ends = pm4py.discover_dfg(df, case_id_key='case:concept:name', activity_key='concept:name', "
    "timestamp_key='time:timestamp')\nresult = sum(dfg.values()) + sum(ends.values())",
)
LOG_FRAME = "df = pd.read_parquet(path)"
CANONICAL_FRAME = (
    "df = pd.read_parquet(path, columns=['trace_id', 'name', 'started_at']).rename(columns={'trace_id': "
    "'case:concept:name', 'name': 'concept:name', 'started_at': 'time:timestamp'})\n"
    "df['case:concept:name'] = df['case:concept:name'].astype(str); df['concept:name'] = df['concept:name'].astype(str)"
)
GROUP_BY = (
    "import duckdb; connection = duckdb.connect()",
    "query = f\"select name, sent, count(*) from '{path}/*.parquet' group by all\"\n"
    "found = connection.execute(query).fetchall()\n"
    "result = sum(row[2] for row in found)",
)
PL4PM = (
    "import polars as pl, pl4pm\ndf = pl.read_parquet(path)",
    "dfg, starts, ends = pl4pm.discover_dfg(df, case_id_key='case:concept:name', activity_key='concept:name', "
    "timestamp_key='time:timestamp')\nresult = sum(dfg.values()) + sum(ends.values())",
)
JOIN = (
    "import duckdb; connection = duckdb.connect(); connection.execute('set enable_progress_bar = false')",
    '''found = connection.execute(f"""with s as (select trace_id t, span_id s, parent_id p, name from '{path}'),
 c as (select t, p, list_sort(list(name)) sent from s where p is not null group by all)
 select name, sent, count(*) n from s left join c on s.t = c.t and s.s = c.p group by all""").fetchall()
result = sum(row[2] for row in found)''',
)


def canonical(events, place):
    path = made.canonical(place / "canonical.parquet", events)
    found = contest(path, 5, flowstat=(FLOWSTAT, COUNT), duckdb=GROUP_BY)
    found |= contest(path, 1, pm4py=(PM4PY[0].format(read=CANONICAL_FRAME), PM4PY[1]))
    ours, peak, result = found["flowstat"]
    assert result == found["duckdb"][2] == found["pm4py"][2] == events
    n = millions(events)
    yield Row(
        f"canonical Parquet, {n}: pm4py in memory / flowstat from the file",
        found["pm4py"][0][0] / statistics.median(ours),
        80,
        "at least",
        told(found, events),
    )
    yield Row(
        f"canonical Parquet, {n}: flowstat / bare DuckDB group by",
        median_ratio(ours, found["duckdb"][0]),
        1.2,
        "at most",
        "",
    )
    yield Row(f"canonical Parquet, {n}: memory, MB", peak, 300, "at most", "")


def log(events, place):
    path = made.log(place / "log.parquet", events)
    found = contest(path, 3, flowstat=(FLOWSTAT, COUNT), pl4pm=PL4PM)
    found |= contest(path, 1, pm4py=(PM4PY[0].format(read=LOG_FRAME), PM4PY[1]))
    ours, peak, result = found["flowstat"]
    assert result == found["pl4pm"][2] == found["pm4py"][2] == events
    n = millions(events)
    took = statistics.median(ours)
    yield Row(
        f"log in time order, {n}: pm4py in memory / flowstat",
        found["pm4py"][0][0] / took,
        20,
        "at least",
        told(found, events),
    )
    yield Row(
        f"log in time order, {n}: pl4pm in memory / flowstat",
        statistics.median(found["pl4pm"][0]) / took,
        5,
        "at least",
        "",
    )
    yield Row(f"log in time order, {n}: memory, MB", peak, 700 if events >= 50e6 else float("inf"), "at most", "")
    return took


def spans(events, place):
    path = made.spans(place / "spans.parquet", events)
    limited = COUNT.replace("read_traces(path)", "read_traces(path), memory=2 << 30")
    found = contest(path, 3, flowstat=(JOINING, COUNT), duckdb=JOIN)
    found |= contest(path, 1, limited=(JOINING, limited))
    assert found["flowstat"][2] == found["duckdb"][2] == found["limited"][2] == events
    n = millions(events)
    ratio = median_ratio(found["flowstat"][0], found["duckdb"][0])
    yield Row(f"spans, {n}: flowstat / hand-written DuckDB join", ratio, 1.3, "at most", told(found, events))


def json_lines(events, place):
    path = made.canonical(place / "canonical.jsonl", events)
    found = contest(path, 3, flowstat=(JOINING, COUNT))
    seconds, _, result = found["flowstat"]
    assert result == events
    rate = events / statistics.median(seconds) / 1e6
    yield Row(f"JSON Lines, {millions(events)}: million events a second", rate, 1.5, "at least", told(found, events))


def large_json_lines(place):
    """Ten gigabytes take the memory of one, and the program."""
    path = made.canonical(place / "large.jsonl", LARGE)
    gigabytes = path.stat().st_size / 1e9
    assert gigabytes > 10
    found = contest(path, 1, flowstat=(JOINING, COUNT))
    _, peak, result = found["flowstat"]
    assert result == LARGE
    yield Row(f"JSON Lines, {gigabytes:.1f} GB: memory, MB", peak, 1500, "at most", told(found, LARGE))


LOOP = (
    "import orjson; from collections import Counter",
    """name, children = {}, {}
for line in open(path, 'rb'):
    for resource in orjson.loads(line)['resourceSpans']:
        about = resource['resource']['attributes']
        service = next(a['value']['stringValue'] for a in about if a['key'] == 'service.name')
        for scope in resource['scopeSpans']:
            for span in scope['spans']:
                node = service + '.' + span['name']
                name[span['traceId'], span['spanId']] = node
                if span['parentSpanId']:
                    children.setdefault((span['traceId'], span['parentSpanId']), []).append(node)
counts = Counter((node, tuple(sorted(children.get(key, ())))) for key, node in name.items())
result = sum(counts.values())""",
)


def otlp(events, place):
    path = made.otlp(place / "otlp.json", events)
    found = contest(path, 3, flowstat=(JOINING, COUNT), loop=LOOP)
    assert found["flowstat"][2] == found["loop"][2] == events
    ratio = median_ratio(found["loop"][0], found["flowstat"][0])
    yield Row(f"OTLP/JSON, {millions(events)}: plain orjson loop / flowstat", ratio, 2, "at least", told(found, events))


def xes(place):
    path = made.xes(place / "log.xes.gz")
    read = ("import pm4py", "result = len(pm4py.read_xes(path, return_legacy_log_object=False))")
    ours = (FLOWSTAT, "result = sum(len(batch) for file in fs.read_traces(path).files for batch in file.batches())")
    found = contest(path, 3, flowstat=ours, pm4py=read)
    assert found["flowstat"][2] == found["pm4py"][2] == 262_200
    ratio = median_ratio(found["pm4py"][0], found["flowstat"][0])
    yield Row("XES as large as BPI 2012, packed: pm4py's reader / flowstat", ratio, 8, "at least", told(found, 262_200))


def benchmarks():
    with scratch() as place:
        yield from xes(place)
        yield from otlp(1_000_000, place)
    for events in SIZES:
        for contender in (canonical, log, spans):
            with scratch() as place:
                yield from contender(events, place)
    with scratch() as place:
        yield from json_lines(min(SIZES), place)
    if max(SIZES) >= 50e6:
        with scratch() as place:
            yield from large_json_lines(place)
