import json
from collections import Counter
from fractions import Fraction
from math import inf
from random import Random

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowstat.analyze import loops as module
from flowstat.analyze.loops import Loop, Loops, loops
from flowstat.errors import AnalysisError, ChainError
from flowstat.estimate.chain import END, Chain, estimate
from flowstat.estimate.counts import Counts
from flowstat.read.files import parse_graph
from tests.oracles import (
    LETTERS,
    chain_of,
    chains,
    fundamental,
    hit,
    mean_agrees,
    pit,
    relabelled,
    rounds,
    share_agrees,
    shop,
    shop_runs,
    traps_of,
)

Key = tuple[frozenset[str], int]


def by_nodes(found: Loops) -> dict[Key, Loop]:
    return {(frozenset(loop.nodes), loop.depth): loop for loop in found.loops}


def exits(loop: Loop) -> dict[tuple[str, str], float]:
    return {(e.source, e.target): e.probability for e in loop.exits}


@pytest.mark.parametrize("p", [Fraction(1, 8), Fraction(1, 2), Fraction(7, 8)])
def test_a_retry_loop(p: Fraction) -> None:
    """`try` comes back to itself with p: entered with p, then 1/(1-p) rounds; p/(1-p) rounds over all arrivals."""
    q = 1 - p
    chain = chain_of({"in": {"try": Fraction(1, 2)}, "try": {"try": p, "ok": q * Fraction(2, 3)}, "ok": {}}, "in")
    [loop] = loops(chain).loops
    assert (loop.name, loop.kind, loop.nodes, loop.entries, loop.depth, loop.parent) == (
        "try -> try",
        "self",
        ("try",),
        ("try",),
        0,
        None,
    )
    assert loop.reached == 0.5
    assert loop.entered == pytest.approx(float(p / 2))
    assert loop.again == float(p)
    assert loop.rounds == pytest.approx(float(1 / q))
    assert loop.rounds_per_arrival == pytest.approx(float(p / q))
    assert exits(loop) == pytest.approx({("try", "ok"): 2 / 3, ("try", END): 1 / 3})
    assert loop.events == pytest.approx(float(1 / q / 2))
    assert loop.events_per_entry == pytest.approx(float(1 / q))
    # Beside these there is `in`, once, and `ok` in a third of runs.
    assert loop.share == pytest.approx(float((1 / q / 2) / (1 / q / 2 + 1 + Fraction(1, 3))))


def test_a_nest_of_two_loops() -> None:
    """A job is planned (`plan`), worked on (`work`, which repeats itself with 1/4) and then done with 1/2, failed
    with 1/8, or planned again with 1/8.

    Outer loop, header plan: plan -> work for sure; work leaves its self-loop for plan with (1/8)/(3/4) = 1/6, so
    again = 1/6 and it is entered with 1/6, for 6/5 rounds; it is left from work to done in 4 of 5, to failed in 1.
    Visits: plan 6/5, work 4/3 each = 8/5; with the last event a run has 19/5 events, share 14/19.

    Inner loop, header work: again = 1/4. Work never comes back with 5/8 (its exits from the outer loop), so a run
    goes round inside at all with (1/4)/(1/4 + 5/8) = 2/7 and then 1 + (1/4)/(5/8) = 7/5 times; per arrival 1/3.
    It is left to plan with 1/6, to done with 4/6, to failed with 1/6; share 8/19.
    """
    chain = chain_of(
        {
            "plan": {"work": 1},
            "work": {"work": Fraction(1, 4), "done": Fraction(1, 2), "failed": Fraction(1, 8), "plan": Fraction(1, 8)},
            "done": {},
            "failed": {},
        },
        "plan",
    )
    outer, inner = loops(chain).loops
    assert (outer.name, outer.kind, outer.header, outer.depth, outer.parent) == (
        "plan -> ... -> plan",
        "chain",
        "plan",
        0,
        None,
    )
    assert (inner.name, inner.kind, inner.header, inner.depth, inner.parent) == ("work -> work", "self", "work", 1, 0)
    numbers = [outer.reached, outer.entered, outer.again, outer.rounds, outer.rounds_per_arrival, outer.share]
    assert numbers == pytest.approx([1, 1 / 6, 1 / 6, 6 / 5, 1 / 5, 14 / 19], rel=1e-14)
    assert (outer.events, outer.events_per_entry) == pytest.approx((14 / 5, 14 / 5))
    assert exits(outer) == pytest.approx({("work", "done"): 0.8, ("work", "failed"): 0.2})
    numbers = [inner.reached, inner.entered, inner.again, inner.rounds, inner.rounds_per_arrival, inner.share]
    assert numbers == pytest.approx([1, 2 / 7, 1 / 4, 7 / 5, 1 / 3, 8 / 19], rel=1e-14)
    assert (inner.events, inner.events_per_entry) == pytest.approx((8 / 5, 4 / 3))
    assert exits(inner) == pytest.approx({("work", "plan"): 1 / 6, ("work", "done"): 2 / 3, ("work", "failed"): 1 / 6})


