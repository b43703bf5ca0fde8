"""Properties of runs: what they mean where runs end, at ties and bounds, and on the command line."""

from __future__ import annotations

import json
from fractions import Fraction
from math import inf
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import flowstat as fs
from flowstat.errors import AnalysisError, ChainError, OutputError
from flowstat.estimate.chain import Chain
from flowstat.explain.check import check
from flowstat.explain.checked import Checked, Checks
from flowstat.explain.property import Bound
from flowstat.explain.told import Point, satisfied
from flowstat.show.junit import junit, write_junit
from tests.oracles import chain_of, pit, shop, simulate


def retry() -> Chain:
    """Return a chain that tries, and ends as ok or is lost."""
    return chain_of({"try": {"try": 0.5, "ok": 0.25, "lost": 0.25}, "ok": {}, "lost": {}}, "try")


def ask(chain: Chain, text: str, **options) -> Checked:
    return check(chain, text, **options).checks[0]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('P=? [ F "ok" ]', 0.5),
        ('P=? [ F "end" ]', 1.0),
        ('P=? [ F "deadlock" ]', 1.0),
        ('P=? [ F "(end)" ]', 1.0),
        # A run that has ended is at no node.
        ('P=? [ G "try" | "ok" | "lost" ]', 0.0),
        ('P=? [ G "try" | "ok" | "end" ]', 0.5),
        ('P=? [ G !"lost" ]', 0.5),
        ('P=? [ X "try" ]', 0.5),
        ("P=? [ X X ]", None),
        ('P=? [ F<=1 "ok" ]', 0.25),
        ('P=? [ F<=2 "end" ]', 0.5),
        ('P=? [ F=2 "end" ]', 0.5),
        ('P=? [ F=1 "ok" ]', 0.25),
        ('P=? [ F>=2 "ok" ]', 0.25),
        ('P=? [ "try" U "ok" ]', 0.5),
        ('P=? [ "try" W "ok" ]', 0.5),
        ('P=? [ "ok" R "try" ]', 0.0),
        ('P=? [ "end" R !"lost" ]', 0.5),
        ('P=? [ F<=0 "init" ]', 1.0),
        ("P=? [ F true ]", 1.0),
        ("P=? [ F false ]", 0.0),
        ('S=? [ "ok" ]', 0.0),
        ('S=? [ "end" ]', 1.0),
        ("S=? [ true ]", 1.0),
        ('R=? [ F "end" ]', 3.0),
        ('R=? [ F "ok" ]', inf),
        ('R=? [ F "ok" | "lost" ]', 2.0),
        ('R=? [ F "try" ]', 0.0),
        ('P=? [ F P>=0.5 [ X "ok" ] ]', 0.0),
        ('P=? [ F P>=1 [ X "end" ] & "ok" ]', 0.5),
        ('P=? [ F R<=1 [ F "end" ] ]', 1.0),
        ('P=? [ X R<=0 [ F "end" ] ]', 0.0),
    ],
)
def test_what_a_run_does_where_it_ends(text: str, value: float | None) -> None:
    if value is None:
        with pytest.raises(AnalysisError):
            check(retry(), text)
        return
    found = ask(retry(), text)
    assert found.verdict == "answered"
    assert found.value == pytest.approx(value, abs=1e-15)
    assert (found.low, found.high) == (None, None)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ('P>=0.5 [ F "ok" ]', True),
        ('P>0.5 [ F "ok" ]', False),
        ('P<=0.5 [ F "ok" ]', True),
        ('P<0.5 [ F "ok" ]', False),
        ('P>=1/2 [ F "ok" ]', True),
        ('P>=0.500000001 [ F "ok" ]', False),
        ('P>=1 [ F "end" ]', True),
        ('P>=1 [ F "ok" ]', False),
        ('P<1 [ F "ok" ]', True),
        ('P>0 [ F "ok" ]', True),
        ('P<=0 [ F "ok" ]', False),
        ('P<=0 [ "lost" U "ok" ]', True),
        ('P<=0 [ X "end" ]', True),
        ('R<=3 [ F "end" ]', True),
        ('R<3 [ F "end" ]', False),
        ('R>1000000 [ F "ok" ]', True),
        ('"try"', True),
        ('"init" & !"ok"', True),
        ('"ok" => P>=1 [ F "lost" ]', True),
        ('"ok" <=> "lost"', True),
        ('P>=0.5 [ F "ok" ] & P>0.5 [ F "ok" ]', False),
        ('P>=0.5 [ F "ok" ] | P>0.5 [ F "ok" ]', True),
        ("true", True),
        ("!true", False),
    ],
)
def test_bounds_and_ties(text: str, holds: bool) -> None:
    found = check(retry(), text)
    assert found.holds is holds
    assert found.checks[0].verdict == ("holds" if holds else "fails")


