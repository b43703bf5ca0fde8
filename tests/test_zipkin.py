import json
import os
from collections import Counter
from dataclasses import replace

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowstat.errors import TraceError
from flowstat.estimate.counting import count
from flowstat.read import zipkin
from flowstat.read.jsonlines import CUT_OFF
from flowstat.read.mapping import Mapping
from flowstat.read.notices import Notices
from flowstat.read.traces import read_traces
from tests.conftest import SHARED
from tests.span_files import complaint, counted, is_refused_well, plain, read, read_text
from tests.strategies import event

T = "0af7651916cd43dd8448eb211c80319c"


def read_zipkin(path, origin, mapping, notices):
    """Read one file, as the readers of other formats do."""
    return zipkin.read_zipkin([(path, origin)], mapping, notices)


def span(id, parent=None, service="shop", **more):
    known = {"traceId": T, "id": id * 16, "name": "work", "localEndpoint": {"serviceName": service}}
    return known | ({"parentId": parent * 16} if parent else {}) | more


def client(id, parent=None, service="shop"):
    return span(id, parent, service, kind="CLIENT")


def server(id, parent=None, service="bank", shared=True):
    return span(id, parent, service, kind="SERVER", **({"shared": True} if shared else {}))


def tree(rows):
    """Return each event's id with its parent's, shortened to the one digit they are made of."""

    def short(id):
        return id and id[0] + id[16:]

    return {short(row["span_id"]): short(row["parent_id"]) for row in rows}


def one(tmp_path, content, **mapping):
    (row,) = read_text(read_zipkin, tmp_path, content, **mapping)
    return row


def test_a_span_becomes_a_row(tmp_path):
    content = [span("a", "b", timestamp=5, duration=2)]
    assert one(tmp_path, content) == event(
        T, "a" * 16, "shop.work", parent_id="b" * 16, started_at=5000, ended_at=7000, sent=None, links=None
    )


def test_a_message_handled_is_an_event_of_its_destination(tmp_path):
    tags = {"rabbit.queue": "orders", "rabbit.routing_key": "eu"}
    endpoint = {"serviceName": "shop", "ipv4": "10.0.0.1"}
    row = one(tmp_path, [span("a", kind="CONSUMER", tags=tags, localEndpoint=endpoint)])
    assert (row["name"], row["key"], row["worker"]) == ("orders", "eu", "10.0.0.1")
    assert one(tmp_path, [span("a", kind="CONSUMER", tags={"kafka.topic": "t"})])["name"] == "t"
    row = one(tmp_path, [span("a", tags={"a": 1, "error": "", "service.instance.id": "i"})], node="{service}/{a}")
    assert (row["name"], row["status"], row["worker"]) == ("shop/1", "error", "i")


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        # The server's half is the child of the client's, wherever both stand.
        ([client("a"), server("a")], {"a": None, "a/bank": "a"}),
        ([server("a"), client("a")], {"a": None, "a/bank": "a"}),
        # What the server's service did is caused by its half, what the client's did by the other.
        ([client("a"), server("a"), span("b", "a", "bank")], {"a": None, "a/bank": "a", "b": "a/bank"}),
        ([client("a"), server("a"), span("b", "a", "shop")], {"a": None, "a/bank": "a", "b": "a"}),
        # A service of no half: the server works for the call.
        ([client("a"), server("a"), span("b", "a", "x")], {"a": None, "a/bank": "a", "b": "a/bank"}),
        # A service that calls itself.
        ([client("a"), server("a", service="shop"), span("b", "a")], {"a": None, "a/shop": "a", "b": "a/shop"}),
        # Only one half was recorded.
        ([server("a"), span("b", "a", "bank")], {"a/bank": None, "b": "a/bank"}),
        ([server("a"), span("b", "a", "x")], {"a/bank": None, "b": "a/bank"}),
        ([server("a", "b"), span("b", None, "shop")], {"a/bank": "b", "b": None}),
        (
            [server("a", "b"), server("b", service="x"), client("b", service="y")],
            {"a/bank": "b/x", "b/x": "b", "b": None},
        ),
        # Nobody marked the half as shared.
        ([client("a"), server("a", shared=False), span("b", "a", "bank")], {"a": None, "a/bank": "a", "b": "a/bank"}),
        ([client("a", service="bank"), server("a", shared=False)], {"a": None}),
        # Two servers answered one call.
        ([client("a"), server("a"), server("a", service="x")], {"a": None, "a/bank": "a", "a/x": "a"}),
        (
            [client("a"), server("a"), server("a", service="x"), span("b", "a", "y")],
            {"a": None, "a/bank": "a", "a/x": "a", "b": "a"},
        ),
        ([server("a"), server("a", service="x"), span("b", "a", "y")], {"a/bank": None, "a/x": None, "b": "a/bank"}),
        # A chain of calls.
        (
            [client("a"), server("a"), client("b", "a", "bank"), server("b", "a", "ledger"), span("c", "b", "ledger")],
            {"a": None, "a/bank": "a", "b": "a/bank", "b/ledger": "b", "c": "b/ledger"},
        ),
    ],
)
def test_the_halves_of_a_call_are_two_events(tmp_path, spans, expected):
    assert tree(read_text(read_zipkin, tmp_path, spans)) == expected
    rows = read_text(read_zipkin, tmp_path, b"\n".join(orjson.dumps([s]) for s in [*spans, *spans]))
    assert tree(rows) == expected


