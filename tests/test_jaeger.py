import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowstat.errors import TraceError
from flowstat.read.jaeger import read_jaeger
from flowstat.read.jaeger_writer import JaegerWriter, stored_times
from flowstat.read.jsonlines import CUT_OFF
from flowstat.read.notices import Notices
from tests.span_files import complaint, counted, is_refused_well, linked_forests, read, read_text, relabelled, write
from tests.strategies import event

T, S, P = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "00f067aa0ba902b7"


def tags(**values):
    return [{"key": key.replace("__", "."), "type": "string", "value": value} for key, value in values.items()]


def span(**more):
    return {"traceID": T, "spanID": S, "operationName": "work", "processID": "p1", "startTime": 5, "duration": 2} | more


def reference(kind="CHILD_OF", trace=T, span=P):
    return {"refType": kind, "traceID": trace, "spanID": span}


def trace(*spans, **process):
    return {"traceID": T, "spans": [*spans], "processes": {"p1": {"serviceName": "shop"} | process}}


def api(*traces):
    return {"data": [*traces], "total": 0, "limit": 0, "offset": 0, "errors": None}


def one(tmp_path, content, **mapping):
    (row,) = read_text(read_jaeger, tmp_path, content, **mapping)
    return row


def test_a_span_becomes_a_row(tmp_path):
    expected = event(T, S, "shop.work", parent_id=P, started_at=5000, ended_at=7000, sent=None, links=None)
    assert one(tmp_path, api(trace(span(references=[reference()])))) == expected


def test_a_message_handled_is_an_event_of_its_destination(tmp_path):
    consumed = tags(span__kind="consumer", messaging__destination="orders", messaging__rabbitmq__routing_key="eu")
    row = one(tmp_path, api(trace(span(tags=consumed), tags=tags(hostname="h1"))))
    assert (row["name"], row["key"], row["worker"]) == ("orders", "eu", "h1")
    row = one(tmp_path, api(trace(span(tags=tags(http__route="/x"), duration=None))), node="{service} {http.route}")
    assert (row["name"], row["ended_at"]) == ("shop /x", None)


def test_files_are_from_the_api_of_pages_or_by_line(tmp_path):
    a, b = trace(span()), trace(span(spanID=P))
    for content in (api(a, b), [a, b]):
        assert len(read_text(read_jaeger, tmp_path, content)) == 2
        assert len(read_text(read_jaeger, tmp_path, json.dumps(content, indent=2).encode())) == 2
    assert len(read_text(read_jaeger, tmp_path, a)) == 1
    assert read_text(read_jaeger, tmp_path, api()) == []
    lines = b"\n".join(map(orjson.dumps, [a, api(b, a), b]))
    assert len(read_text(read_jaeger, tmp_path, lines)) == 4
    notices = Notices()
    assert len(read_text(read_jaeger, tmp_path, lines[:-3], notices)) == 3
    assert notices.problems[0].what == CUT_OFF


OTHER = "f" * 32


@pytest.mark.parametrize(
    ("references", "parent", "links"),
    [
        ([], None, None),
        ([reference("FOLLOWS_FROM")], P, None),
        ([reference("FOLLOWS_FROM", span="1"), reference()], P, [(T, "0" * 15 + "1")]),
        ([reference(), reference(span="1")], P, [(T, "0" * 15 + "1")]),
        ([reference(trace=OTHER)], None, [(OTHER, P)]),
        ([reference(trace=OTHER), reference("FOLLOWS_FROM")], P, [(OTHER, P)]),
        ([reference(trace=T.upper())], P, None),
        ([{"refType": "CHILD_OF", "spanID": P}], P, None),
        ([reference("ELSE")], None, [(T, P)]),
    ],
)
def test_the_first_reference_into_the_trace_is_the_parent(tmp_path, references, parent, links):
    row = one(tmp_path, api(trace(span(references=references))))
    found = row["links"] and [(link["trace_id"], link["span_id"]) for link in row["links"]]
    assert (row["parent_id"], found) == (parent, links)


def test_the_old_field_of_a_parent_counts(tmp_path):
    assert one(tmp_path, api(trace(span(parentSpanID=P))))["parent_id"] == P
    assert (
        one(tmp_path, api(trace(span(parentSpanID=P, references=[reference(span="1")]))))["parent_id"] == "0" * 15 + "1"
    )
    assert one(tmp_path, api(trace(span(parentSpanID="0"))))["parent_id"] is None


def test_short_ids_are_filled_up(tmp_path):
    row = one(tmp_path, api(trace(span(traceID="ABC", spanID="1"))))
    assert (row["trace_id"], row["span_id"]) == ("0" * 29 + "abc", "0" * 15 + "1")
    assert one(tmp_path, api(trace(span(spanID="no hex"))))["span_id"] == "no hex"


@pytest.mark.parametrize(
    ("failed", "status"),
    [
        ({"error": True}, "error"),
        ({"error": "true"}, "error"),
        ({"otel__status_code": "ERROR"}, "error"),
        ({"error": False}, "ok"),
        ({"otel__status_code": "OK"}, "ok"),
        ({}, "ok"),
    ],
)
def test_tags_tell_a_failure(tmp_path, failed, status):
    assert one(tmp_path, api(trace(span(tags=tags(**failed)))))["status"] == status