def test_shares_that_are_no_exact_floats_tie_with_their_decimals() -> None:
    graph = fs.parse_graph("pay -> paid @0.95, declined @0.05;")
    chain = fs.estimate(fs.Counts(), graph)
    found = check(
        chain, ['P>=0.95 [ F "paid" ]', 'P<=0.05 [ F "declined" ]', 'P>0.95 [ F "paid" ]', 'P>=0.951 [ X "paid" ]']
    )
    assert [c.verdict for c in found.checks] == ["holds", "holds", "fails", "fails"]
    assert found.runs is None
    assert "No traces" in found.notes()[0]


def test_next_to_one_the_other_side_tells() -> None:
    rare = chain_of({"a": {"b": 1.0, "(end)": 1e-18}, "b": {}}, "a")
    assert check(rare, 'P>=0.9999999999999999 [ F "b" ]').holds is True
    assert check(rare, 'P>=1 [ F "b" ]').holds is False
    assert check(rare, 'P<=1e-17 [ G !"b" ]').holds is True
    assert check(rare, 'P<=9e-19 [ G !"b" ]').holds is False
    tight = "0." + "9" * 17 + "8"  # 1 - 2e-18, no float
    assert check(rare, f'P>={tight} [ F "b" ]').holds is True
    assert check(rare, f'P>={"0." + "9" * 18 + "5"} [ F "b" ]').holds is False


def test_what_is_not_computed_well_enough_is_not_told() -> None:
    rough = Point("chance", 0.5, 1e-7)
    assert rough.side(Fraction(1, 2)) is None
    assert rough.side(Fraction(4, 10)) == 1
    assert satisfied(Bound(">="), None) is None
    assert Point("chance", 0.5, 1e-16).side(Fraction(1, 2)) == 0
    assert Point("chance", 1.0, 1e-7, by_graph=False).side(Fraction(1)) is None
    assert Point("amount", inf, exact=inf).side(Fraction(10**30)) == 1


def test_runs_start_by_their_law() -> None:
    chain = shop()
    law = {"order": 0.8, "pay": 0.15, "done": 0.05}
    whole = ask(chain, 'P=? [ F "ship" ]').value
    parts = sum(share * ask(chain, 'P=? [ F "ship" ]', start=name).value for name, share in law.items())
    assert whole == pytest.approx(parts, rel=1e-13)
    with pytest.raises(AnalysisError, match='some runs start at "pay" and some do not'):
        check(chain, '"pay" => P>=0.5 [ F "ship" ]')
    assert check(chain, '"ship" => P>=1 [ F "pay" ]').holds is True
    assert check(chain, '"pay"', start="pay").holds is True
    assert check(chain, '"init"').holds is True
    with pytest.raises(ChainError, match="no node is called"):
        check(chain, '"pay"', start="nobody")


