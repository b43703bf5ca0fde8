import json
from fractions import Fraction
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowstat.analyze import solve
from flowstat.analyze import what_if as module
from flowstat.analyze.absorption import absorption
from flowstat.analyze.changes import changed, read_changes
from flowstat.analyze.loops import loops
from flowstat.analyze.sensitivity import sensitivity
from flowstat.analyze.visits import visits
from flowstat.analyze.what_if import Difference, WhatIf, what_if
from flowstat.errors import AnalysisError, ChainError
from flowstat.estimate.chain import END, Chain, estimate
from flowstat.estimate.counts import Counts
from flowstat.read.files import parse_graph
from tests.oracles import chain_of, chains, fundamental
from tests.test_bounds import dyadic, solution, transient

SHOP = """
order -> payment;
payment/retry -> payment @0.2;
payment/declined -> declined @0.1;
payment/ok -> ship @0.6;
payment/late -> ship @0.1;
payment/lost.* -> declined @0;
"""


def shop() -> Chain:
    return estimate(Counts(), parse_graph(SHOP))


def by_name(found: WhatIf, kind: str) -> dict[str, Difference]:
    return {d.name: d for d in found.differences if d.kind == kind}


def test_fewer_retries() -> None:
    """Tries are geometric: from 1 / 0.8 to 1 / 0.98; where they end stays as it is, in proportion."""
    found = what_if(shop(), "payment/retry=0.02")
    events = by_name(found, "events")["mean"]
    assert events.before == pytest.approx(1 + 1.25 + 1)
    assert events.after == pytest.approx(2 + 1 / 0.98)
    assert events.difference == pytest.approx(1 / 0.98 - 1.25)
    assert events.ratio == pytest.approx(events.after / events.before)
    assert by_name(found, "share")["payment -> payment"].after == 0.02
    for name, chance in (("ship", 0.875), ("declined", 0.125)):
        same = by_name(found, "outcome")[name]
        assert (same.before, same.after) == (pytest.approx(chance), pytest.approx(chance))
        assert abs(same.difference) <= same.error_bound < 1e-13
    loop = by_name(found, "loop")["payment -> payment"]
    assert (loop.before, loop.after) == (pytest.approx(0.2), pytest.approx(0.02))
    assert by_name(found, "rounds")["payment -> payment"].after == pytest.approx(1 / 0.98)
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_share_as_small_as_no_float_is_none() -> None:
    """And that at once: as a fraction it has a hundred million digits."""
    shop = estimate(Counts(), parse_graph(SHOP))
    gone, tiny = (changed(shop, read_changes(shop, f"payment -> payment={p}")) for p in ("0", "1e-99999999"))
    assert (gone.P != tiny.P).nnz == 0


def test_a_loop_that_goes_and_one_that_comes() -> None:
    gone = what_if(shop(), {"payment/retry": 0})
    assert by_name(gone, "loop")["payment -> payment"].after == 0
    assert changed(shop(), read_changes(shop(), "payment/retry=0")).P.nnz == shop().P.nnz - 1
    come = what_if(shop(), ["declined -> payment=50%"])
    assert by_name(come, "loop")["{declined, payment}"].before == 0
    assert by_name(come, "loop")["{declined, payment}"].after > 0
    assert by_name(come, "share")["declined -> payment"].after == 0.5


def test_the_same_change_in_other_words() -> None:
    wanted = what_if(shop(), "payment/retry=0.02").differences
    for words in (
        ["payment -> payment=0.02"],
        "payment/retry=2%",
        {"payment/retry": 0.02},
        {("payment", "payment"): 0.02},
        '"payment" -> "payment" = 0.02',
        "  payment / retry = 1/50",
    ):
        assert what_if(shop(), words).differences == wanted


def test_a_key_that_shares_its_pair_is_not_known() -> None:
    with pytest.raises(AnalysisError, match=r"'?late'? as well.*change 'payment -> ship'"):
        what_if(shop(), "payment/ok=0.5")
    # As a pattern it is written as it is; a key that it matches names it too, with its pair not shared by others.
    graph = parse_graph("a/x.* -> b; a/y -> c;")
    chain = estimate(Counts(), graph)
    for words in ("a/x.*=0.25", "a/x.1=0.25"):
        assert by_name(what_if(chain, words), "share")["a -> b"].after == 0.25