def test_an_irreducible_loop() -> None:
    """x <-> y, entered at x with 3/5 and at y with 2/5; x leaves with 1/2, y with 1/3.

    again at x: 1/2 2/3 = 1/3. From y, x is reached with 2/3: 3/5 + 2/5 2/3 = 13/15 in all; entered 13/15 1/3.
    Visits: x 13/15 / (2/3) = 13/10, y (2/5 + 13/20) = 21/20: left at x with 13/20, at y with 7/20.
    """
    chain = chain_of({"x": {"y": Fraction(1, 2)}, "y": {"x": Fraction(2, 3)}}, {"x": 0.6, "y": 0.4})
    [loop] = loops(chain).loops
    assert (loop.nodes, loop.entries, loop.header) == (("x", "y"), ("x", "y"), "x")
    assert loop.reached == 1
    assert loop.entered == pytest.approx(13 / 45)
    assert (loop.again, loop.rounds, loop.rounds_per_arrival) == pytest.approx((1 / 3, 3 / 2, 1 / 2))
    assert exits(loop) == pytest.approx({("x", END): 13 / 20, ("y", END): 7 / 20})
    assert (loop.events, loop.share) == pytest.approx((47 / 20, 1))


def test_a_header_with_a_self_loop() -> None:
    """h repeats with 1/4, goes to b with 1/2 and ends with 1/4; b always comes back. A round is either way: 3/4.

    Its self-loop: again 1/4, never back with 1/4: entered with 1/2, then 2 rounds; left to b with 2/3.
    """
    chain = chain_of({"h": {"h": Fraction(1, 4), "b": Fraction(1, 2)}, "b": {"h": 1}}, "h")
    whole, itself = loops(chain).loops
    assert (whole.nodes, whole.kind, itself.nodes, itself.kind, itself.parent) == (
        ("h", "b"),
        "chain",
        ("h",),
        "self",
        0,
    )
    assert (whole.again, whole.entered, whole.rounds) == pytest.approx((3 / 4, 3 / 4, 4))
    assert (itself.again, itself.entered, itself.rounds, itself.rounds_per_arrival) == pytest.approx(
        (1 / 4, 1 / 2, 2, 1 / 3)
    )
    assert exits(itself) == pytest.approx({("h", "b"): 2 / 3, ("h", END): 1 / 3})
    assert itself.entries == ("h",)


def test_a_trap() -> None:
    """A run is trapped in ping <-> pong with 1/2; all its events are there, in the long run even over both."""
    chain = chain_of({"a": {"ping": Fraction(1, 2)}, "ping": {"pong": 1}, "pong": {"ping": 1}})
    [loop] = loops(chain).loops
    assert (loop.reached, loop.entered, loop.again, loop.rounds, loop.rounds_per_arrival) == (0.5, 0.5, 1, inf, inf)
    assert (loop.events, loop.events_per_entry, loop.exits, loop.share) == (inf, inf, (), 1)
    [alone] = loops(chain_of({"a": {"a": 1}})).loops
    assert (alone.kind, alone.again, alone.rounds, alone.exits, alone.share) == ("self", 1, inf, (), 1)


def test_a_loop_within_a_trap() -> None:
    """h -> {h 1/2, b 1/2}, b -> h: h holds 2/3 of the time; its self-loop is left again and again, to b."""
    chain = chain_of({"h": {"h": 0.5, "b": 0.5}, "b": {"h": 1}}, "b")
    whole, itself = loops(chain).loops
    assert whole.header == "b"
    assert (itself.nodes, itself.reached, itself.entered, itself.rounds) == (("h",), 1, 1, inf)
    assert (itself.rounds_per_arrival, itself.events_per_entry, itself.share) == pytest.approx((1, 2, 2 / 3))
    assert exits(itself) == {("h", "b"): 1}


def test_a_start_inside_and_several_starts() -> None:
    """From b in the loop a -> b -> a: a is come to with 1/2 and is the only header if runs also start there."""
    chain = chain_of({"a": {"b": 1}, "b": {"a": 0.5}}, {"a": 0.75, "b": 0.25})
    [loop] = loops(chain).loops
    assert (loop.header, loop.entries) == ("a", ("a", "b"))
    assert loop.entered == pytest.approx((0.75 + 0.25 / 2) / 2)
    [inside] = loops(chain, "b").loops
    assert (inside.header, inside.entries, inside.entered, inside.rounds) == ("b", ("b",), 0.5, 2)
    with pytest.raises(ChainError, match="no node is called"):
        loops(chain, "nobody")


