"""Traces made for the benchmarks, block by block, so that fifty million events need no memory to make."""

import gzip
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flowstat.read.canonical import open_writer, schema

BLOCK = 1_000_000
EPOCH = 1_700_000_000_000_000_000
NODES = [f"service{k % 10}.operation-{k}" for k in range(40)]
PATTERNS = ["", *NODES, *(f"{a} {b}" for a in NODES[:6] for b in NODES[:6] if a < b)]
ACTIVITIES = [f"activity {k}" for k in range(26)]
PER_RUN = 10
OPEN_CASES = 20_000


def words(codes, vocabulary, mask=None):
    return pa.DictionaryArray.from_arrays(
        pa.array(codes.astype(np.int32), mask=mask), pa.array(vocabulary, pa.string())
    )


def canonical_blocks(events):
    """Yield canonical rows: 40 nodes, about ten patterns a node, a root every tenth row."""
    rng = np.random.default_rng(1)
    nothing = pa.DictionaryArray.from_arrays(pa.nulls(BLOCK, pa.int32()), pa.array([], pa.string()))
    for start in range(0, events, BLOCK):
        at = np.arange(BLOCK) + start
        name = rng.zipf(1.3, BLOCK) % len(NODES)
        sent = (name * 7 + rng.integers(0, 10, BLOCK) ** 2) % len(PATTERNS)
        root = at % PER_RUN == 0
        times = [pa.array(EPOCH + at * 1000 + k * 10, pa.timestamp("ns", "UTC")) for k in range(3)]
        columns = [
            pa.array(at // PER_RUN + 1, pa.uint64()),
            pa.array(at + 1, pa.uint64()),
            pa.array(at, pa.uint64(), mask=root),
            words(rng.integers(0, len(NODES), BLOCK), NODES, root),
            words(name, NODES),
            nothing,
            words(sent, PATTERNS),
            *times,
            words(np.zeros(BLOCK), ["ok"]),
            nothing,
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=schema())


def canonical(path, events):
    """Write a canonical trace as the importer writes it (Parquet or JSON Lines)."""
    with open_writer(path, overwrite=True) as writer:
        for block in canonical_blocks(events):
            writer.write(block)
    return path


def span_columns(rng, start):
    place = np.arange(BLOCK) % PER_RUN
    span = np.arange(BLOCK) + start + 1
    up = (rng.random(BLOCK) * place).astype(np.int64)
    parent = span - place + up
    name = rng.integers(0, len(NODES), BLOCK)
    name = (np.where(place, name % 4 + 4 * (place % 10), 0)).astype(np.int32)
    return span, parent, place == 0, name


def spans(path, events):
    """Write a table of spans with ids and parents, each thousand runs shuffled together."""
    rng = np.random.default_rng(2)
    writer = None
    for start in range(0, events, BLOCK):
        span, parent, root, name = span_columns(rng, start)
        order = np.lexsort((rng.random(BLOCK), np.arange(BLOCK) // (1000 * PER_RUN)))
        table = pa.table(
            {
                "trace_id": pa.array(((span - 1) // PER_RUN + 1)[order], pa.uint64()),
                "span_id": pa.array(span[order], pa.uint64()),
                "parent_id": pa.array(parent[order], pa.uint64(), mask=root[order]),
                "name": words(name[order], NODES),
                "started_at": pa.array(EPOCH + span[order] * 1000, pa.timestamp("ns", "UTC")),
            }
        )
        writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table)
    writer.close()
    return path


def log(path, events):
    """Write a log in the order of time: 20,000 cases open at once, each of about twenty events."""
    rng = np.random.default_rng(3)
    writer = None
    in_slot = np.arange(OPEN_CASES)
    cases = OPEN_CASES
    for start in range(0, events, BLOCK):
        slot = rng.integers(0, OPEN_CASES, BLOCK)
        closes = rng.random(BLOCK) < 1 / 20
        order = np.argsort(slot, kind="stable")
        slots, ends = slot[order], closes[order]
        begins = np.r_[True, slots[1:] != slots[:-1]]
        before = np.cumsum(np.r_[0, ends[:-1]])
        generation = before - before[np.maximum.accumulate(np.where(begins, np.arange(BLOCK), 0))]
        fresh = (generation > 0) & np.r_[True, (generation[1:] != generation[:-1]) | begins[1:]]
        number = np.maximum.accumulate(np.where(fresh, cases + np.cumsum(fresh) - 1, 0))
        case = np.where(generation > 0, number, in_slot[slots])
        cases += int(fresh.sum())
        last = np.flatnonzero(np.r_[begins[1:], True])
        in_slot[slots[last]] = np.where(ends[last], cases + np.arange(len(last)), case[last])
        cases += len(last)
        in_order = np.empty(BLOCK, np.int64)
        in_order[order] = case
        label = pc.binary_join_element_wise(pa.scalar("case-"), pa.array(in_order).cast(pa.string()), pa.scalar(""))
        time = pa.array(EPOCH + (np.arange(BLOCK) + start) * 1_000_000, pa.timestamp("ns", "UTC"))
        activity = words(rng.zipf(1.4, BLOCK) % len(ACTIVITIES), ACTIVITIES).cast(pa.string())
        table = pa.table({"case:concept:name": label, "concept:name": activity, "time:timestamp": time})
        writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table)
    writer.close()
    return path


def otlp(path, events):
    """Write OTLP/JSON as the collector's file exporter does, 200 spans a line, eight attributes a span."""
    rng = np.random.default_rng(4)
    with Path(path).open("wb") as file:
        for start in range(0, events, BLOCK):
            span, parent, root, name = (column[: events - start].tolist() for column in span_columns(rng, start))
            for at in range(0, len(span), 200):
                some = []
                for k in range(at, min(at + 200, len(span))):
                    some.append(
                        {
                            "traceId": f"{(span[k] - 1) // PER_RUN + 1:032x}",
                            "spanId": f"{span[k]:016x}",
                            "parentSpanId": "" if root[k] else f"{parent[k]:016x}",
                            "flags": 257,
                            "name": NODES[name[k]],
                            "kind": 1 + k % 3,
                            "startTimeUnixNano": str(EPOCH + span[k] * 1000),
                            "endTimeUnixNano": str(EPOCH + span[k] * 1000 + 500),
                            "attributes": [
                                {"key": "http.request.method", "value": {"stringValue": "GET"}},
                                {"key": "http.route", "value": {"stringValue": f"/api/v1/{name[k]}"}},
                                {"key": "http.response.status_code", "value": {"intValue": "200"}},
                                {"key": "server.address", "value": {"stringValue": "shop.example"}},
                                {"key": "server.port", "value": {"intValue": "8080"}},
                                {"key": "url.scheme", "value": {"stringValue": "https"}},
                                {"key": "user_agent.original", "value": {"stringValue": "curl/8.5"}},
                                {"key": "thread.id", "value": {"intValue": str(k % 16)}},
                            ],
                            "status": {},
                        }
                    )
                service = {"key": "service.name", "value": {"stringValue": f"shop-{at % 7}"}}
                scope = {"scope": {"name": "http"}, "spans": some}
                resource = {"resource": {"attributes": [service]}, "scopeSpans": [scope]}
                file.write(orjson.dumps({"resourceSpans": [resource]}) + b"\n")
    return path


def xes(path, cases=13_087, events=262_200):
    """Write a packed XES log as large as BPI 2012: its cases, events and attributes."""
    rng = np.random.default_rng(5)
    lengths = rng.multinomial(events - cases, np.full(cases, 1 / cases)) + 1
    with gzip.open(path, "wt", encoding="utf-8", compresslevel=6) as file:
        file.write(
            '<?xml version="1.0" encoding="UTF-8"?>\n<log xes.version="1.0" xmlns="http://www.xes-standard.org/">\n'
        )
        file.write('<extension name="Concept" prefix="concept" uri="http://www.xes-standard.org/concept.xesext"/>\n')
        for case, length in enumerate(lengths.tolist()):
            file.write('\t<trace>\n\t\t<date key="REG_DATE" value="2011-10-01T00:38:44.546+02:00"/>\n')
            file.write(f'\t\t<string key="concept:name" value="{173688 + case}"/>\n')
            file.write(f'\t\t<string key="AMOUNT_REQ" value="{rng.integers(1, 99) * 500}"/>\n')
            for k in range(length):
                time = f"{k // 3600:02d}:{k // 60 % 60:02d}:{k % 60:02d}"
                file.write(
                    f'\t\t<event>\n\t\t\t<string key="org:resource" value="{rng.integers(10000, 12000)}"/>\n'
                    f'\t\t\t<string key="lifecycle:transition" value="COMPLETE"/>\n'
                    f'\t\t\t<string key="concept:name" value="{ACTIVITIES[int(rng.integers(0, 24))]}"/>\n'
                    f'\t\t\t<date key="time:timestamp" value="2011-10-01T{time}.880+02:00"/>\n'
                    "\t\t</event>\n"
                )
            file.write("\t</trace>\n")
        file.write("</log>\n")
    return path