def test_a_key_of_several_arrows_keeps_their_proportion() -> None:
    chain = estimate(Counts(), parse_graph("a/ok -> b @0.3; a/ok -> c @0.1; a/no -> d @0.6;"))
    after = changed(chain, read_changes(chain, "a/ok=0.8"))
    row = after.P.toarray()[after.index["a"]]
    assert row[[after.index[k] for k in "bcd"]] == pytest.approx([0.6, 0.2, 0.2])
    unused = estimate(Counts(), parse_graph("a/ok -> b @0; a/ok -> c @0; a/no -> d @1;"))
    after = changed(unused, read_changes(unused, "a/ok=0.5"))
    assert after.P.toarray()[after.index["a"]][[after.index[k] for k in "bcd"]] == pytest.approx([0.25, 0.25, 0.5])


def test_several_changes_of_one_node_and_of_its_end() -> None:
    chain = chain_of({"a": {"b": 0.5, "c": 0.25}, "b": {}, "c": {}})
    after = changed(chain, read_changes(chain, ["a -> b=0.9", "a -> c=0.1"]))
    assert after.stop[0] == 0
    after = changed(chain, read_changes(chain, ["a -> (end)=1e-17", "a -> c=0"]))
    assert (after.stop[0], after.P.toarray()[0, 2]) == (1e-17, 0)
    assert absorption(after).outcomes[-1].probability == pytest.approx(1e-17, rel=1e-12)
    only = chain_of({"a": {"b": 1}, "b": {}})
    assert changed(only, read_changes(only, ["a -> b=0.75", "a -> (end)=0.25"])).stop[0] == 0.25


def test_names_with_marks_in_them() -> None:
    chain = Chain.from_matrix([[0, 1, 0], [0, 0, 0], [0, 0, 0]], ["a/b->c", "x=y", "a"], "a/b->c", stop=[0, 1, 1])
    found = what_if(chain, ["a/b->c -> x=y=0.5", "a/b->c->a=0.25", '"a/b->c" -> (end)=0.25'])
    assert by_name(found, "outcome")["x=y"].after == 0.5


def test_runs_that_never_end() -> None:
    chain = chain_of({"a": {"b": 0.5}, "b": {"b": 0.5}}, "a")
    found = what_if(chain, "b -> b=1")
    events = by_name(found, "events")["mean"]
    assert (events.after, events.difference, events.ratio) == (inf, inf, inf)
    assert "never end" in str(found)
    other = what_if(changed(chain, read_changes(chain, "b -> b=1")), "b -> (end)=0.5")
    assert by_name(other, "events")["mean"].ratio is None
    assert "All runs end then" in str(other)
    both = what_if(chain_of({"a": {"t": 0.5}, "t": {"t": 1}}, "a"), "a -> t=0.25")
    assert by_name(both, "events")["mean"].difference is None
    assert by_name(both, "outcome")["t"].after == 0.25
    for result in (found, other, both):
        assert "nan" not in str(result)
        json.dumps(result.to_dict(), allow_nan=False)


@given(chains(traps=True), st.data())
@settings(max_examples=60)
def test_the_changed_chain_is_the_stated_one(chain: Chain, data: st.DataObject) -> None:
    """Against a matrix that is changed by hand, and its inverse."""
    source = data.draw(st.sampled_from(sorted(chain.names)))
    target = data.draw(st.sampled_from([*sorted(chain.names), END]))
    share = data.draw(st.sampled_from([0, 0.125, 0.5, 0.75, 1]))
    n, i = len(chain.names), chain.index[source]
    rows = np.hstack([chain.P.toarray(), chain.stop[:, None]])
    j = chain.index.get(target, n)
    left = rows[i].sum() - rows[i, j]
    change = f"{source} -> {target}={share}"
    if left <= 0 and share < 1:
        with pytest.raises(AnalysisError, match="no other way"):
            what_if(chain, change)
        return
    rows[i] *= (1 - share) / left if left > 0 else 0
    rows[i, j] = share
    by_hand = Chain.from_matrix(rows[:, :n], chain.names, stop=rows[:, n])
    found = what_if(chain, change, dict(zip(chain.names, chain.start.tolist(), strict=True)), top=99)
    after = absorption(by_hand, dict(zip(chain.names, chain.start.tolist(), strict=True)))
    outcomes = by_name(found, "outcome")
    assert {n: d.after for n, d in outcomes.items() if d.after} == pytest.approx(
        {o.outcome: o.probability for o in after.outcomes}
    )
    keep, N, law = fundamental(Chain.from_matrix(rows[:, :n], chain.names, dict(
        zip(chain.names, chain.start.tolist(), strict=True)), stop=rows[:, n]))  # fmt: skip
    for name, number in zip(keep, law @ N if keep else [], strict=True):
        if name in by_name(found, "visits"):
            assert by_name(found, "visits")[name].after == pytest.approx(number)
    for d in found.differences:
        if d.difference is not None and np.isfinite(d.difference):
            assert d.difference == d.after - d.before