def test_simulated_runs_do_as_often_what_is_said() -> None:
    chain, runs = shop(), 200_000
    steps = simulate(chain, 11, runs).steps
    at = {name: steps == k for k, name in enumerate(chain.names)}
    gone = steps < 0
    before = np.cumsum(at["wait"], axis=0) == 0
    # steps[t] is where a run is after t messages; beyond the longest run all have ended.
    seen = {
        'P=? [ F<=4 "ship" ]': at["ship"][:5].any(axis=0),
        'P=? [ !"wait" U "ship" ]': (at["ship"] & before).any(axis=0),
        'P=? [ G<=3 !"pay" ]': ~at["pay"][:4].any(axis=0),
        'P=? [ F[2,4] "pay" ]': at["pay"][2:5].any(axis=0),
        'P=? [ F=6 "end" ]': gone[6],
        'P=? [ F "wait" & P<0.9 [ F "ship" ] ]': at["wait"].any(axis=0),
    }
    for text, happens in seen.items():
        value = ask(chain, text).value
        assert abs(happens.mean() - value) < 4.5 * np.sqrt(value * (1 - value) / runs), text
    assert (~gone).sum(axis=0).mean() == pytest.approx(ask(chain, 'R=? [ F "end" ]').value, rel=0.01)


def test_times_are_in_seconds() -> None:
    latencies = {("try", "try"): (2.0, 0.0), ("try", "ok"): (1.0, 0.0), ("try", "lost"): (1.0, 0.0)}
    chain = retry()
    assert ask(chain, 'R{"time"}=? [ F "ok" | "lost" ]', latencies=latencies).value == pytest.approx(3.0)
    assert ask(chain, 'R{"time"}=? [ F "end" ]', latencies=latencies).value == pytest.approx(3.0)
    slow = {**latencies, ("ok", "(end)"): (4.0, 0.0)}
    assert ask(chain, 'R{"time"}=? [ F "end" ]', latencies=slow).value == pytest.approx(5.0)
    assert ask(chain, 'R{"time"}=? [ F "ok" ]', latencies=latencies).value == inf
    for text, value in (
        ('P=? [ F{"time"}<=1.5 "ok" ]', 0.25),
        ('P=? [ F[t<=3.5] "ok" ]', 0.375),
        ('P=? [ G{"time"}<=3.5 !"ok" ]', 0.625),
        ('P=? [ "try" U{"time"}<=3.5 "ok" ]', 0.375),
        ('P=? [ !"try" U{"time"}<=3.5 "ok" ]', 0.0),
        ('P=? [ F{"time"}<=0.5 "ok" ]', 0.0),
        ('P=? [ F{"time"}<=0.5 "try" ]', 1.0),
        ('P=? [ F{"time"}<=3.5 "end" ]', 0.75),
        ('P=? [ F{"time"}<=1000 "end" ]', 1.0),
    ):
        found = ask(chain, text, latencies=latencies)
        assert found.value == pytest.approx(value, abs=1e-5), text
        assert abs(found.value - value) <= found.error_bound + 1e-15, text
    assert ask(chain, 'P=? [ F{"time"}<=4 "end" ]', latencies=slow).value == pytest.approx(0.375, abs=1e-5)
    assert check(chain, 'P>=0.2 [ F{"time"}<=1.5 "ok" ]', latencies=latencies).holds is True
    assert check(chain, 'P>0 [ F{"time"}<=0.5 "ok" ]', latencies=latencies).holds is not True
    # Known to within the grid only, which is no tie.
    assert ask(chain, 'P>=0.25 [ F{"time"}<=1.5 "ok" ]', latencies=latencies).verdict == "cannot tell"
    with pytest.raises(AnalysisError, match="windows of steps only"):
        check(chain, 'P>=1 [ F P>0.5 [ F{"time"}<=1 "ok" ] ]', latencies=latencies)
    with pytest.raises(AnalysisError, match="no latency is known of try -> try"):
        check(chain, 'P>=1 [ F{"time"}<=1 "ok" ]')
    # What comes after the goal needs no latency.
    assert ask(shop(), 'P=? [ F{"time"}<=1 "order" ]', start="order").value == 1


