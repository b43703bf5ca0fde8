import base64
import copy
import gzip
import json
import random
from unittest import mock

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowstat.errors import OutputError, TraceError
from flowstat.read.jsonlines import CUT_OFF
from flowstat.read.notices import Notices
from flowstat.read.otlp import read_otlp
from flowstat.read.otlp_spans import OTHERS, SpanDecoder
from flowstat.read.otlp_writer import OtlpWriter
from flowstat.read.own_spans import Ids
from flowstat.read.span_rows import DamagedError
from tests.span_files import (
    batch_of,
    complaint,
    counted,
    is_refused_well,
    linked_forests,
    read,
    read_text,
    relabelled,
    write,
)
from tests.strategies import event

T, S, P = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "00f067aa0ba902b7"


def attributes(**tags):
    return [{"key": key.replace("__", "."), "value": value} for key, value in tags.items()]


def text(value):
    return {"stringValue": value}


def span(**more):
    return {"traceId": T, "spanId": S, "name": "work", "kind": 1, "startTimeUnixNano": "1000"} | more


def document(*spans, scope=None, **tags):
    resource = {"attributes": attributes(**({"service__name": text("shop")} | tags))}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": scope or {}, "spans": [*spans]}]}]}


CONSUMED = span(
    kind=5,
    attributes=attributes(
        messaging__destination__name=text("orders"), messaging__rabbitmq__destination__routing_key=text("eu.new")
    ),
)


def one(tmp_path, content, **mapping):
    (row,) = read_text(read_otlp, tmp_path, content, **mapping)
    return row


def lines(*documents):
    return b"".join(orjson.dumps(d) + b"\n" for d in documents)


def test_a_span_becomes_a_row(tmp_path):
    content = document(span(parentSpanId=P, endTimeUnixNano=2000, links=[{"traceId": T, "spanId": P}]))
    assert one(tmp_path, content) == {
        **event(T, S, "shop.work", parent_id=P, started_at=1000, ended_at=2000, sent=None),
        "links": [{"trace_id": T, "span_id": P}],
    }


def test_a_message_handled_is_an_event_of_its_destination(tmp_path):
    row = one(tmp_path, document(CONSUMED, service__instance__id=text("w1")))
    assert (row["name"], row["key"], row["worker"]) == ("orders", "eu.new", "w1")


def test_messaging_attributes_count_whatever_the_kind(tmp_path):
    receive = attributes(messaging__destination__name=text("q"), messaging__operation=text("receive"))
    rows = read_text(read_otlp, tmp_path, document(span(), CONSUMED, span(kind=3, attributes=receive)))
    assert [row["name"] for row in rows] == ["shop.work", "orders", "q"]


@pytest.mark.parametrize("kind", [5, "SPAN_KIND_CONSUMER", "CONSUMER", "5"])
@pytest.mark.parametrize("code", [2, "STATUS_CODE_ERROR", "ERROR"])
def test_numbers_of_kind_and_status_may_be_words(tmp_path, kind, code):
    row = one(tmp_path, document(CONSUMED | {"kind": kind, "status": {"code": code}}))
    assert (row["name"], row["status"]) == ("orders", "error")


@pytest.mark.parametrize("status", [None, {}, {"code": 1}, {"code": "STATUS_CODE_OK"}, {"code": None}])
def test_any_other_status_is_ok(tmp_path, status):
    assert one(tmp_path, document(span(status=status)))["status"] == "ok"


def test_ids_may_be_base64_upper_case_or_short(tmp_path):
    def encoded(digits):
        return base64.b64encode(bytes.fromhex(digits)).decode()

    ids = [
        (encoded(T), encoded(S), encoded(P)),
        (encoded(T).rstrip("="), encoded(S).rstrip("="), encoded(P).rstrip("=")),
        (T.upper(), S.upper(), P.upper()),
        (T, S, P),
    ]
    for found in [ids, *[[i] for i in ids]]:
        spans = [span(traceId=t, spanId=s, parentSpanId=p) for t, s, p in found]
        rows = read_text(read_otlp, tmp_path, document(*spans))
        assert {(row["trace_id"], row["span_id"], row["parent_id"]) for row in rows} == {(T, S, P)}
    assert one(tmp_path, document(span(traceId=S)))["trace_id"] == "0" * 16 + S


@pytest.mark.parametrize("parent", ["", None, "0" * 16, "AAAAAAAAAAA="])
def test_a_parent_that_is_empty_or_zero_is_none(tmp_path, parent):
    assert one(tmp_path, document(span(parentSpanId=parent)))["parent_id"] is None


