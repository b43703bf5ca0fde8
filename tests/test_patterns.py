import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowstat.errors import TraceError
from flowstat.read.patterns import format_pattern, parse_pattern
from tests.strategies import names


@given(st.lists(names, max_size=8))
def test_what_is_written_reads_back_in_any_order(targets: list[str]) -> None:
    pattern = format_pattern(targets)
    assert parse_pattern(pattern) == tuple(sorted((name, targets.count(name)) for name in set(targets)))
    assert format_pattern(reversed(targets)) == pattern
    assert not pattern or len(pattern.splitlines()) == 1


@given(st.text(max_size=12) | st.text('ab*12 "\\', max_size=12))
def test_any_text_is_a_pattern_or_a_trace_error(text: str) -> None:
    try:
        targets = parse_pattern(text)
    except TraceError:
        return
    assert all(name and times > 0 for name, times in targets)
    few = tuple((name, min(times, 99)) for name, times in targets)
    assert parse_pattern(format_pattern(name for name, times in few for _ in range(times))) == few


def test_nothing_is_the_empty_pattern() -> None:
    assert (parse_pattern(""), format_pattern([])) == ((), "")


def test_a_name_given_twice_adds_up() -> None:
    assert parse_pattern('b a "a"*2 "a*2"') == (("a", 3), ("a*2", 1), ("b", 1))


@pytest.mark.parametrize(
    "text", [" ", "a ", " a", "a  b", "a*0", "a*", "*2", "a*2*3", "a\tb", '"', '"\\x"', '""', '"a"b']
)
def test_what_is_no_pattern_is_refused(text: str) -> None:
    with pytest.raises(TraceError, match="send pattern"):
        parse_pattern(text)


@pytest.mark.parametrize("text", ["x" * 10_000_000 + " ", "a*" + "9" * 10_000, '"' + "\\" * 100_001])
def test_the_message_about_a_long_pattern_is_short(text: str) -> None:
    with pytest.raises(TraceError) as caught:
        parse_pattern(text)
    assert len(str(caught.value)) < 250