def files_of(tmp_path, documents):
    paths = [tmp_path / f"{k}.json" for k in range(len(documents))]
    for path, document in zip(paths, documents, strict=True):
        path.write_bytes(orjson.dumps(document))
    return paths


CALLS = [
    client("a"),
    server("a"),
    span("b", "a", "bank"),
    client("c", "b", "bank"),
    server("c", "b", "ledger", shared=False),
    span("d", "c", "ledger"),
    span("e", "c", "x"),
]


@pytest.mark.parametrize("order", [1, -1])
def test_the_halves_of_a_call_may_stand_in_several_files(tmp_path, order):
    together = read_text(read_zipkin, tmp_path, CALLS)
    expected = {"a": None, "a/bank": "a", "b": "a/bank", "c": "b", "c/ledger": "c", "d": "c/ledger", "e": "c/ledger"}
    assert tree(together) == expected
    paths = files_of(tmp_path, [[each] for each in CALLS])[::order]
    batches = list(zipkin.read_zipkin([(path, path.name) for path in paths], Mapping(), Notices()))
    assert [row for batch in batches for row in plain(batch)] == together[::order]
    expected = replace(count(read_traces(tmp_path / "traces.json")), files=())
    (tmp_path / "traces.json").unlink()
    assert replace(count(read_traces(*paths)), files=()) == expected
    assert replace(count(read_traces(tmp_path)), files=()) == expected
    assert expected.table["bank.work", "ledger.work"] == 1


def test_a_bad_span_is_named_by_its_own_file(tmp_path):
    paths = files_of(tmp_path, [[client("a")], [server("a"), server("a") | {"id": 5}]])
    with pytest.raises(TraceError, match=f"^{paths[1]}: span 2: 'id' is 5"):
        count(read_traces(*paths))
    counts = count(read_traces(*paths, skip_bad=True))
    assert (counts.table, counts.runs) == ({("shop.work", "bank.work"): 1, ("bank.work", ""): 1}, 1)
    assert counts.problems[0].number == 1


@pytest.mark.parametrize("size", [1, 2, 5])
def test_the_halves_of_a_call_may_be_in_several_batches(tmp_path, monkeypatch, size):
    expected = read_text(read_zipkin, tmp_path, CALLS)
    alone = read_text(read_zipkin, tmp_path, [span("a"), span("b", "a"), span("c", "b")])
    monkeypatch.setattr(zipkin, "BATCH", size)
    assert read_text(read_zipkin, tmp_path, CALLS) == expected
    assert read_text(read_zipkin, tmp_path, [span("a"), span("b", "a"), span("c", "b")]) == alone