@pytest.mark.parametrize(("time", "is_read"), [("0", None), (0, None), (None, None), (5, 5), ("5", 5), (5.0, 5)])
def test_times_are_numbers_or_texts_and_zero_is_unknown(tmp_path, time, is_read):
    assert one(tmp_path, document(span(startTimeUnixNano=time)))["started_at"] == is_read


def test_values_of_attributes_become_texts(tmp_path):
    values = {
        "text": ({"stringValue": "a"}, "a"),
        "number": ({"intValue": "7"}, "7"),
        "plain": ({"intValue": 7}, "7"),
        "real": ({"doubleValue": 0.5}, "0.5"),
        "flag": ({"boolValue": False}, "false"),
        "bytes": ({"bytesValue": "AQ=="}, "AQ=="),
        "list": ({"arrayValue": {"values": [{"stringValue": "x"}]}}, '{"values":[{"stringValue":"x"}]}'),
        "snake": ({"string_value": "s"}, "s"),
        "x_value": ({"stringValue": ""}, "shop"),
        "none": ({}, "shop"),
    }
    for key, (value, expected) in values.items():
        got = one(tmp_path, document(span(attributes=attributes(**{key: value}))), node=f"{{{key}}}:{{service}}")
        assert got["name"] == (expected if expected == "shop" else f"{expected}:shop")


def test_a_template_takes_the_resource_and_the_scope(tmp_path):
    content = document(span(), scope={"name": "lib"}, zone=text("eu"))
    assert one(tmp_path, content, node="{zone}/{scope}/{kind}/{name}")["name"] == "eu/lib/internal/work"
    assert one(tmp_path, content, node="{scope}/{name}")["name"] == "lib/work"


def renamed(value, names):
    if isinstance(value, dict):
        return {names.get(key, key): renamed(inner, names) for key, inner in value.items()}
    return [renamed(inner, names) for inner in value] if isinstance(value, list) else value


SNAKE = {
    "resourceSpans": "resource_spans",
    "scopeSpans": "scope_spans",
    "traceId": "trace_id",
    "spanId": "span_id",
    "parentSpanId": "parent_span_id",
    "startTimeUnixNano": "start_time_unix_nano",
    "stringValue": "string_value",
}


@pytest.mark.parametrize(
    "names",
    [
        SNAKE,
        {"scopeSpans": "instrumentationLibrarySpans", "scope": "instrumentationLibrary"},
        {"resourceSpans": "batches"},
    ],
)
def test_other_spellings_say_the_same(tmp_path, names):
    content = document(span(parentSpanId=P, links=[{"traceId": T, "spanId": P}]), CONSUMED, scope={"name": "lib"})
    expected = read_text(read_otlp, tmp_path, content, node="{scope}|{destination}|{service}|{name}")
    other = renamed(content, names)
    assert read_text(read_otlp, tmp_path, other, node="{scope}|{destination}|{service}|{name}") == expected
    assert read_text(read_otlp, tmp_path, [other, other], node="{scope}|{destination}|{service}|{name}") == expected * 2


def test_documents_come_whole_pretty_or_by_line(tmp_path):
    a, b = document(span(name="a")), document(span(name="b"))
    assert len(read_text(read_otlp, tmp_path, json.dumps(a, indent=1).encode())) == 1
    assert len(read_text(read_otlp, tmp_path, b"\xef\xbb\xbf" + json.dumps(a, indent=1).encode())) == 1
    content = b"\xef\xbb\xbf\n" + lines(a) + b"\r\n\n" + lines(b)
    assert [row["name"] for row in read_text(read_otlp, tmp_path, content)] == ["shop.a", "shop.b"]
    rows = read_text(read_otlp, tmp_path, gzip.compress(content))
    assert [row["name"] for row in rows] == ["shop.a", "shop.b"]
    assert len(read_text(read_otlp, tmp_path, lines({}, a))) == 1


@pytest.mark.parametrize("spans", ["instrumentationLibrarySpans", "scopeSpans"])
def test_the_answer_of_tempo_is_read(tmp_path, spans):
    (resource,) = document(span(), span(name="b"))["resourceSpans"]
    answer = {"batches": [{"resource": resource["resource"], spans: resource["scopeSpans"]}]}
    expected = read_text(read_otlp, tmp_path, document(span(), span(name="b")))
    assert read_text(read_otlp, tmp_path, answer) == expected
    assert read_text(read_otlp, tmp_path, {"batches": []}) == []
    assert len(expected) == 2