def test_names_that_hide_labels() -> None:
    chain = chain_of({"init": {"end": 1.0}, "end": {"end": 0.5}}, "init")
    assert ask(chain, 'P=? [ F=1 "end" ]').value == 1
    assert ask(chain, 'P=? [ F=1 "(end)" ]').value == 0
    assert ask(chain, 'P=? [ F<=2 "(end)" ]').value == 0.5
    assert ask(chain, 'P=? [ X "init" ]').value == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('P>=1 [ F "shipp" ]', '<property>:1:10: no node is called "shipp": did you mean "ship"?'),
        ('P>=1 [ F "zzz" ]', "the nodes are order, check, pay, wait, ship, done"),
        ('P>=1 [ F "\n" ]', "not closed"),
        ('P>=1 [ F "\\u001b[31m" ]', "no node is called"),
    ],
)
def test_names_that_are_not_there(text: str, message: str) -> None:
    with pytest.raises(AnalysisError) as caught:
        check(shop(), text)
    assert message in str(caught.value)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("confidence", [0, 1, -1, float("nan")])
def test_a_confidence_is_between_0_and_1(confidence: float) -> None:
    with pytest.raises(AnalysisError, match="confidence"):
        check(retry(), "true", confidence=confidence)


def test_something_has_to_be_asked() -> None:
    with pytest.raises(AnalysisError, match="no property is given"):
        check(retry(), [])
    with pytest.raises(AnalysisError, match="a property is a text"):
        check(retry(), [3])  # type: ignore[list-item]
    with pytest.raises(AnalysisError, match="a property is a text"):
        check(retry(), 3)  # type: ignore[arg-type]


def test_a_large_chain_with_formulas_within_others() -> None:
    n = 5_000
    rows = np.arange(n - 1)
    from scipy import sparse

    P = sparse.csr_array((np.full(n - 1, 0.5), (rows, rows + 1)), shape=(n, n))
    stop = np.full(n, 0.5)
    stop[-1] = 1.0
    chain = Chain.from_matrix(P, [f"n{k}" for k in range(n)], "n0", stop=stop)
    found = check(
        chain,
        [
            'P=? [ F P>=0.3 [ F<=2 "n100" ] ]',
            f'P>0 [ F "n{n - 1}" ]',
            'P>=1 [ F<=4999 "end" ]',
            'P>=1 [ F<=5000 "end" ]',
        ],
    )
    assert found.checks[0].value == pytest.approx(0.5**99)
    assert [c.verdict for c in found.checks[1:]] == ["holds", "fails", "holds"]


def test_the_long_run_and_traps() -> None:
    chain = pit()
    ended = ask(chain, 'S=? [ "end" ]').value
    assert ended == pytest.approx(ask(chain, 'P=? [ F "end" ]').value, rel=1e-13)
    assert ask(chain, 'S=? [ "ping" | "pong" | "stuck" | "end" ]').value == 1
    assert ask(chain, 'S=? [ "ping" ]').value == pytest.approx(ask(chain, 'S=? [ "pong" ]').value / 2, rel=1e-12)
    assert check(chain, 'P>=1 [ G ("stuck" => P>=1 [ G "stuck" ]) ]').holds is True


def test_results_show_and_are_kept() -> None:
    found = check(retry(), [fs.parse_property('half: P>=0.5 [ F "ok" ]'), 'P>=0.9 [ F "ok" ]', 'P=? [ F "ok" ]'])
    assert found.holds is False
    assert found.summary == "1 holds, 1 fails, 1 answered"
    text = str(found)
    assert "half" in text
    assert "reason" not in text
    frame = found.frame()
    assert frame["verdict"].tolist() == ["holds", "fails", "answered"]
    assert found.to_dict()["checks"][0]["name"] == "half"
    assert "<table>" in found._repr_html_()
    assert check(retry(), 'P=? [ F "ok" ]').holds is True


