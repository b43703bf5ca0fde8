import datetime as dt
import decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowstat.read.times import INSTANT, Times, nanoseconds

NS = pa.int64()
BAD = "bad"


def read(column: pa.Array) -> list[Any]:
    """Return nanoseconds, None where unknown, BAD where unreadable."""
    times, bad = Times().read(column)
    assert times.type == INSTANT
    assert bad is None or bad.any()
    rows = times.cast(NS).to_pylist()
    if bad is not None:
        assert all(rows[k] is None for k in np.flatnonzero(bad))
        rows = [BAD if wrong else row for row, wrong in zip(rows, bad, strict=True)]
    return rows


def texts(*values: str | None) -> list[Any]:
    return read(pa.array(values, pa.string()))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:01Z", 10**9),
        ("1970-01-01 01:00:01.788000+01:00", 1_788_000_000),
        ("1970-01-01 00:00:01", 10**9),
        ("1970-01-01T00:00:00.000000001+00:00", 1),
        ("1970-01-01T00:00:00.0000000019Z", 1),
        ("1970-01-02", 86400 * 10**9),
        ("1970/01/02 00:00:00,5", 86400 * 10**9 + 5 * 10**8),
        ("1970-1-2 0:00 UTC", 86400 * 10**9),
        ("19700101T000001Z", 10**9),
        (" 1970-01-01 00:00:01 ", 10**9),
        ("1969-12-31T19:00:00-0500", 0),
        ("1970-01-01T01:00:00+01", 0),
        ("1970-01-01 10", 36000 * 10**9),
        ("1970-01-01T10Z", 36000 * 10**9),
        ("1970-01-01 5", BAD),
        ("9999-12-31T00:00:00Z", BAD),
        ("1600-01-01", BAD),
        ("2024-02-30", BAD),
        ("2024-01-01T25:00:00", BAD),
        ("31.12.2024 10:00", BAD),
        ("yesterday", BAD),
        ("1e9", BAD),
        ("0x10", BAD),
    ],
)
def test_texts(text: str, expected: Any) -> None:
    assert texts(text) == [expected]
    # Whatever stands beside it.
    assert texts("x", text) == [BAD, expected]
    assert texts("1970-01-01T00:00:00Z", text, "1970-01-01 00:00", "", None) == [0, expected, 0, None, None]


@pytest.mark.parametrize(
    ("number", "unit"),
    [
        (1_661_140_374, 10**9),
        (1_661_140_374_351, 10**6),
        (1_661_140_374_351_773, 10**3),
        (1_661_140_374_351_773_094, 1),
    ],
)
def test_whole_numbers_by_magnitude(number: int, unit: int) -> None:
    expected = [number * unit, None, 1 * unit]
    assert read(pa.array([number, None, 1])) == expected
    assert texts(str(number), None, "1") == expected
    assert texts(str(number), "", "1") == expected
    assert texts(str(number), "2024-01-01", "1") == [number * unit, 1_704_067_200 * 10**9, 1 * unit]


def test_the_unit_is_that_of_the_first_rows() -> None:
    times = Times()
    times.read(pa.array([None], pa.int64()))
    times.read(pa.array([1_661_140_374_351]))
    later, bad = times.read(pa.array([5, 2**62]))
    assert later.cast(NS).to_pylist() == [5_000_000, None]
    assert bad is not None
    assert bad.tolist() == [False, True]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([1, None], pa.timestamp("ms")), [10**6, None]),
        (pa.array([1, 2**62], pa.timestamp("s", "Asia/Tokyo")), [10**9, BAD]),
        (pa.array([dt.date(1970, 1, 2), None]), [86400 * 10**9, None]),
        (pa.array([86_400_000], pa.date64()), [86400 * 10**9]),
        (pa.array([2**64 - 1, 5, None], pa.uint64()), [BAD, 5 * 10**9, None]),
        (pa.array([-(2**63), 2**63 - 1]), [BAD, 2**63 - 1]),
        (pa.array([1.5, float("nan"), None, float("inf"), 1e30]), [15 * 10**8, None, None, BAD, BAD]),
        (pa.array([decimal.Decimal("1.25"), None]), [125 * 10**7, None]),
        (pa.array([True, None]), [BAD, None]),
        (pa.array([b"1970"]), [BAD]),
        (pa.array([[1], None]), [BAD, None]),
        (pa.array([dt.time(1)]), [BAD]),
        (pa.nulls(2), [None, None]),
        (pa.array([], pa.string()), []),
        (pa.array(["1970-01-01", None, "x"]).dictionary_encode(), [0, None, BAD]),
        (pa.array(["1970-01-01", "x"]).dictionary_encode().slice(0, 1), [0]),
        (pa.array(["99999999999999999999", "5"]), [BAD, 5 * 10**9]),
        (pa.array(["1.5", "1700000000"]), [15 * 10**8, 1_700_000_000 * 10**9]),
    ],
)
def test_types(column: pa.Array, expected: list[Any]) -> None:
    assert read(column) == expected


moments = st.integers(-(2**63) + 1, 2**63 - 1)


@given(st.lists(moments, min_size=1), st.sampled_from(["T", " "]), st.sampled_from(["Z", "", "+05:30", "-0800"]))
def test_any_moment_as_text(instants: list[int], between: str, zone: str) -> None:
    shift = {"Z": 0, "": 0, "+05:30": 330, "-0800": -480}[zone] * 60 * 10**9
    instants = [n for n in instants if abs(n + shift) < 2**63]
    written = [str(np.datetime64(n + shift, "ns")).replace("T", between) + zone for n in instants]
    assert texts(*written) == instants
    assert [nanoseconds(text) for text in written] == instants


@given(st.lists(st.none() | st.text(max_size=12) | st.text("0123456789-:. TZ+/", max_size=24)))
def test_any_text(values: list[str | None]) -> None:
    for value, row in zip(values, texts(*values), strict=True):
        assert (row is None) == (value is None or not value.strip())


@given(
    st.lists(st.floats() | st.none()).map(lambda v: pa.array(v, pa.float64()))
    | st.lists(st.integers(-(2**63), 2**63 - 1) | st.none()).map(lambda v: pa.array(v, pa.int64()))
    | st.lists(st.integers(0, 2**64 - 1) | st.none()).map(lambda v: pa.array(v, pa.uint64()))
)
def test_any_number(column: pa.Array) -> None:
    for value, row in zip(column.to_pylist(), read(column), strict=True):
        assert (row is None) == (value is None or value != value)
