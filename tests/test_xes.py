import gzip
import re
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock
from xml.sax.saxutils import escape

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowstat.errors import OutputError, TraceError
from flowstat.read import xes
from flowstat.read.canonical import schema, span_schema
from flowstat.read.mapping import Mapping
from flowstat.read.notices import Notices
from flowstat.read.xes import XesWriter, read_xes
from flowstat.read.xes_writer import decode, encode
from tests.real_data import directly_follows, real_data
from tests.strategies import Row, event, forests

HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<!-- a "comment" with a <trace> -->
<log xes.version="1.0" xmlns="http://www.xes-standard.org/">
  <extension name="Concept" prefix="concept" uri="http://www.xes-standard.org/concept.xesext"/>
  <global scope="event"><string key="concept:name" value="default"/></global>
  <classifier name="Activity" keys="concept:name lifecycle:transition"/>
  <string key="concept:name" value="the log"/>
"""


def attribute(key: str, value: str, kind: str = "string") -> str:
    escaped = escape(value, {'"': "&quot;", "\t": "&#9;", "\n": "&#10;", "\r": "&#13;"})
    return f'<{kind} key="{key}" value="{escaped}"/>'


def happening(name: str | None, time: str | None = None, more: str = "") -> str:
    parts = [] if name is None else [attribute("concept:name", name)]
    parts += [] if time is None else [attribute("time:timestamp", time, "date")]
    return "<event>\n" + more + "\n\t".join(parts) + "</event>"


def case(name: str | None, *events: str) -> str:
    return "<trace>\n" + ("" if name is None else attribute("concept:name", name)) + "\n".join(events) + "</trace>\n"


def log(*parts: str, head: str = HEAD) -> str:
    return head + "".join(parts) + "</log>\n"


def written(tmp_path: Path, text: str | bytes, name: str = "t.xes") -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(path: Path, notices: Notices | None = None, mapping: Mapping | None = None) -> pa.Table:
    batches = list(read_xes(path, "t", mapping or Mapping(), notices or Notices()))
    for batch in batches:
        batch.validate(full=True)
    assert batches
    return pa.Table.from_batches(batches)


def events(path: Path, notices: Notices | None = None, mapping: Mapping | None = None) -> list[tuple[Any, ...]]:
    found = read(path, notices, mapping)
    assert [str(kind) for kind in found.schema.types] == [
        "dictionary<values=string, indices=int32, ordered=0>",
        "dictionary<values=string, indices=int32, ordered=0>",
        "timestamp[ns, tz=UTC]",
    ]
    columns = [
        found["trace_id"].to_pylist(),
        found["name"].to_pylist(),
        found["started_at"].cast(pa.int64()).to_pylist(),
    ]
    return list(zip(*columns, strict=True))


def refusal(path: Path, mapping: Mapping | None = None) -> str:
    with pytest.raises(TraceError) as caught:
        read(path, mapping=mapping)
    return str(caught.value)


def parsed(path: Path, notices: Notices | None = None) -> list[tuple[Any, ...]]:
    """Read as if no block were plain."""
    with mock.patch.object(xes, "plain_events", return_value=None):
        return events(path, notices)


NEW_YEAR = "2024-01-01T01:00:00.000+01:00"
JAN1 = 1_704_067_200 * 10**9

PLAIN = log(
    case("one", happening("a", NEW_YEAR), happening("b", NEW_YEAR)),
    case("two", happening('a & "b" <c>\n\té', NEW_YEAR, '<int key="cost" value="1"></int>')),
    case(None, happening("c")),
    case("one", happening("d", "2024-01-01T00:00:00.123456789Z")),
)
EVENTS = [
    ("one", "a", JAN1),
    ("one", "b", JAN1),
    ("two", 'a & "b" <c>\n\té', JAN1),
    ("(trace 3)", "c", None),
    ("one", "d", JAN1 + 123_456_789),
]


def test_a_log(tmp_path: Path) -> None:
    notices = Notices()
    assert events(written(tmp_path, PLAIN), notices) == EVENTS
    assert [(p.what, p.number, p.example) for p in notices.problems] == [
        ("traces without a name, called by their number", 1, "t: (trace 3)"),
        ("events without a time, taken after the others of their case", 1, "t: case '(trace 3)'"),
    ]
    assert parsed(written(tmp_path, PLAIN)) == EVENTS


def test_plain_blocks_are_read_without_the_parser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xes, "STEP", 100)
    with mock.patch.object(xes, "plain_events", wraps=xes.plain_events) as plain:
        assert events(written(tmp_path, PLAIN)) == EVENTS
    assert plain.call_count == 1
    assert plain(*plain.call_args.args) is not None


def test_packed(tmp_path: Path) -> None:
    for packed in (gzip.compress(PLAIN.encode()), pa.Codec("zstd").compress(PLAIN.encode(), asbytes=True)):
        assert events(written(tmp_path, packed, "t.xes.gz")) == EVENTS


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    text = PLAIN.replace("UTF-8", encoding.removesuffix("-sig"))
    assert events(written(tmp_path, text.encode(encoding))) == EVENTS


def test_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xes, "CHUNK", 300)
    monkeypatch.setattr(xes, "STEP", 64)
    monkeypatch.setattr(xes, "ROWS", 10)
    many = [case(f"case {k}", *(happening(f"a{k % 3}", NEW_YEAR) for _ in range(k % 5 + 1))) for k in range(100)]
    expected = [(f"case {k}", f"a{k % 3}", JAN1) for k in range(100) for _ in range(k % 5 + 1)]
    path = written(tmp_path, log(*many))
    assert events(path) == expected
    assert parsed(path) == expected
    assert len(list(read_xes(path, "t", Mapping(), Notices()))) > 10
    # From a trace that is not plain on, it is parsed; lines are numbered all the same.
    many[70] = case("case 70", "<!-- </trace> -->", happening("odd", NEW_YEAR))
    expected = [e for e in expected if e[0] != "case 70"]
    found = events(written(tmp_path, log(*many)))
    assert [e for e in found if e[0] != "case 70"] == expected
    assert ("case 70", "odd", JAN1) in found
    text = log(*many[:90], "<trace></event>")
    assert refusal(written(tmp_path, text)) == (
        f"t:{text.count(chr(10))}: not well-formed XML: mismatched tag: can't read on from trace 91"
    )
    monkeypatch.setattr(xes, "LONGEST", 100)
    assert events(written(tmp_path, log(*many))) == found


@pytest.mark.parametrize(
    "trace",
    [
        "<trace><event><string key='concept:name' value='a'/></event></trace>",
        '<trace><event><string value="a" key="concept:name"/></event></trace>',
        '<trace><event><string key = "concept:name" value = "a" /></event></trace>',
        '<trace><event><string key="concept:name" value="a"><string key="concept:name" value="x"/></string>'
        "</event></trace>",
        '<trace><event><list key="l"><values><string key="concept:name" value="x"/></values></list>'
        '<string key="concept:name" value="a"/></event></trace>',
        '<trace><event><!-- " --><string key="concept:name" value="a"/></event></trace>',
        '<trace><event><![CDATA["</trace>"]]><string key="concept:name" value="a"/></event></trace>',
        '<trace><?x "?><event><string key="concept:name" value="a"/></event></trace>',
        '<trace><event><string key="concept:name" value="x"/><string key="concept:name" value="&#97;"/>'
        "</event></trace>",
        '<trace><event><string key="concept:&#110;ame" value="a"/></event></trace>',
        '<trace ><event\n><string\tkey="concept:name"\r\nvalue="a"></string ></event ></trace >',
        '<trace><event id="1"><string key="concept:name" value="a"/></event></trace>',
        '<trace>text<event><string key="concept:name" value="a"/></event></trace>',
        '<x:trace xmlns:x="u"><x:event><x:string key="concept:name" value="a"/></x:event></x:trace>',
        '<trace/><trace></trace><trace><event><string key="concept:name" value="a"/></event></trace>',
    ],
)
def test_other_ways_to_write_an_event(tmp_path: Path, trace: str) -> None:
    path = written(tmp_path, log(case("z", happening("z")), trace, case("z", happening("z"))))
    found = events(path)
    assert [name for _, name, _ in found] == ["z", "a", "z"]
    assert parsed(path) == found


def test_traces_without_events(tmp_path: Path) -> None:
    notices = Notices()
    path = written(tmp_path, log("<trace/>", case("one", happening("a")), case("two")))
    assert events(path, notices) == [("one", "a", None)]
    assert ("traces without any event, left out", 2, "t: trace 1") in [
        (p.what, p.number, p.example) for p in notices.problems
    ]


def test_an_empty_log(tmp_path: Path) -> None:
    assert events(written(tmp_path, log())) == []
    assert events(written(tmp_path, "<log/>")) == []


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        (happening(None, NEW_YEAR), "it has no name (concept:name)"),
        ("<event/>", "it has no name (concept:name)"),
        (happening(""), "it has no name (concept:name)"),
        (happening("b", "noon"), "the time 'noon' (time:timestamp) can't be read: a time is ISO 8601"),
    ],
)
def test_bad_events(tmp_path: Path, bad: str, what: str) -> None:
    path = written(tmp_path, log(case("one", happening("a"), bad, happening("c"))))
    assert refusal(path).startswith(f"t: event 2: {what}")
    notices = Notices(skip_bad=True)
    assert events(path, notices) == [("one", "a", None), ("one", "c", None)] == parsed(path, Notices(skip_bad=True))
    assert notices.problems[0].number == 1


def test_an_event_outside_of_any_trace(tmp_path: Path) -> None:
    for parts in ((happening("x"), case("one", happening("a"))), (case("one", happening("a")), happening("x"))):
        path = written(tmp_path, log("\n", *parts))
        assert "an event outside of any trace" in refusal(path)
        notices = Notices(skip_bad=True)
        assert events(path, notices) == [("one", "a", None)]
        assert notices.problems[0].number == 1


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "t:1: the file ends within the log (cut off?): no element found"),
        ("<html></html>", "t is XML but no XES log: it begins with <html>"),
        ("hello", "t:1: not well-formed XML: syntax error"),
        (PLAIN[:-10], "t:25: the file ends within the log (cut off?): unclosed token"),
        (PLAIN[: PLAIN.index("two")], "t:16: the file ends within the log (cut off?): unclosed token"),
        (PLAIN + "<log/>", "t:27: not well-formed XML: junk after document element"),
        (log(case("a", happening("x"))).replace("<event>", "<event><"), "t:9: not well-formed XML: not well-formed"),
        (log(case("a\x01", happening("x"))), "t:9: not well-formed XML: not well-formed"),
        (log(case("a", happening("&x;"))).replace("&amp;", "&"), "t:10: not well-formed XML: undefined entity"),
        ('<!DOCTYPE log [<!ENTITY a "b">]><log/>', "t declares a document type (DOCTYPE): an XES log has none"),
        ('<?xml version="1.0" encoding="klingon"?><log/>', "t: its encoding can't be read: unknown encoding: klingon"),
    ],
)
def test_files_that_are_no_log(tmp_path: Path, text: str, what: str) -> None:
    path = written(tmp_path, text)
    assert refusal(path).startswith(what)


def test_files_that_cannot_be_unpacked(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no.xes") == "can't read the trace t: No such file or directory"
    packed = gzip.compress(PLAIN.encode())
    assert refusal(written(tmp_path, packed[:-20])).startswith("t: trace 4: can't read on: Compressed file")
    assert refusal(written(tmp_path, packed[:40])).startswith("can't read the trace t: Compressed file")


@pytest.mark.parametrize("packed", [bytes, gzip.compress])
@pytest.mark.parametrize("broken", [None, "<", "&bad;", "\0", '"/></event></log>'])
def test_what_comes_before_the_damage_is_read(
    tmp_path: Path, packed: Any, broken: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(xes, "CHUNK", 2000)
    many = [case(f"case {k}", happening("a", NEW_YEAR), happening("b", NEW_YEAR)) for k in range(50)]
    text = log(*many)
    at = text.index("case 40")
    damaged = text[:at] + ("" if broken is None else broken + text[at:])
    path = written(tmp_path, packed(damaged.encode()))
    assert refusal(path).endswith(": can't read on from trace 41")
    for read_as in (events, parsed):
        notices = Notices(skip_bad=True)
        assert read_as(path, notices) == [(f"case {k}", name, JAN1) for k in range(40) for name in "ab"]
        assert [(p.number, p.example) for p in notices.problems] == [(1, refusal(path))]


def test_a_packed_log_that_is_cut_off(tmp_path: Path) -> None:
    text = log(*(case(f"case {k}", happening(f"a{k * 7919 % 1000}", NEW_YEAR)) for k in range(5000))).encode()
    for packed in (gzip.compress(text), pa.Codec("zstd").compress(text, asbytes=True)):
        path = written(tmp_path, packed[: len(packed) * 2 // 3])
        notices = Notices(skip_bad=True)
        found = events(path, notices)
        assert len(found) > 1000
        assert [name for name, _, _ in found] == [f"case {k}" for k in range(len(found))]
        (bad,) = notices.problems
        assert bad.number == 1
        assert bad.example.startswith(f"t: trace {len(found) + 1}: can't read on: ")
        assert refusal(path) == bad.example


@pytest.mark.parametrize(
    "value", ["a<b", "a&b", "&x;", "&;", "&#0;", "&#xD800;", "&#x110000;", "&#99999999;", "\x01", "\uffff", "\0"]
)
@pytest.mark.parametrize("place", ["event", "trace"])
def test_what_is_ill_formed_in_an_attribute_that_is_not_read(tmp_path: Path, value: str, place: str) -> None:
    more = f'<string key="other" value="{value}"/>'
    bad = case("two", happening("b", more=more if place == "event" else "")).replace(
        "<trace>", "<trace>" + (more if place == "trace" else "")
    )
    path = written(tmp_path, log(case("one", happening("a")), bad))
    assert "not well-formed XML: " in refusal(path)
    assert refusal(path).endswith("can't read on from trace 2")
    notices = Notices(skip_bad=True)
    assert events(path, notices) == [("one", "a", None)]


def test_references_in_an_attribute_that_is_not_read(tmp_path: Path) -> None:
    more = '<string key="other" value="&lt;&#233;&#xe9;\n\t&amp;amp; ]]&gt;"/>'
    path = written(tmp_path, log(case("one", happening("a", more=more))))
    with mock.patch.object(xes, "plain_events", wraps=xes.plain_events) as plain, mock.patch.object(xes, "STEP", 64):
        assert events(path) == [("one", "a", None)]
    assert plain(*plain.call_args.args) is not None


def test_text_that_is_not_utf_8(tmp_path: Path) -> None:
    path = written(tmp_path, log(case("a", happening("é"))).encode("latin-1"))
    assert refusal(path).startswith("t:10: not well-formed XML")


def test_other_attributes(tmp_path: Path) -> None:
    more = attribute("lifecycle:transition", "start") + attribute("when", "1970-01-01")
    trace = "<trace>" + attribute("id", "7") + happening("a", NEW_YEAR, more) + happening("b", NEW_YEAR) + "</trace>"
    path = written(tmp_path, log(trace))
    node = Mapping(node="{concept:name}+{lifecycle:transition}", case="id", time="when")
    assert events(path, mapping=node) == [("7", "a+start", 0), ("7", "b", None)]
    assert (
        refusal(path, Mapping(activity="lifecycle:transition")) == "t: event 2: it has no name (lifecycle:transition)"
    )
    assert refusal(path, Mapping(node="{")).startswith("not a template")


texts = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), max_size=5)
odd = st.sampled_from(["", '<!--"-->', "\n\t", '<list key="x"/>', '<float key="f" value="1.5"></float>', "<?p?>"])
times = st.none() | st.just(NEW_YEAR) | st.just("2024-01-01T00:00:00") | st.just("") | st.just("x")
happenings = st.builds(happening, st.none() | texts, times, odd)
traces = st.builds(
    lambda name, between, all: case(name, between, *all), st.none() | texts, odd, st.lists(happenings, max_size=4)
)


@given(st.lists(traces, max_size=8), st.integers(50, 400))
def test_both_ways_of_reading_agree(tmp_path: Path, traces: list[str], chunk: int) -> None:
    path = written(tmp_path, log(*traces))
    with mock.patch.object(xes, "CHUNK", chunk), mock.patch.object(xes, "STEP", 40):
        mine, theirs = Notices(skip_bad=True), Notices(skip_bad=True)
        assert events(path, mine) == parsed(path, theirs)
        assert mine.problems == theirs.problems


@given(st.data())
def test_damaged_logs_raise_only_trace_errors(tmp_path: Path, data: st.DataObject) -> None:
    damaged = bytearray(data.draw(st.sampled_from([PLAIN.encode(), gzip.compress(PLAIN.encode())])))
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at : at + data.draw(st.integers(0, 2))] = data.draw(
            st.sampled_from([b"", b"<", b'"', b"&", b"\xff", b"\0", b"/"])
        )
    del damaged[data.draw(st.integers(0, len(damaged))) :]
    path = written(tmp_path, bytes(damaged))
    outcomes = []
    for plain in (xes.plain_events, lambda *_: None):
        with mock.patch.object(xes, "plain_events", plain):
            try:
                outcomes.append(events(path, Notices(skip_bad=True)))
            except TraceError:
                outcomes.append(None)  # type: ignore[arg-type]
    # What the parser refuses is refused, wherever it reads from.
    assert outcomes[0] == outcomes[1]


# Writing


def save(path: Path, rows: list[Row], size: int = 3, links: bool = False) -> Path:
    texts = any(isinstance(row["trace_id"], str) for row in rows)
    shape = schema(pa.string() if texts else pa.uint64())
    if links:
        shape = shape.append(span_schema().field("links"))
    with XesWriter(path) as writer:
        for at in range(0, len(rows), size):
            writer.write(pa.RecordBatch.from_pylist(rows[at : at + size], shape))
    return path


def key(row: Row) -> str:
    return repr(sorted((k, str(v)) for k, v in row.items()))


def spans(path: Path) -> list[Row]:
    found = read(path)
    assert found.schema == span_schema()
    for k, field in enumerate(found.schema):
        if pa.types.is_timestamp(field.type):
            found = found.set_column(k, field.name, found[field.name].cast(pa.int64()))
    return found.to_pylist()


@given(forests(), st.booleans())
def test_what_is_written_is_read_back(tmp_path: Path, rows: list[Row], packed: bool) -> None:
    path = save(tmp_path / ("t.xes.gz" if packed else "t.xes"), rows)
    ids = ("trace_id", "span_id", "parent_id")
    expected = [row | {i: row[i] if row[i] is None else str(row[i]) for i in ids} | {"links": None} for row in rows]
    assert sorted(map(key, spans(path))) == sorted(map(key, expected))


def test_what_a_dropped_message_was_sent_to_is_kept(tmp_path: Path) -> None:
    names = ["a", "(dropped)", "_x0028_dropped)", None]
    rows = [event("t", str(k), name, status="dropped") for k, name in enumerate(names, 1)]
    rows.append(event("t", "9", "(dropped)"))
    path = save(tmp_path / "t.xes", rows)
    assert [row["name"] for row in spans(path)] == [*names, "(dropped)"]
    assert path.read_text().count('value="(dropped)"') == 1


def test_an_empty_trace_id_is_kept(tmp_path: Path) -> None:
    path = save(tmp_path / "t.xes", [event("x", "1", "a"), event("", "1", "b")])
    notices = Notices()
    assert read(path, notices)["trace_id"].to_pylist() == ["x", ""]
    assert notices.problems == ()


@pytest.mark.parametrize("key", ["concept:name", "flowstat:span_id", "flowstat:key", "flowstat:parent"])
def test_half_a_surrogate_pair_is_a_bad_record(tmp_path: Path, key: str) -> None:
    rows = [event("t", str(k), "a", key="k", parent="p", parent_id="0") for k in (1, 2, 3)]
    path = save(tmp_path / "t.xes", rows)
    text = path.read_text()
    at = [found.start(1) for found in re.finditer(f'<event>.*?key="{key}" value="([^"]*)"', text, re.DOTALL)][1]
    path.write_text(text[:at] + "_xD800_" + text[at:])
    assert refusal(path).startswith(f"t: event 2: its {key} is '_xD800_")
    notices = Notices(skip_bad=True)
    assert read(path, notices)["span_id"].to_pylist() == ["1", "3"]
    assert notices.problems[0].number == 1


def test_half_a_surrogate_pair_in_the_name_of_a_trace(tmp_path: Path) -> None:
    path = save(tmp_path / "t.xes", [event("t", "1", "a"), event("u", "1", "b")])
    path.write_text(path.read_text().replace('value="u"', 'value="_xDC00_"'))
    assert refusal(path) == "t: event 2: its trace's concept:name is '_xDC00_', half a surrogate pair"
    assert len(read(path, Notices(skip_bad=True))) == 1


def test_links_are_kept(tmp_path: Path) -> None:
    row = event("t", "1", "a", links=[{"trace_id": "u", "span_id": "é\0"}])
    (found,) = spans(save(tmp_path / "t.xes", [row], links=True))
    assert found["links"] == [{"trace_id": "u", "span_id": "é\0"}]


def test_events_come_in_the_order_of_time(tmp_path: Path) -> None:
    rows = [
        event("t", "1", "late", started_at=30),
        event("u", "1", "other", started_at=10),
        event("t", "2", "unknown"),
        event("t", "3", "first", started_at=20),
        event("t", "4", "sent", sent_at=20),
    ]
    found = spans(save(tmp_path / "t.xes", rows, 2))
    assert [(row["trace_id"], row["name"]) for row in found] == [
        ("t", "first"),
        ("t", "sent"),
        ("t", "late"),
        ("t", "unknown"),
        ("u", "other"),
    ]


def test_times_have_the_digits_that_they_need(tmp_path: Path) -> None:
    rows = [event("t", "1", "a", started_at=1_500_000_000), event("t", "2", "b", started_at=-1)]
    text = save(tmp_path / "t.xes", rows).read_text()
    assert 'value="1970-01-01T00:00:01.500+00:00"' in text
    assert 'value="1969-12-31T23:59:59.999999999+00:00"' in text


@given(st.text(st.characters(exclude_categories=["Cs"])) | st.text("_x0F5AE\0"))
def test_any_text_is_encoded_and_decoded(text: str) -> None:
    assert decode(encode(text)) == text


def test_a_block_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), XesWriter(tmp_path / "t.xes"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="can't write the trace"):
        XesWriter(tmp_path / "no" / "t.xes")


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ('flowstat:span_id" value="1"', 'flowstat:span_id" value=""', "t: event 1: it has no flowstat:span_id"),
        ('status" value="ok"', 'status" value="fine"', "t: event 1: its flowstat:status is 'fine'"),
        (
            '"flowstat:started_at" value="5"',
            '"flowstat:started_at" value="x"',
            "t: event 1: its flowstat:started_at is no time",
        ),
        ('key="flowstat:sent"', 'key="flowstat:links"', "t: event 1: its flowstat:links are no list of links"),
        ('value="a"', 'value=""', "t: event 1: it has no name (concept:name)"),
    ],
)
def test_spans_that_were_changed(tmp_path: Path, old: str, new: str, what: str) -> None:
    path = save(tmp_path / "t.xes", [event("t", "1", "a", started_at=5)])
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    assert refusal(path) == what
    assert len(read(path, Notices(skip_bad=True))) == 0


# Against pm4py


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore")
def test_helpdesk_as_pm4py_reads_it() -> None:
    pm4py = pytest.importorskip("pm4py")
    path = real_data("helpdesk.xes.gz")
    log = pm4py.read_xes(str(path), variant="chunk_regex")
    expected = tuple(Counter(part) for part in pm4py.discover_dfg(log))
    assert directly_follows(read(path)) == expected
    assert len(log) == len(read(path)) == 21_348


@pytest.mark.filterwarnings("ignore")
def test_pm4py_reads_what_is_written(tmp_path: Path) -> None:
    pm4py = pytest.importorskip("pm4py")
    rows = [
        event("t", "1", "a", started_at=5, sent="b"),
        event("t", "2", "b", parent_id="1", parent="a", started_at=10**9),
    ]
    rows.append(event("u", "1", "é <&>\n\0"))
    rows.append(event("u", "2", None, status="dropped", parent_id="1"))
    log = pm4py.read_xes(str(save(tmp_path / "t.xes", rows)), variant="iterparse")
    assert log["case:concept:name"].tolist() == ["t", "t", "u", "u"]
    assert log["concept:name"].tolist() == ["a", "b", "é <&>\n_x0000_", "(dropped)"]
    assert log["time:timestamp"].iloc[1] == pd.Timestamp(10**9, tz="UTC")
    assert pc.count_distinct(pa.array(log["flowstat:span_id"])).as_py() == 2
