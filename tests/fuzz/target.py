"""One file fed to the reader of its format: the first byte says which, and whether bad records are skipped."""

import gzip
import json
from contextlib import suppress
from pathlib import Path

from flowstat.errors import FlowstatError
from flowstat.read.formats import recognise
from flowstat.read.mapping import Mapping
from flowstat.read.notices import Notices
from flowstat.read.traces import TraceFile

SPAN = {
    "traceId": "5b8efff798038103d269b633813fc60c",
    "spanId": "eee19b7ec3c1b174",
    "parentSpanId": "eee19b7ec3c1b173",
    "name": "pay",
    "kind": 5,
    "startTimeUnixNano": "1544712660000000000",
    "endTimeUnixNano": 1544712661000000000,
    "attributes": [
        {"key": "messaging.destination.name", "value": {"stringValue": "orders"}},
        {"key": "n", "value": {"intValue": "3"}},
    ],
    "links": [{"traceId": "5b8efff798038103d269b633813fc60d", "spanId": "eee19b7ec3c1b174"}],
    "status": {"code": 2},
}
OTLP = {
    "resourceSpans": [
        {
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]},
            "scopeSpans": [{"scope": {"name": "x"}, "spans": [SPAN]}],
        }
    ]
}
JAEGER = {
    "data": [
        {
            "traceID": "1a",
            "spans": [
                {
                    "traceID": "1a",
                    "spanID": "2b",
                    "operationName": "pay",
                    "references": [{"refType": "CHILD_OF", "traceID": "1a", "spanID": "1b"}],
                    "startTime": 1,
                    "duration": 2,
                    "tags": [{"key": "span.kind", "type": "string", "value": "consumer"}],
                    "processID": "p1",
                }
            ],
            "processes": {"p1": {"serviceName": "shop", "tags": []}},
        }
    ]
}
ZIPKIN = [
    {
        "traceId": "1a",
        "parentId": "1b",
        "id": "2b",
        "kind": "SERVER",
        "name": "pay",
        "timestamp": 1,
        "duration": 2,
        "localEndpoint": {"serviceName": "shop"},
        "tags": {"error": ""},
        "shared": True,
    }
]
OCEL = {
    "objectTypes": [{"name": "order", "attributes": []}],
    "eventTypes": [{"name": "pay", "attributes": []}],
    "objects": [{"id": "o1", "type": "order"}],
    "events": [
        {
            "id": "e1",
            "type": "pay",
            "time": "2024-01-01T00:00:00Z",
            "relationships": [{"objectId": "o1", "qualifier": "q"}],
        }
    ],
}
XES = """<?xml version="1.0" encoding="UTF-8"?><log xes.version="1.0"><trace><string key="concept:name" value="1"/>
<event><string key="concept:name" value="a"/><date key="time:timestamp" value="2011-10-01T00:38:44.546+02:00"/></event>
<event><string key="concept:name" value="b &amp; c"/></event></trace></log>"""
ROW = {"trace_id": 1, "span_id": 2, "parent_id": 1, "parent": "a", "name": "b", "sent": "c", "sent_at": 5}

FORMATS = {
    "otlp": [json.dumps(OTLP).encode() + b"\n", json.dumps(OTLP, indent=1).encode()],
    "jaeger": [json.dumps(JAEGER).encode()],
    "zipkin": [json.dumps(ZIPKIN).encode()],
    "ocel_json": [json.dumps(OCEL).encode()],
    "xes": [XES.encode(), gzip.compress(XES.encode())],
    "jsonl": [json.dumps(ROW).encode() + b"\n" + json.dumps(ROW | {"span_id": 3, "status": "error"}).encode() + b"\n"],
    "csv": [
        b"case:concept:name,concept:name,time:timestamp\n1,a,2020-01-01 00:00:00\n1,b,\n",
        b"TraceID;SpanID;ParentID;PodName;OperationName;StartTimeUnixNano\n1;2;root;shop-579b9bff58-t2dbm;pay;1\n",
    ],
}
NAMES = sorted(FORMATS)


def seeds(formats):
    """Yield well-formed inputs of some formats."""
    for format in formats:
        for text in FORMATS[format]:
            yield bytes([2 * NAMES.index(format)]) + text
            yield bytes([2 * NAMES.index(format) + 1]) + text


def one_input(data: bytes, path: Path) -> None:
    """Read an input to its end; a FlowstatError is an answer, anything else a bug."""
    if not data:
        return
    format, skip = NAMES[data[0] // 2 % len(NAMES)], bool(data[0] % 2)
    path.write_bytes(data[1:])
    mapping = Mapping(skip_bad=skip)
    with suppress(FlowstatError):
        recognise(path, "input")
    try:
        for batch in TraceFile(format, ("input",), (path,), mapping).batches(Notices(skip)):
            batch.validate(full=True)
    except FlowstatError as error:
        if "input" not in str(error):
            raise AssertionError("the message does not name the file") from error