def test_junit_is_what_build_servers_read(tmp_path: Path) -> None:
    checks = Checks(
        (
            Checked("good <1>", 'P>=0.5 [ F "ok" ]', "holds", 0.6, 0.5, 0.7),
            Checked("", 'P>=0.9 [ F "o\x01k" ]', "fails", 0.6),
            Checked(
                "open", 'P>=0.61 [ F "ok" ]', "cannot tell", 0.6, 0.5, 0.7, 1200, "the bound is within its interval"
            ),
            Checked("", 'R=? [ F "ok" ]', "answered", inf),
        ),
        0.95,
        100,
    )
    path = tmp_path / "checks.xml"
    write_junit(checks, path, "shop")
    [suite] = ElementTree.parse(path).getroot()
    assert {k: suite.get(k) for k in ("name", "tests", "failures", "skipped", "errors")} == {
        "name": "shop",
        "tests": "4",
        "failures": "1",
        "skipped": "1",
        "errors": "0",
    }
    assert [case.get("name") for case in suite] == ["good <1>", 'P>=0.9 [ F "o\\x01k" ]', "open", 'R=? [ F "ok" ]']
    assert [[part.tag for part in case] for case in suite] == [
        ["system-out"],
        ["failure", "system-out"],
        ["skipped", "system-out"],
        ["system-out"],
    ]
    said = suite[2][0].get("message")
    assert said == (
        "cannot tell, the number is 0.6, between 0.5 and 0.7: the bound is within its interval; about 1,200 more runs "
        "would tell, if it stays as it is"
    )
    [strict] = ElementTree.fromstring(junit(checks, strict=True))
    assert (strict.get("failures"), strict.get("skipped")) == ("2", "0")
    with pytest.raises(OutputError, match="can't write"):
        write_junit(checks, tmp_path / "no" / "where.xml")


@pytest.fixture
def cli(tmp_path, monkeypatch, run_flowstat):
    """Return the command, in a place with a graph and properties."""
    monkeypatch.chdir(tmp_path)
    Path("app.graph").write_text("pay -> paid @0.95, declined @0.05; paid -> sent;")
    Path("goals").write_text('paid: P>=0.9 [ F "paid" ] # most\nnone: P<=0 [ F "declined" ]\n')
    return lambda *arguments: run_flowstat("check", "app.graph", *arguments)


def test_the_command(cli) -> None:
    code, out, err = cli('P=? [ F "sent" ]', "-f", "goals", "--junit", "out.xml")
    assert code == 1
    assert "1 holds, 1 fails, 1 answered" in err
    assert "fails" in out
    assert ElementTree.parse("out.xml").getroot().get("name") == "app"
    code, out, _ = cli('P>=0.9 [ F "paid" ]', "--format", "json")
    assert code == 0
    graph = fs.read_graph("app.graph")
    assert json.loads(out)["rows"] == check(fs.estimate(fs.Counts(), graph), 'P>=0.9 [ F "paid" ]').rows()
    assert cli('P>=0.9 [ F{"time"}<=1.5 "paid" ]', "--latency", "pay -> paid=1")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give a property"),
        (('P>=0.9 [ F "pade" ]',), 'did you mean "paid"?'),
        (("P>=0.9 [ F paid ]",), "<property>:1:12"),
        (("-f", "nothing"), "can't read nothing"),
        (("-f", "goals", "--junit", "goals"), "goals is read here"),
        (('P>=0.9 [ F "paid" ]', "--latency", "pay -> paid=1"), "no property asks"),
        (('R{"time"}<=1 [ F "end" ]',), "no latency is known"),
        (("-f", "goals", "--junit", "no/where.xml"), "can't write no/where.xml"),
        (('P>=0.9 [ F "paid" ]', "--confidence", "1"), "confidence"),
    ],
)
def test_the_command_says_what_is_wrong(cli, arguments: tuple[str, ...], message: str) -> None:
    code, _, err = cli(*arguments)
    assert code == 2
    assert message in err


def test_what_the_data_can_not_tell_is_no_failure_but_with_strict(cli) -> None:
    lines = ["case,activity,time"]
    for case in range(40):
        for second, name in enumerate(("pay", "paid" if case % 10 else "declined")):
            lines.append(f"{case},{name},2026-01-01T00:00:{second:02d}")
    Path("log.csv").write_text("\n".join(lines))
    asked = ('P>=0.9 [ F "paid" ]', "-t", "log.csv", "--junit", "out.xml")
    code, out, err = cli(*asked)
    assert code == 0
    assert "1 can't be told" in err
    assert "cannot tell" in out
    assert ElementTree.parse("out.xml").getroot().get("skipped") == "1"
    assert cli(*asked, "--strict")[0] == 1
    assert ElementTree.parse("out.xml").getroot().get("failures") == "1"