def halves_by_hand(spans):
    """Return each span's id and parent by the rules alone."""
    ids = [(s["id"][0], s["localEndpoint"]["serviceName"], s) for s in spans]
    half = [
        s.get("shared", False)
        or (s.get("kind") == "SERVER" and any(i == id and o.get("kind") == "CLIENT" and w != who for i, w, o in ids))
        for id, who, s in ids
    ]
    found = []
    for (id, who, s), is_half in zip(ids, half, strict=True):
        parent = s.get("parentId", "")[:1] or None
        servers = {w for (i, w, _), h in zip(ids, half, strict=True) if i == parent and h}
        clients = {w for (i, w, _), h in zip(ids, half, strict=True) if i == parent and not h}
        if is_half and any(i == id and not h for (i, _, _), h in zip(ids, half, strict=True)):
            parent = id
        elif who in servers:
            parent += f"/{who}"
        elif servers and who not in clients and not (clients and len(servers) > 1):
            parent += f"/{min(servers)}"
        found.append((f"{id}/{who}" if is_half else id, parent))
    return found


SPANS = st.builds(
    lambda id, parent, service, kind, shared: span(id, parent, service, **kind, **({"shared": True} if shared else {})),
    st.sampled_from("abc"),
    st.sampled_from([None, "a", "b", "c", "d"]),
    st.sampled_from(["x", "y", "z", "Ж", "\U0001f600"]),
    st.sampled_from([{}, {"kind": "CLIENT"}, {"kind": "SERVER"}]),
    st.booleans(),
)


@settings(max_examples=60)
@given(st.lists(SPANS, max_size=8))
def test_any_spans_are_told_apart_by_the_rules(tmp_path, spans):
    rows = read_text(read_zipkin, tmp_path, spans)
    short = [(row["span_id"][0] + row["span_id"][16:], row["parent_id"]) for row in rows]
    assert [(id, parent and parent[0] + parent[16:]) for id, parent in short] == halves_by_hand(spans)


@given(st.permutations([client("a"), server("a"), server("a", service="x"), span("b", "a", "y"), span("c", "a", "x")]))
def test_the_order_of_spans_does_not_matter(tmp_path, spans):
    expected = {"a": None, "a/bank": "a", "a/x": "a", "b": "a", "c": "a/x"}
    assert tree(read_text(read_zipkin, tmp_path, spans)) == expected


def test_the_same_id_in_other_traces_is_another_call(tmp_path):
    spans = [client("a"), server("a", shared=False) | {"traceId": "1"}]
    assert tree(read_text(read_zipkin, tmp_path, spans)) == {"a": None}


def test_documents_are_lists_of_spans_or_traces_whole_or_by_line(tmp_path):
    a, b = span("a"), span("b", "a")
    for content in ([a, b], [[a], [b]], [[a, b]]):
        assert len(read_text(read_zipkin, tmp_path, content)) == 2
        assert len(read_text(read_zipkin, tmp_path, json.dumps(content, indent=1).encode())) == 2
    assert len(read_text(read_zipkin, tmp_path, b"[\n" + orjson.dumps(a) + b"\n]\n")) == 1
    assert read_text(read_zipkin, tmp_path, []) == []
    lines = b"\n".join(map(orjson.dumps, [[a], b, [[a]], [b]]))
    assert len(read_text(read_zipkin, tmp_path, lines)) == 4
    notices = Notices()
    assert len(read_text(read_zipkin, tmp_path, lines[:-2], notices)) == 3
    assert notices.problems[0].what == CUT_OFF


@pytest.mark.parametrize("parent", ["", "0", "0" * 16, None])
def test_a_parent_that_is_empty_or_zero_is_none(tmp_path, parent):
    assert one(tmp_path, [span("a", parentId=parent)])["parent_id"] is None


@pytest.mark.parametrize(
    ("odd", "what"),
    [
        ({"id": None}, "'id' is missing"),
        ({"traceId": 5}, "'traceId' is 5: it is a text of hex digits"),
        ({"id": "00"}, "'id' is zero"),
        ({"parentId": 5}, "'parentId' is 5"),
        ({"name": 5}, "'name' is 5, not text"),
        ({"kind": []}, "'kind' is [], not text"),
        ({"timestamp": "soon"}, "'timestamp' is 'soon'"),
        ({"timestamp": 2**62}, "beyond 64 bits"),
        ({"timestamp": 9 * 10**15, "duration": 9 * 10**14}, "its end is beyond 64 bits"),
        ({"tags": []}, "'tags' is [], not an object"),
        ({"localEndpoint": 5}, "'localEndpoint' is 5"),
        ({"localEndpoint": {"serviceName": 5}}, "'serviceName' is 5"),
        ({"localEndpoint": {}, "name": ""}, "neither service nor name"),
    ],
)
def test_an_odd_span_is_named(tmp_path, odd, what):
    message = complaint(read_zipkin, tmp_path, [span("b"), span("a") | odd, span("c")])
    assert message.startswith("traces.json: span 2: ")
    assert what in message
    lines = orjson.dumps([span("b")]) + b"\n" + orjson.dumps([span("a") | odd, span("c")])
    assert complaint(read_zipkin, tmp_path, lines).startswith("traces.json:2: span 1: ")
    assert len(read_text(read_zipkin, tmp_path, lines, Notices(skip_bad=True))) == 2