@pytest.mark.parametrize("signal", ["resourceLogs", "resourceMetrics", "resource_logs", "resource_profiles"])
def test_other_signals_are_left_out_and_noted(tmp_path, signal):
    other = {signal: [{"scopeLogs": [{"logRecords": [{"traceId": T, "spanId": S}]}]}]}
    for content in (lines(other, document(span())), lines(other, other, document(span()), other)):
        notices = Notices()
        assert len(read_text(read_otlp, tmp_path, content, notices)) == 1
        ((what, number),) = [(p.what, p.number) for p in notices.problems]
        assert (what, number) == (OTHERS, content.count(signal.encode()))


def test_a_document_without_spans_is_none(tmp_path):
    for empty in ({"resourceSpans": []}, {"resourceSpans": None}, {"resourceSpans": [{}]}, document()):
        assert read_text(read_otlp, tmp_path, empty) == []
    notices = Notices()
    assert len(read_text(read_otlp, tmp_path, lines({"resourceLogs": []}, document(span()), {}), notices)) == 1
    assert [(p.what, p.number) for p in notices.problems] == [(OTHERS, 2)]


@pytest.mark.parametrize(
    ("odd", "what"),
    [
        ({"traceId": ""}, "'traceId' is missing"),
        ({"traceId": "xyz"}, "'traceId' is 'xyz': it is 32 hex digits, or 16 bytes in base64"),
        ({"spanId": "0" * 16}, "'spanId' is all zeros"),
        ({"spanId": S[:8]}, "'spanId' is"),
        ({"spanId": None}, "`$.spanId`"),
        ({"parentSpanId": "x"}, "'parentSpanId' is 'x'"),
        ({"parentSpanId": 5}, "`$.parentSpanId`"),
        ({"startTimeUnixNano": "soon"}, "`$.startTimeUnixNano`"),
        ({"endTimeUnixNano": 2**63}, "'endTimeUnixNano' is 9223372036854775808: that is beyond 64 bits"),
        ({"endTimeUnixNano": True}, "`$.endTimeUnixNano`"),
        ({"name": ["a"]}, "`$.name`"),
        ({"status": 2}, "`$.status`"),
        ({"links": [{"traceId": T}]}, "'spanId of a link' is missing"),
        ({"links": 5}, "`$.links`"),
        ({"kind": 5, "attributes": 7}, "its attributes can't be read"),
        ({"kind": 5, "attributes": [{"value": {}}]}, "missing required field `key`"),
    ],
)
def test_an_odd_span_is_named(tmp_path, odd, what):
    message = complaint(read_otlp, tmp_path, document(span(), span(**odd), span()))
    assert message.startswith("traces.json: span 2: ")
    assert what in message
    message = complaint(read_otlp, tmp_path, lines(document(span()), document(span(), span(**odd))))
    assert message.startswith("traces.json:2: span 2: ")
    content = lines(document(span(), span(**odd), CONSUMED), document(span()))
    assert len(read_text(read_otlp, tmp_path, content, Notices(skip_bad=True))) == 3


def test_a_span_without_node_is_named(tmp_path):
    content = document(span(name=""), service__name=text(""))
    assert "span 1: it has neither service nor name" in complaint(read_otlp, tmp_path, content)
    with pytest.raises(TraceError, match="span 1: its node has no name"):
        read_text(read_otlp, tmp_path, document(span()), node="{nothing}")
    with pytest.raises(TraceError, match="not a template"):
        read_text(read_otlp, tmp_path, document(span()), node="{")


@pytest.mark.parametrize("resource", [5, {"attributes": 5}, {"attributes": [5]}])
def test_a_damaged_resource_costs_its_own_spans(tmp_path, resource):
    content = document(span())
    content["resourceSpans"].append(copy.deepcopy(content["resourceSpans"][0]))
    content["resourceSpans"][1]["resource"] = resource
    assert "span 2: the attributes of its resource can't be read" in complaint(read_otlp, tmp_path, content)


@pytest.mark.parametrize("line", [b"{", b"5", b"null", b'"x"', b"\xff", b'{"resourceSpans":5}', b'{"a":' + b"[" * 3000])
def test_a_damaged_line_is_named(tmp_path, line):
    content = lines(document(span())) + line + b"\n" + lines(document(span()))
    assert complaint(read_otlp, tmp_path, content).startswith("traces.json:2: not a document of spans: ")
    assert len(read_text(read_otlp, tmp_path, content, Notices(skip_bad=True))) == 2
    # The first line may be the damaged one.
    content = line + b"\n" + lines(document(span()))
    if not line.endswith((b"{", b"[")):
        assert complaint(read_otlp, tmp_path, content).startswith("traces.json:1: not a document of spans: ")