@pytest.mark.parametrize("largest", [1500, 1])
def test_exact_differences_lie_within_the_bounds(monkeypatch: pytest.MonkeyPatch, largest: int) -> None:
    """Of chains whose shares are dyadic before and after."""
    monkeypatch.setattr(solve, "DENSE", largest)
    draw = np.random.default_rng(4)
    compared = 0
    for _ in range(120):
        chain = dyadic(draw)
        names = [*chain.names, END]
        change = [f"0 -> {name}={0.5 if k == 0 else 0.25}" for k, name in enumerate(draw.permutation(names)[:3])]
        if len(change) < 3:
            continue
        other = changed(chain, read_changes(chain, change))
        try:
            found = what_if(chain, change, top=99)
        except AnalysisError:
            continue
        exact = []
        for side in (chain, other):
            keep, matrix = transient(side)
            transposed = [list(row) for row in zip(*matrix, strict=True)]
            visited = solution(transposed, [Fraction(int(i == 0)) for i in keep])
            exact.append({side.names[i]: v for i, v in zip(keep, visited or [], strict=True)})
        for d in by_name(found, "visits").values():
            if all(d.name in side for side in exact):
                right = exact[1][d.name] - exact[0][d.name]
                assert abs(Fraction(d.difference) - right) <= Fraction(d.error_bound)
                compared += 1
    assert compared > 60


def test_small_changes_are_those_of_the_gradient() -> None:
    chain = shop()
    for e in sensitivity(chain, "events").effects:
        if not e.effect or e.share > 0.999:
            continue
        events = by_name(what_if(chain, {(e.source, e.target): e.share + 1e-7}), "events")["mean"]
        assert events.difference / 1e-7 == pytest.approx(e.effect, rel=1e-4)


def test_what_changes_most_comes_first_and_the_rest_is_counted() -> None:
    found = what_if(shop(), "payment/retry=0.02", top=1)
    assert len(by_name(found, "outcome")) == len(by_name(found, "loop")) == 1
    assert list(by_name(found, "visits")) == ["payment"]
    assert found.left_out > 0
    assert "left out" in str(found)
    assert found.error_bound == max(d.error_bound for d in found.differences if d.error_bound is not None)


def test_large_chains_are_compared_without_their_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOPS", 2)
    found = what_if(shop(), "payment/retry=0.02")
    assert by_name(found, "loop") == by_name(found, "rounds") == {}
    assert "Loops are not compared" in str(found)


def test_numbers_are_those_of_both_chains() -> None:
    chain = shop()
    after = changed(chain, read_changes(chain, "payment -> declined=0.5"))
    found = what_if(chain, "payment -> declined=0.5", "payment")
    for side, name in ((chain, "before"), (after, "after")):
        assert getattr(by_name(found, "events")["mean"], name) == absorption(side, "payment").events
        assert getattr(by_name(found, "visits")["payment"], name) == visits(side, "payment").nodes[1].visits
        assert getattr(by_name(found, "loop")["payment -> payment"], name) == loops(side, "payment").loops[0].entered


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("payment", "is no change"),
        ("payment/retry=x", "is no number"),
        ("payment/retry=1/0", "is no number"),
        ("payment/retry=nan", "is no number"),
        ("payment/retry=inf", "is no number"),
        ("payment/retry=1.5", "between 0 and 1"),
        ("payment/retry=1e99999999", "between 0 and 1"),
        ("payment/retry=1ex", "is no number"),
        ("payment/retry=-0.1", "between 0 and 1"),
        ("payment/other=0.5", "no arrow with the key 'other': it has retry, declined"),
        ("ship/x=0.5", "no arrow with the key"),
        ("nowhere/x=0.5", "is no pair"),
        ("a -> b=0.5", "is no pair"),
        ("(end) -> ship=0.5", "is no pair"),
        ("order -> payment=0.5", "no other way that could take the remaining 0.5"),
        (["payment -> ship=0.7", "payment -> declined=0.7"], "add up to 1.4"),
        (["payment -> payment=0.1", "payment/retry=0.1"], "both change payment -> payment"),
        ({("payment", "nowhere"): 0.5}, "no node is called 'nowhere'"),
        ([], "at least one change"),
    ],
)
def test_changes_that_are_none(change: object, said: str) -> None:
    with pytest.raises(AnalysisError, match=said):
        what_if(shop(), change)


def test_other_bad_questions() -> None:
    with pytest.raises(ChainError, match="no node is called"):
        what_if(shop(), "payment/retry=0", "nowhere")
    with pytest.raises(AnalysisError, match="at least one number"):
        what_if(shop(), "payment/retry=0", top=0)
    with pytest.raises(AnalysisError, match="its keys are not known"):
        what_if(chain_of({"a": {"b": 1}, "b": {}}), "a/x=0.5")