def test_what_is_no_span_is_named(tmp_path):
    assert "span 1: it is 5, not an object" in complaint(read_zipkin, tmp_path, [5])
    assert "span 1: it is [[" in complaint(read_zipkin, tmp_path, b"[[" + b"[" * 1000 + b"]" * 1000 + b"]]")
    deep = b'[{"tags":{"a":' + b"[" * 1000 + b"]" * 1000 + b"}}]"
    assert "a tag can't be written as text" in complaint(read_zipkin, tmp_path, deep)
    with pytest.raises(TraceError, match="span 1: its node has no name"):
        read_text(read_zipkin, tmp_path, [span("a")], node="{x}")


def test_a_damaged_file_can_not_be_read(tmp_path):
    for content in (b"[", orjson.dumps([span("a")])[:-5], b"[" * 5000):
        with pytest.raises(TraceError, match=r"^traces\.json: not JSON \(cut off or damaged\?\)"):
            read_text(read_zipkin, tmp_path, content, Notices(skip_bad=True))


KEYS = ["traceId", "id", "parentId", "kind", "shared", "tags", "localEndpoint", "serviceName", "timestamp", "name"]
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=3)
    | st.sampled_from(["a", T]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=20,
)


@given(values, st.binary(max_size=5))
def test_any_content_is_read_or_refused(tmp_path, value, noise):
    text = json.dumps(value).encode()
    within = json.dumps([span("a", tags=value), span("b", parentId=value), value]).encode()
    for content in (text, text + b"\n" + text, text + noise, within):
        assert is_refused_well(read_zipkin, tmp_path, content)


@pytest.mark.oracle
def test_real_files_are_read(tmp_path):
    place = SHARED / "data" / "zipkin"
    if not place.exists():
        reason = "../shared/data/zipkin is not here: real files can't be read"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    rows = {path.stem: read(read_zipkin, path) for path in sorted(place.glob("*.json"))}
    assert {name: len(found) for name, found in rows.items()} == {
        "messaging": 4,
        "messaging-kafka": 28,
        "messaging2": 11,
        "skew": 4,
        "yelp": 16,
    }
    assert [row["name"] for row in rows["skew"]] == ["serviceb.async", "serviceb.post", "servicea.get", "servicea.post"]
    assert tree_of(rows["skew"]) == {
        "servicea.get": None,
        "servicea.post": "servicea.get",
        "serviceb.post": "servicea.post",
        "serviceb.async": "serviceb.post",
    }
    assert tree_of(rows["messaging"]) == {
        "frontend.get /": None,
        "frontend.publish": "frontend.get /",
        "backend": "frontend.publish",
        "backend.on-message": "backend",
    }
    # Every event of the long traces is reached from its root.
    for name in ("messaging-kafka", "yelp"):
        parents = {row["span_id"]: row["parent_id"] for row in rows[name]}
        assert Counter(parents.values())[None] == 1
        assert set(parents.values()) <= {None, *parents}
    assert Counter(row["status"] for row in rows["messaging-kafka"]) == {"ok": 25, "error": 3}
    lines = b"\n".join(orjson.dumps([s]) for s in orjson.loads((place / "yelp.json").read_bytes()))
    assert counted(read_text(read_zipkin, tmp_path, lines)) == counted(rows["yelp"])


def tree_of(rows):
    names = {row["span_id"]: row["name"] for row in rows}
    return {row["name"]: row["parent_id"] and names[row["parent_id"]] for row in rows}
