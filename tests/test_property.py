"""Properties are read as PRISM and Storm write them; what can't be read is said with its place."""

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowstat.errors import SHOWN_AT_ONCE, AnalysisError
from flowstat.explain.property import (
    Bound,
    Chance,
    Constant,
    Every,
    Label,
    LongRun,
    Not,
    Property,
    Reward,
    Same,
    Some,
    Window,
    asks_time,
    operators,
)
from flowstat.explain.property_parser import DEEPEST
from flowstat.explain.property_text import parse_properties, parse_property, read_properties


def bare(formula):
    """Return a formula as nested tuples, without positions."""
    match formula:
        case Label(name):
            return name
        case Constant(value):
            return value
        case Not(of):
            return ("!", bare(of))
        case Every(parts):
            return ("&", *map(bare, parts))
        case Some(parts):
            return ("|", *map(bare, parts))
        case Same(a, b):
            return ("<=>", bare(a), bare(b))
        case Chance(bound, path):
            return ("P", bound, path.kind, bare(path.a), bare(path.b), path.window)
        case LongRun(bound, of):
            return ("S", bound, bare(of))
        case Reward(bound, of, goal):
            return ("R", of, bound, bare(goal))
    raise AssertionError(formula)


def states(text):
    """Return the formula of states that a text is, read as the goal of a reward."""
    return bare(parse_property(f"R=? [ F {text} ]").formula)[-1]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ('"a"', "a"),
        ("true", True),
        ('!"a" & "b"', ("&", ("!", "a"), "b")),
        ('!("a" & "b")', ("!", ("&", "a", "b"))),
        ('!!"a"', "a"),
        ('!!!"a"', ("!", "a")),
        ('"a" | "b" & "c" | "d"', ("|", "a", ("&", "b", "c"), "d")),
        ('"a" => "b" => "c"', ("|", ("!", "a"), ("!", "b"), "c")),
        ('"a" | "b" => "c"', ("|", ("!", ("|", "a", "b")), "c")),
        ('"a" <=> "b" <=> "c"', ("<=>", ("<=>", "a", "b"), "c")),
        ('"with \\"quotes\\" and é"', 'with "quotes" and é'),
        ('S<0.2 [ "a" ]', ("S", Bound("<", Fraction(1, 5)), "a")),
        ('P>=1 [ F "a" ] & "b"', ("&", ("P", Bound(">=", Fraction(1)), "F", True, "a", Window()), "b")),
    ],
)
def test_states_are_read(text: str, meant: object) -> None:
    assert states(text) == meant


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ('X "a"', ("X", True, "a", Window(1, 1))),
        ('F "a" | "b"', ("F", True, ("|", "a", "b"), Window())),
        ('F<=20 "a"', ("F", True, "a", Window(0, 20))),
        ('F<20 "a"', ("F", True, "a", Window(0, 19))),
        ('F>=2 "a"', ("F", True, "a", Window(2))),
        ('F>2 "a"', ("F", True, "a", Window(3))),
        ('F=2 "a"', ("F", True, "a", Window(2, 2))),
        ('G[2,5] "a"', ("G", True, "a", Window(2, 5))),
        ('F<=1e3 "a"', ("F", True, "a", Window(0, 1000))),
        ('F{"steps"}<=3 "a"', ("F", True, "a", Window(0, 3))),
        ('F{"time"}<=2.5 "a"', ("F", True, "a", Window(seconds=2.5))),
        ('F[t<=2.5] "a"', ("F", True, "a", Window(seconds=2.5))),
        ('"a" & "b" U "c" & "d"', ("U", ("&", "a", "b"), ("&", "c", "d"), Window())),
        ('!"a" U<=4 "c"', ("U", ("!", "a"), "c", Window(0, 4))),
        ('"a" W "c"', ("W", "a", "c", Window())),
        ('"a" R "c"', ("R", "a", "c", Window())),
    ],
)
def test_paths_are_read(path: str, meant: tuple[object, ...]) -> None:
    assert bare(parse_property(f"P=? [ {path} ]").formula)[2:] == meant


