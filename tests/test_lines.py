"""JSON Lines are counted in a database where all lines are right, else one by one: both say the same of any lines."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowstat import count, read_traces
from flowstat.errors import TraceError
from flowstat.estimate import counting
from flowstat.read.jsonlines import UNREADABLE

GOOD = {
    "trace_id": 1,
    "span_id": 1,
    "parent_id": None,
    "parent": None,
    "name": "a",
    "key": None,
    "sent": "",
    "status": "ok",
}

ODD = st.sampled_from(
    [None, 0, 1, -1, 1.0, 1.5, 1e3, 2**63, 2**64 - 1, 2**64, True, "", "1", "a", "é", "b c", "a\\", "\x00", [], [1], {}]
)
TIMES = st.sampled_from([None, 5, 1.5, "2024-01-01T00:00:00Z", "2024-01-01", "nonsense", 2**70, [1]])
COLUMNS = {
    "trace_id": ODD,
    "span_id": ODD,
    "parent_id": ODD,
    "parent": ODD,
    "name": ODD,
    "key": ODD,
    "sent": ODD | st.sampled_from(["a a", "a b", '"a b"', "b a", " "]),
    "status": ODD | st.sampled_from(["ok", "error", "pending", "dropped", "done"]),
    "worker": ODD,
    "sent_at": TIMES,
    "links": st.sampled_from([None, [], [{"trace_id": 1, "span_id": 1}], [1], "x"]),
    "other": ODD,
}


@st.composite
def rows(draw):
    row = dict(GOOD, trace_id=draw(st.integers(1, 2)), span_id=draw(st.integers(1, 9)))
    for column in draw(st.sets(st.sampled_from(list(COLUMNS)), max_size=1)):
        row[column] = draw(COLUMNS[column])
    return row


@st.composite
def lines(draw):
    row = draw(rows())
    if draw(st.integers(0, 4)):
        return json.dumps(row)
    text = json.dumps(row)
    return draw(
        st.sampled_from(
            [
                text[:-1] + ",}",
                text[:-1] + ', "other": NaN}',
                text[:-1] + ', "other": [1, -Infinity, ]}',
                text[:-1] + ', "name": "b"}',
                text[:-1] + ', "parent_id": NaN}',
                text.replace('"ok"', "NaN"),
                text.replace('"a"', "Infinity"),
                text.replace('"dropped"', "nan"),
                text[:-1] + ', "worker": "NaN,}"}',
                text + " {}",
                text + "x",
                "",
                "[]",
                "null",
                '{"trace_id": 01}',
            ]
        )
    )


def said(path, **options):
    try:
        found = count(read_traces(path, **options))
    except TraceError as error:
        return str(error)
    # Times are not looked at where the lines are not read one by one.
    problems = {problem for problem in found.problems if problem.what != UNREADABLE}
    return found.table, found.starts, found.errors, found.pending, found.dropped, problems


@settings(deadline=None, max_examples=400)
@given(st.lists(lines(), max_size=3), st.booleans())
def test_both_ways_say_the_same(tmp_path_factory, texts, skip_bad):
    path = tmp_path_factory.mktemp("lines") / "a.jsonl"
    path.write_text(json.dumps(GOOD | {"trace_id": 3}) + "\n" + "".join(text + "\n" for text in texts))
    fast = said(path, skip_bad=skip_bad)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counting, "count_lines", lambda file, memory: None)
        slow = said(path, skip_bad=skip_bad)
    assert fast == slow


def test_what_python_and_pandas_write_too_much_is_let_through(tmp_path):
    path = tmp_path / "a.jsonl"
    text = json.dumps(GOOD)[:-1]
    path.write_text(
        f'{text}, "worker": NaN,}}\n' + text.replace('"span_id": 1', '"span_id": 2') + ', "other": [1, ]}\n'
    )
    assert count(read_traces(path)).events == {"a": 2}
    assert read_traces(path).frame()["worker"].isna().all()