@pytest.mark.parametrize("content", [b"{", b'{"resourceSpans":[', b"\xff", b"[" * 5000, b'{"resourceSpans":[]}}'])
def test_a_document_that_is_no_json_can_not_be_read(tmp_path, content):
    with pytest.raises(TraceError, match=r"^traces\.json: not JSON \(cut off or damaged\?\): "):
        read_text(read_otlp, tmp_path, content, Notices(skip_bad=True))


def test_a_last_line_that_was_cut_off_is_left_out(tmp_path):
    notices = Notices()
    content = lines(document(span()), document(span()))
    assert len(read_text(read_otlp, tmp_path, content[:-9], notices)) == 1
    assert [(p.what, p.example) for p in notices.problems] == [
        (CUT_OFF, "traces.json:2: the last line is cut off and was left out")
    ]
    assert len(read_text(read_otlp, tmp_path, content[:-1])) == 2


def test_a_damaged_archive_is_named(tmp_path):
    noise = [text(random.Random(n).randbytes(500_000).hex()) for n in range(5)]
    content = gzip.compress(lines(*[document(span(attributes=attributes(a=value))) for value in noise]), 1)
    assert "can't read on" in complaint(read_otlp, tmp_path, content[:-20])
    assert len(read_text(read_otlp, tmp_path, content[:-20], Notices(skip_bad=True))) >= 3
    with pytest.raises(TraceError, match="can't read it to its end"):
        read_text(read_otlp, tmp_path, gzip.compress(orjson.dumps(document(span())))[:-9])


def test_batches_have_a_bound(tmp_path):
    path = tmp_path / "traces.json"
    path.write_bytes(lines(*[document(*[span()] * 30_000)] * 5))
    from flowstat.read.mapping import Mapping

    sizes = [len(batch) for batch in read_otlp(path, "t", Mapping(), Notices())]
    assert sum(sizes) == 150_000
    assert max(sizes) <= 65_536


fields = {
    "traceId": [T, T.upper(), "x", "", None, 0],
    "spanId": [S, P, S.upper(), base64.b64encode(bytes.fromhex(S)).decode(), "0" * 16, "0 0 0 0 0 0 0 0 ", None],
    "parentSpanId": [P, "", "0" * 16, "AAAAAAAAAAA=", None, "?", "ß" * 16],
    "name": ["a", "b", "", None, 1],
    "kind": [0, 1, 3, 4, 5, "SPAN_KIND_CONSUMER", "?", 99, None, 2.0],
    "startTimeUnixNano": ["0", 0, "17", 18, 1.5, "1e3", 2**62, 2**64, "-4", "x", None],
    "status": [{}, {"code": 2}, {"code": "STATUS_CODE_ERROR"}, {"code": []}, None],
    "attributes": [
        [],
        None,
        CONSUMED["attributes"],
        attributes(a=text("messaging.")),
        attributes(rabbit__routing_key=text("k")),
        attributes(messaging__operation=text("process"), messaging__destination=text("old")),
        attributes(kafka__topic=text("t"), odd={"intValue": "x"}),
    ],
    "links": [[], None, [{"traceId": T, "spanId": S}], [{}]],
}
spans = st.fixed_dictionaries(
    {},
    optional={key: st.sampled_from(values[:3]) | st.sampled_from(values) for key, values in fields.items()},
)
documents = st.lists(st.lists(spans, max_size=4).map(lambda s: document(*s)), max_size=4)


@given(documents, st.sampled_from([None, "{service}.{name}", "{name}:{kind}", "{http.route}{name}"]))
def test_spans_read_together_are_those_read_one_by_one(content, node):
    texts = [(f"t:{n}", json.dumps(d).encode()) for n, d in enumerate(content)]

    def outcome():
        notices = Notices(skip_bad=True)
        batches = list(SpanDecoder(node).batches(texts, notices))
        return [row for batch in batches for row in batch.to_pylist()], notices.problems

    together = outcome()
    with mock.patch.object(SpanDecoder, "_columns", side_effect=DamagedError):
        assert outcome() == together
    with mock.patch.object(SpanDecoder, "_groups", side_effect=DamagedError):
        assert outcome() == together


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=3)
    | st.sampled_from([T, S]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*SNAKE, *SNAKE.values(), "spans"]), inner, max_size=3)
    ),
    max_leaves=20,
)


@given(values, st.binary(max_size=5))
def test_any_content_is_read_or_refused(tmp_path, value, noise):
    text = json.dumps(value).encode()
    for content in (text, text + b"\n" + text, text + noise, json.dumps({"resourceSpans": value}).encode()):
        assert is_refused_well(read_otlp, tmp_path, content)