def test_what_no_run_comes_to_is_listed() -> None:
    chain = chain_of({"a": {}, "y": {"x": 0.5}, "x": {"y": 0.5, "a": 0.5}, "z": {"z": 1}}, "a")
    found = by_nodes(loops(chain))
    lost, trap = found[frozenset("xy"), 0], found[frozenset("z"), 0]
    assert (lost.header, lost.entries, lost.reached, lost.entered, lost.events, lost.share) == ("x", (), 0, 0, 0, 0)
    assert (lost.again, lost.rounds) == pytest.approx((0.25, 4 / 3))
    assert exits(lost) == pytest.approx({("x", "a"): 2 / 3, ("y", END): 1 / 3})
    assert (trap.reached, trap.entered, trap.events, trap.share, trap.rounds) == (0, 0, 0, 0, inf)


def test_entries_used_alike_are_ordered_by_name() -> None:
    """Both are entered with 0.3, once as a sum that rounds: the header is the same for every order of the states."""
    table = {"in": {"z": 0.1, "s": 0.2, "b": 0.3}, "s": {"z": 1}, "z": {"b": 0.5}, "b": {"z": 0.5}}
    for names in (["in", "s", "z", "b"], ["b", "z", "s", "in"]):
        [loop] = loops(chain_of({name: table[name] for name in names}, "in")).loops
        assert loop.header == "b"


def test_exits_that_one_minus_a_sum_would_lose() -> None:
    chain = chain_of({"a": {"b": 1 - 3e-13, END: 3e-13}, "b": {"a": 1 - 1e-13, END: 1e-13}}, "a")
    [loop] = loops(chain).loops
    assert exits(loop) == pytest.approx({("a", END): 0.75, ("b", END): 0.25}, rel=1e-12)
    assert loop.rounds == pytest.approx(1 / 4e-13, rel=1e-12)
    [alone] = loops(chain_of({"a": {"a": 1.0, END: 1e-17}})).loops
    assert (alone.rounds, alone.rounds_per_arrival, exits(alone)) == (
        pytest.approx(1e17),
        pytest.approx(1e17),
        {("a", END): 1},
    )


def test_keys_of_a_self_loop() -> None:
    graph = parse_graph("pay/retry -> pay; pay/late -> pay; pay/ok -> ship;")
    [loop] = loops(estimate(Counts(), graph)).loops
    assert loop.keys == ("retry", "late")


def test_too_large_a_loop_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGEST", 3)
    with pytest.raises(AnalysisError, match="a loop of 4 nodes is too large"):
        loops(shop())


def check_forest(chain: Chain, found: Loops) -> None:
    """Loops are nested as defined: components with a cycle, then those that are left without the header."""
    graph = chain.to_networkx()
    groups: list[tuple[int, int | None, set[str]]] = [(0, None, set(graph))]
    groups += [(loop.depth + 1, k, set(loop.nodes[1:])) for k, loop in enumerate(found.loops)]
    expected = []
    for depth, parent, nodes in groups:
        for c in nx.strongly_connected_components(graph.subgraph(nodes)):
            if len(c) > 1 or graph.has_edge(*c, *c):
                expected.append((frozenset(c), depth, parent))
        if parent is not None and len(found.loops[parent].nodes) > 1:
            header = found.loops[parent].header
            expected += [(frozenset([header]), depth, parent)] * graph.has_edge(header, header)
    assert Counter(expected) == Counter((frozenset(x.nodes), x.depth, x.parent) for x in found.loops)
    assert all(loop.parent is None or loop.parent < k for k, loop in enumerate(found.loops))


@settings(max_examples=250)
@given(chains())
def test_loops_equal_brute_force(chain: Chain) -> None:
    found = loops(chain)
    check_forest(chain, found)
    names, N, law = fundamental(chain)
    v = dict(zip(names, (law @ N).tolist(), strict=True))
    graph = chain.to_networkx()
    for loop in found.loops:
        inside = set(loop.nodes)
        entered, total = rounds(chain, inside, loop.header)
        assert loop.entered == pytest.approx(entered, abs=1e-11)
        if entered > 0:
            assert loop.rounds == pytest.approx(total / entered, rel=1e-10)
        assert loop.entered <= loop.reached + 1e-12
        assert loop.reached == pytest.approx(hit(chain, inside), abs=1e-11)
        events = sum(v[i] for i in inside)
        assert (loop.events, loop.share) == pytest.approx((events, events / sum(v.values())), abs=1e-11)
        out = {(i, j): v[i] * graph[i][j]["share"] for i in inside for j in graph[i] if j not in inside}
        out |= {(i, END): v[i] * graph.nodes[i]["stop"] for i in inside if graph.nodes[i]["stop"] > 0}
        assert set(out) == set(exits(loop))
        assert sum(exits(loop).values()) == pytest.approx(1, abs=1e-12)
        if loop.entries:
            left = sum(out.values())
            assert exits(loop) == pytest.approx({arrow: p / left for arrow, p in out.items()}, abs=1e-11)
            assert loop.events_per_entry == pytest.approx(events / left, rel=1e-10)
            flow = {j: v[j] - sum(v[i] * graph[i][j]["share"] for i in inside if j in graph[i]) for j in inside}
            assert set(loop.entries) == {j for j in inside if flow[j] > 1e-12}
            assert flow[loop.header] == pytest.approx(max(flow.values()), abs=1e-12)
        body = [chain.index[i] for i in loop.nodes[1:]]
        h, P = chain.index[loop.header], chain.P.toarray()
        rest = np.linalg.inv(np.eye(len(body)) - P[np.ix_(body, body)])
        again = P[h, h] + P[h, body] @ rest @ P[body, h]
        assert loop.again == pytest.approx(again, abs=1e-12)
        assert loop.rounds_per_arrival == pytest.approx(again / (1 - again), rel=1e-9)
    json.dumps(found.to_dict(), allow_nan=False)


