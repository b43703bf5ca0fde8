"""Events as OpenTelemetry spans, live."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from flowstat.errors import OutputError
from flowstat.estimate.counting import count
from flowstat.read.canonical import open_writer
from flowstat.read.files import parse_graph
from flowstat.read.traces import read_traces
from flowstat.run.app import App
from flowstat.run.inject import spread
from flowstat.run.latencies import VirtualTime
from flowstat.run.loop import Limits
from flowstat.run.telemetry import SPANS, SpansToo, otlp_exporter

GRAPH = parse_graph("a -> b; b/again -> b; b/ok -> c, d; c/x -> e")


@pytest.fixture(name="collector")
def a_collector():
    """Start a collector on the loopback that keeps what it gets."""
    got = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                import gzip

                body = gzip.decompress(body)
            got.append((self.path, ExportTraceServiceRequest.FromString(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", got
    server.shutdown()
    thread.join()
    server.server_close()


def made():
    app = App(GRAPH, seed=4)

    @app.on("b")
    def b(state, message, ctx):
        if ctx.random.random() < 0.1:
            raise ValueError
        ctx.emit(None, "again" if ctx.random.random() < 0.3 else "ok")

    return app


@pytest.mark.parametrize("clock", [time.time_ns, VirtualTime(0.5, start=10**18)])
def test_a_collector_gets_every_event(collector, tmp_path, clock):
    address, got = collector
    with open_writer(tmp_path / "t.parquet") as file, SpansToo(otlp_exporter(address), file) as writer:
        result = made().run(spread(GRAPH, 300), writer, clock=clock, limits=Limits(batch_rows=SPANS))
    assert {path for path, _ in got} == {"/v1/traces"}
    assert len(got) == -(-(result.events + sum(result.dropped.values())) // SPANS)
    # What the collector keeps is read back as the same counts.
    kept = tmp_path / "kept.json"
    kept.write_text("".join(json.dumps(_json(request)) + "\n" for _, request in got))
    here, there = (count(read_traces(tmp_path / name)) for name in ("t.parquet", "kept.json"))
    assert here.starts == there.starts
    assert {k: v for k, v in here.events.items() if v} == {k: v for k, v in there.events.items() if v}
    assert here.pairs().equals(there.pairs())


def _json(request):
    """Return a request as OTLP/JSON, which writes ids in hex digits and not in Base64."""
    import base64

    data = MessageToDict(request, use_integers_for_enums=True)
    for resource in data["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                for field in ("traceId", "spanId", "parentSpanId"):
                    if field in span:
                        span[field] = base64.b64decode(span[field]).hex()
    return data


def test_spans_need_times_and_a_collector(tmp_path):
    with SpansToo(otlp_exporter("http://127.0.0.1:9")) as writer, pytest.raises(OutputError, match="--clock wall"):
        made().run(spread(GRAPH, 3), writer)
    with pytest.raises(OutputError, match="no address"):
        otlp_exporter("localhost:4318")


def test_a_collector_that_fails_ends_the_run_clearly():
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    class Failing(SpanExporter):
        def export(self, spans):
            return SpanExportResult.FAILURE

    with pytest.raises(OutputError, match="does not take spans"), SpansToo(Failing()) as writer:
        made().run(spread(GRAPH, 3), writer, clock=VirtualTime(start=1))


def test_each_program_run_has_trace_ids_of_its_own():
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    seen = []
    for _ in range(2):
        exporter = InMemorySpanExporter()
        with SpansToo(exporter) as writer:
            made().run(spread(GRAPH, 3), writer, clock=VirtualTime(start=1))
            seen.append({span.context.trace_id for span in exporter.get_finished_spans()})
    assert len(seen[0]) == len(seen[1]) == 3
    assert not seen[0] & seen[1]