@pytest.mark.parametrize(
    ("odd", "what"),
    [
        ({"spanID": None}, "'spanID' is missing"),
        ({"spanID": 5}, "'spanID' is 5: it is a text of hex digits"),
        ({"spanID": "0"}, "'spanID' is zero"),
        ({"operationName": 5}, "'operationName' is 5"),
        ({"startTime": "soon"}, "'startTime' is 'soon': it is a number of whole microseconds"),
        ({"startTime": 0.5}, "'startTime' is 0.5"),
        ({"startTime": 2**62}, "beyond 64 bits"),
        ({"startTime": 2**53 - 1, "duration": 2**53 - 1}, "its end is beyond 64 bits"),
        ({"duration": True}, "'duration' is True"),
        ({"references": {}, "processID": []}, "'processID' is []"),
        ({"references": 5}, "'references' is 5"),
        ({"references": [5]}, "'references' has 5"),
        ({"references": [{}]}, "'spanID of a reference' is missing"),
        ({"tags": {"a": 1}}, "'tags' has {'a': 1}"),
        ({"tags": [{"value": 1}]}, "'tags' has {'value': 1}"),
        ({"process": 5}, "its process is 5"),
        ({"process": {"serviceName": 5}}, "'serviceName' is 5"),
        ({"process": {}, "operationName": ""}, "neither service nor operation"),
    ],
)
def test_an_odd_span_is_named(tmp_path, odd, what):
    message = complaint(read_jaeger, tmp_path, api(trace(span()), trace(span(**odd), span())))
    assert message.startswith("traces.json: span 2: ")
    assert what in message
    lines = orjson.dumps(trace(span())) + b"\n" + orjson.dumps(trace(span(**odd), span()))
    assert complaint(read_jaeger, tmp_path, lines).startswith("traces.json:2: span 1: ")
    assert len(read_text(read_jaeger, tmp_path, lines, Notices(skip_bad=True))) == 2


@pytest.mark.parametrize("content", [{"data": 5}, {"data": [5]}, {"data": [{"spans": 5}]}, {}, {"data": None}, 5])
def test_an_odd_document_is_named(tmp_path, content):
    assert complaint(read_jaeger, tmp_path, content).startswith("traces.json: ")


def test_a_damaged_file_can_not_be_read(tmp_path):
    for content in (b"{", orjson.dumps(api(trace(span())))[:-5], b"[" * 5000, b'{"data":["\xff"]}'):
        with pytest.raises(TraceError, match=r"^traces\.json: not JSON \(cut off or damaged\?\)"):
            read_text(read_jaeger, tmp_path, content, Notices(skip_bad=True))
    odd = api(trace(span(), span()))
    odd["data"][0]["processes"] = [1]
    assert "'processes' are [1]" in complaint(read_jaeger, tmp_path, odd)
    deep = b'{"data":[{"spans":[' + b"[" * 1000 + b"]" * 1000 + b"]}]}"
    assert "not an object" in complaint(read_jaeger, tmp_path, deep)


KEYS = ["data", "spans", "processes", "traceID", "spanID", "references", "tags", "key", "value", "process", "startTime"]
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=3)
    | st.sampled_from([T, S]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=20,
)


@given(values, st.binary(max_size=5))
def test_any_content_is_read_or_refused(tmp_path, value, noise):
    text = json.dumps(value).encode()
    within = json.dumps(api(trace(span(references=value, tags=value), value))).encode()
    for content in (text, text + b"\n" + text, text + noise, within):
        assert is_refused_well(read_jaeger, tmp_path, content)


@given(linked_forests())
def test_rows_that_were_written_come_back(tmp_path, rows):
    path = tmp_path / "rows.json"
    write(JaegerWriter(path), rows)
    assert counted(read(read_jaeger, path)) == relabelled(rows)


@given(st.integers(0, 2**50), st.integers(0, 2**50))
def test_times_of_whole_microseconds_need_no_tag(start, took):
    assert stored_times(start, took) == (start or None, start + took if start and took else None)


def test_what_is_written_is_what_other_tools_read(tmp_path):
    rows = [
        event(7, 1, "order", started_at=1_000_000, ended_at=1_500_000, worker="w1"),
        event(7, 2, "ship", parent_id=1, parent="order", status="error", started_at=1_000_001, worker="w2"),
    ]
    path = tmp_path / "rows.json"
    write(JaegerWriter(path), rows, 1)
    (run,) = json.loads(path.read_text())["data"]
    assert run["traceID"] == "0" * 31 + "7"
    assert run["processes"]["p2"] == {"serviceName": "flowstat", "tags": tags(service__instance__id="w2")}
    root, child = run["spans"]
    assert (root["startTime"], root["duration"], root["references"], root["processID"]) == (1000, 500, [], "p1")
    assert child["references"] == [reference(trace=run["traceID"], span=root["spanID"])]
    assert {"key": "error", "type": "bool", "value": True} in child["tags"]
    assert tags(flowstat__started_at="1000001")[0] in child["tags"]
    assert not [tag for tag in root["tags"] if tag["key"].endswith("_at")]


def test_a_trace_without_rows_is_a_readable_file(tmp_path):
    path = tmp_path / "rows.json"
    write(JaegerWriter(path), [])
    assert json.loads(path.read_text()) == {"data": []}
    assert read(read_jaeger, path) == []