@pytest.mark.parametrize(
    ("bound", "meant"),
    [
        ("=?", Bound()),
        (">=0.99", Bound(">=", Fraction(99, 100))),
        ("< 1e-3", Bound("<", Fraction(1, 1000))),
        ("<=1/3", Bound("<=", Fraction(1, 3))),
        (">0", Bound(">", Fraction(0))),
        (">=.5", Bound(">=", Fraction(1, 2))),
        (">=0e999", Bound(">=", Fraction(0))),
    ],
)
def test_bounds_are_exact(bound: str, meant: Bound) -> None:
    assert parse_property(f'P{bound} [ F "a" ]').formula.bound == meant


def test_rewards_have_no_bound_of_one() -> None:
    assert bare(parse_property('R{"time"}<=120 [ F "end" ]').formula) == (
        "R",
        "time",
        Bound("<=", Fraction(120)),
        "end",
    )
    assert bare(parse_property('R=? [ F "end" ]').formula)[1] == "events"


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("", None, "there is no property"),
        ("  # nothing", None, "there is no property"),
        ("P>=0.9 [ F shipped ]", 12, 'a node is written in quotes: "shipped"'),
        ('P>=0.9 [ F "shipped ]', 12, "not closed"),
        ('P>=0.9 [ F "a" ] x', 18, "expected the end of the property here, found 'x'"),
        ('P>=0.9 [ F "a"', 15, "expected ']' here, found the end"),
        ('P>=0.9 F "a"', 8, "expected '[' here, found 'F'"),
        ('P 0.9 [ F "a" ]', 3, "expected =? or a bound"),
        ('P>=1.5 [ F "a" ]', 4, "between 0 and 1"),
        ('P>=-1 [ F "a" ]', 4, "'-1' is nothing"),
        ('P>=1/0 [ F "a" ]', 4, "nothing below its line"),
        ('P>=1e-999 [ F "a" ]', None, None),
        ('R>=1e999 [ F "a" ]', 4, "from 1e-300 to 1e+300"),
        ('P>=0.9 [ "a" ]', 14, "P asks what a run does"),
        ('P>=0.9 [ F G "a" ]', 12, "one path within another"),
        ('P>=0.9 [ !F "a" ]', 11, "F is about a run"),
        ('F "a"', 1, "F is about a run"),
        ('Pmax=? [ F "a" ]', 1, "a chain makes no choices, write P"),
        ('A [ F "a" ]', 1, "write P>=1"),
        ('P=? [ X<=3 "a" ]', 8, "has no window"),
        ('P=? [ F<=2.5 "a" ]', 10, "steps are whole numbers"),
        ('P=? [ F<0 "a" ]', 8, "below 0"),
        ('P=? [ F[5,2] "a" ]', 11, "ends at 2 before it begins at 5"),
        ('P=? [ F<=1e30 "a" ]', 10, "leave the window out"),
        ('P=? [ "a" W>=2 "b" ]', 11, "from now on only"),
        ('P=? [ F{"time"}>=2 "a" ]', 16, "bounded by <="),
        ('P=? [ F{"time"}<2 "a" ]', 16, "bounded by <="),
        ('P=? [ F{"time"}<=0 "a" ]', 18, "above 0"),
        ('P=? [ F{"money"}<=2 "a" ]', 9, 'of "time" or "steps"'),
        ('R{"money"}=? [ F "a" ]', 3, '"events" or "time"'),
        ("R=? [ C<=3 ]", 7, "until a run comes to a goal"),
        ('R=? [ "a" ]', 7, "expected 'F'"),
        ('P=? [ F P=? [ X "a" ] ]', 1, "stands alone"),
        ('"a" & P=? [ X "a" ]', 1, "stands alone"),
        ('"a" && "b"', 6, "found '&'"),
        ("name: ", 6, "a name without a property"),
        ('"\\x" ', 1, "a wrong escape"),
        ("(" * 1000, DEEPEST + 1, f"more than {DEEPEST}"),
        ("P>0 [ X " * 1000, None, f"more than {DEEPEST}"),
        ('"a\ud800"', 3, "half a surrogate pair"),
    ],
)
def test_mistakes_are_placed(text: str, column: int | None, message: str | None) -> None:
    if message is None:
        # Below all floats, and so 0.
        assert parse_property(text).formula.bound == Bound(">=", Fraction(0))
        return
    with pytest.raises(AnalysisError) as caught:
        parse_property(text)
    said = str(caught.value)
    assert message in said
    if column is not None:
        first, line, caret = said.split("\n")
        assert first.startswith(f"<property>:1:{column}: ")
        assert len(line) >= len(caret.rstrip("^"))
        assert caret.endswith("^")


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(AnalysisError, match="a property is a text"):
        parse_property(3)  # type: ignore[arg-type]