@given(linked_forests())
def test_rows_that_were_written_come_back(tmp_path, rows):
    path = tmp_path / "rows.json"
    write(OtlpWriter(path), rows)
    assert counted(read(read_otlp, path)) == relabelled(rows)


def test_what_is_written_is_what_other_tools_read(tmp_path):
    rows = [
        event(7, 1, "order", started_at=1500, ended_at=2500, sent="ship", worker="w1"),
        event(7, 2, "ship", parent_id=1, parent="order", status="error", key="eu", sent_at=1600, worker="w1"),
        event(7, 3, None, parent_id=1, parent="order", status="dropped"),
    ]
    path = tmp_path / "rows.json"
    write(OtlpWriter(path), rows)
    (text,) = path.read_text().splitlines()
    named, nobody = json.loads(text)["resourceSpans"]
    assert named["resource"]["attributes"] == attributes(service__name={"stringValue": "flowstat"}) + attributes(
        service__instance__id={"stringValue": "w1"}
    )
    (scope,) = named["scopeSpans"]
    assert scope["scope"] == {"name": "flowstat"}
    root, child = scope["spans"]
    assert root == {
        "traceId": "0" * 31 + "7",
        "spanId": "0" * 15 + "1",
        "name": "order",
        "kind": 5,
        "startTimeUnixNano": "1500",
        "endTimeUnixNano": "2500",
        "attributes": attributes(flowstat__sent={"stringValue": "ship"}),
    }
    assert child["parentSpanId"] == "0" * 15 + "1"
    assert child["status"] == {"code": 2}
    assert nobody["scopeSpans"][0]["spans"][0]["name"] == "(dropped)"


def test_a_trace_without_rows_is_a_readable_file(tmp_path):
    path = tmp_path / "rows.json"
    write(OtlpWriter(path), [])
    assert json.loads(path.read_text()) == {"resourceSpans": []}
    assert read(read_otlp, path) == []


def test_a_writer_leaves_nothing_when_it_fails(tmp_path):
    path = tmp_path / "rows.json"
    writer = OtlpWriter(path)
    writer.write(batch_of([event(1, 1, "a")]))
    writer.__exit__(KeyError, KeyError(), None)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OutputError, match="can't write the trace"):
        OtlpWriter(tmp_path / "nowhere" / "rows.json")
    writer = OtlpWriter(path)
    with (
        mock.patch.object(writer, "take", side_effect=OSError(28, "No space left")),
        pytest.raises(OutputError, match="No space"),
    ):
        writer.write(batch_of([event(1, 1, "a")]))
    assert list(tmp_path.iterdir()) == []


def test_an_own_attribute_that_no_writer_wrote_is_named(tmp_path):
    for key, what in (
        ("flowstat.status", "one of ok, error"),
        ("flowstat.sent_at", "whole nanoseconds"),
        ("flowstat.sent", "'flowstat.sent' is not a send pattern: '\"'"),
    ):
        odd = span(attributes=[{"key": key, "value": text('"')}])
        assert what in complaint(read_otlp, tmp_path, document(odd, scope={"name": "flowstat"}))
    unnamed = document(span(name=""), scope={"name": "flowstat"})
    assert "its node has no name" in complaint(read_otlp, tmp_path, unnamed)


hex_digits = st.text("0123456789abcdefABCDEF", max_size=17)


@given(
    st.sampled_from([16, 32]),
    st.lists(hex_digits | st.text(max_size=4) | st.sampled_from(["0", "1", "01"]), max_size=9),
)
def test_texts_keep_apart_as_ids(width, texts):
    ids = Ids(width)
    made = {text: ids.hex(text) for text in texts}
    assert len(set(made.values())) == len(made)
    for text in made.values():
        assert len(text) == width
        assert text.strip("0")
        assert set(text) <= set("0123456789abcdef")


@given(st.lists(st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 2**63]), max_size=9))
def test_numbers_keep_apart_as_ids(numbers):
    ids = Ids(16)
    if {0, 2**64 - 1} <= set(numbers):
        return
    made = {number: ids.hex(number) for number in numbers}
    assert len(set(made.values())) == len(made)
    assert "0" * 16 not in made.values()


def test_ids_stay_where_they_are_hex_digits_already():
    assert Ids(16).hex(S) == S
    assert Ids(16).hex("ab") == "0" * 14 + "ab"
    ids = Ids(16)
    ids.hex(0)
    with pytest.raises(OutputError, match="do not fit"):
        ids.hex(2**64 - 1)