@settings(max_examples=200)
@given(chains(traps=True))
def test_loops_beside_and_in_traps(chain: Chain) -> None:
    found = loops(chain)
    check_forest(chain, found)
    trapped = frozenset().union(*traps_of(chain))
    outer = 0.0
    for loop in found.loops:
        inside = set(loop.nodes)
        assert 0 <= loop.entered <= loop.reached + 1e-12 <= 1 + 2e-12
        assert loop.reached == pytest.approx(hit(chain, inside), abs=1e-11)
        assert 0 <= loop.share <= 1 + 1e-12
        if inside <= trapped:
            assert loop.rounds == inf
            assert loop.entered == pytest.approx(loop.reached, rel=1e-12)
            assert loop.events in (0, inf)
            outer += loop.share * (loop.depth == 0)
        if frozenset(inside) in traps_of(chain):
            assert not loop.exits
        else:
            assert sum(exits(loop).values()) == pytest.approx(1, abs=1e-12)
    if any(loop.events == inf for loop in found.loops):
        assert outer == pytest.approx(1)
    json.dumps(found.to_dict(), allow_nan=False)


@settings(max_examples=200)
@given(chains(traps=True), st.randoms(use_true_random=False))
def test_order_and_names_change_nothing(chain: Chain, random: Random) -> None:
    """Names keep their alphabetical order here: it decides between entries that are used alike."""
    order = list(range(len(chain.names)))
    random.shuffle(order)
    names = dict(zip(sorted(LETTERS), "UVWXYZ", strict=True))
    expected, other = by_nodes(loops(chain)), by_nodes(loops(relabelled(chain, order, names)))
    back = {new: old for old, new in names.items()} | {END: END}
    assert {(frozenset(back[i] for i in nodes), depth) for nodes, depth in other} == set(expected)
    for (nodes, depth), loop in other.items():
        same = expected[frozenset(back[i] for i in nodes), depth]
        assert back[loop.header] == same.header
        assert {back[i] for i in loop.entries} == set(same.entries)
        for what in (
            "reached",
            "entered",
            "again",
            "rounds",
            "rounds_per_arrival",
            "events",
            "events_per_entry",
            "share",
        ):
            assert getattr(loop, what) == pytest.approx(getattr(same, what), rel=1e-10, abs=1e-12)
        assert {(back[i], back[j]): p for (i, j), p in exits(loop).items()} == pytest.approx(exits(same), abs=1e-12)


def test_simulated_runs_go_round_alike() -> None:
    runs, found = shop_runs(), loops(shop())
    assert len(found.loops) >= 4
    for loop in found.loops:
        inside = np.isin((*runs.chain.names, END), loop.nodes)
        assert share_agrees(inside[runs.steps].any(axis=0).sum(), runs.runs, loop.reached)
        counted = runs.rounds(loop)
        assert share_agrees((counted > 0).sum(), runs.runs, loop.entered)
        assert mean_agrees(counted[counted > 0], loop.rounds)
        left = runs.exits(loop)
        assert set(left) == set(exits(loop))
        for e in loop.exits:
            assert share_agrees(left[e.source, e.target], left.total(), e.probability)
        assert mean_agrees(inside[runs.steps].sum(axis=0), loop.events)


def test_results_show_themselves() -> None:
    for result in (loops(shop()), loops(pit()), Loops(())):
        assert str(result).startswith("Loops")
        assert list(result.frame().columns) == list(result.columns)
        assert len(result.frame()) == len(result.loops)
        assert "<table>" in result._repr_html_()
        json.dumps(result.to_dict(), allow_nan=False)
    assert "There is no loop" in str(loops(chain_of({"a": {"b": 1}, "b": {}})))