def test_a_file_has_one_property_a_line() -> None:
    text = '\n# goals\nends: P>=1 [ F "end" ]  # all of them\n"two words": P=? [ F "a#b" ];\nP=? [ X "c" ] // next\n'
    found = parse_properties(text, "goals.pctl")
    assert [(p.name, p.text) for p in found] == [
        ("ends", 'P>=1 [ F "end" ]'),
        ("two words", 'P=? [ F "a#b" ]'),
        ("", 'P=? [ X "c" ]'),
    ]
    assert str(found[0]) == 'ends: P>=1 [ F "end" ]'


def test_all_mistakes_of_a_file_come_at_once() -> None:
    with pytest.raises(AnalysisError) as caught:
        parse_properties('a: P>=2 [ F "x" ]\nb: P>=1 [ F "x" ]\nb: P>=1 [ F "y" ]\nP>=1 [ F', "goals")
    said = str(caught.value)
    assert "goals:1:7: a chance is between 0 and 1" in said
    assert "goals:3:1: line 2 already has a property called 'b'" in said
    assert "goals:4:9: " in said
    with pytest.raises(AnalysisError, match="and 5 more mistakes"):
        parse_properties("P\n" * (SHOWN_AT_ONCE + 5))


def test_windows_line_ends_and_a_mark_at_the_beginning(tmp_path: Path) -> None:
    path = tmp_path / "goals.pctl"
    path.write_bytes(b'\xef\xbb\xbfends: P>=1 [ F "end" ]\r\nP=? [ X "end" ]\r\n')
    assert [p.text for p in read_properties(path)] == ['P>=1 [ F "end" ]', 'P=? [ X "end" ]']


@pytest.mark.parametrize(
    ("content", "message"), [(b"# none\n", "holds no property"), (b"\xff\xfe", "no UTF-8"), (None, "can't read")]
)
def test_files_that_are_none_are_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "goals.pctl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AnalysisError, match=message):
        read_properties(path)


def test_operators_say_how_deep_they_are() -> None:
    found = parse_property('P>=1 [ G ("a" => P>0.5 [ X S>0 [ "b" ] ]) ] & R<=2 [ F "c" ]')
    assert [(type(o).__name__, depth) for o, depth in operators(found.formula)] == [
        ("Chance", 0),
        ("Chance", 1),
        ("LongRun", 2),
        ("Reward", 0),
    ]
    assert not asks_time(found.formula)
    assert asks_time(parse_property('"a" | P>=1 [ F R{"time"}<=2 [ F "c" ] ]').formula)
    assert asks_time(parse_property('P=? [ F[t<=2] "c" ]').formula)


pieces = ["P", "R", "S", "X", "F", "G", "U", "W", ">=0.5", "=?", "<=3", "[", "]", "(", ")", "!", "&", "|", "=>", "<=>"]
pieces += [
    '"a"',
    '"b"',
    "true",
    "{",
    "}",
    '"time"',
    "t",
    ",",
    "2",
    "1e3",
    "/",
    ":",
    ";",
    "#",
    "//",
    "\n",
    '"',
    "\\",
    "=",
]


@given(st.lists(st.sampled_from(pieces), max_size=14).map(" ".join) | st.text(max_size=20))
def test_any_text_is_a_property_or_said_not_to_be(text: str) -> None:
    try:
        found = parse_property(text)
    except AnalysisError:
        return
    assert isinstance(found, Property)
    # What is kept of the text says the same.
    assert bare(parse_property(found.text).formula) == bare(found.formula)
