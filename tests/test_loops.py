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
from scipy import sparse

from flowstat.analyze import loop_found, solve
from flowstat.analyze import loop_rounds as rounds_of
from flowstat.analyze.loops import Loop, Loops, loops
from flowstat.errors import AnalysisError, ChainError
from flowstat.estimate.chain import END, Chain, estimate
from flowstat.estimate.counts import Counts
from flowstat.explain.sentences import loop_sentence
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
from tests.test_bounds import dyadic, solution, transient

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


def test_four_nodes_all_joined() -> None:
    """K4 with unequal shares, a -> b 1/2 c 1/4 d 1/8, b -> a 1/4 c 1/4 d 1/4, c -> a 1/2 b 1/8 d 1/8, d -> c 1/2 a 1/4
    b 1/8; what is missing is the end. From a: of the rest b, c, d, the chances x to come back to a solve
    x_b = 1/4 + x_c/4 + x_d/4, x_c = 1/2 + x_b/8 + x_d/8, x_d = 1/4 + x_b/8 + x_c/2: x = (126, 143, 142)/219;
    again x_b/2 + x_c/4 + x_d/8 = 233/438.
    """
    P = {
        "a": {"b": Fraction(1, 2), "c": Fraction(1, 4), "d": Fraction(1, 8)},
        "b": {"a": Fraction(1, 4), "c": Fraction(1, 4), "d": Fraction(1, 4)},
        "c": {"a": Fraction(1, 2), "b": Fraction(1, 8), "d": Fraction(1, 8)},
        "d": {"a": Fraction(1, 4), "b": Fraction(1, 8), "c": Fraction(1, 2)},
    }
    x = dict(
        zip(
            "bcd",
            solution([[int(i == j) - P[i].get(j, 0) for j in "bcd"] for i in "bcd"], [P[i]["a"] for i in "bcd"]),
            strict=True,
        )
    )
    assert [x[i] for i in "bcd"] == [Fraction(k, 219) for k in (126, 143, 142)]
    again = sum(P["a"][i] * x[i] for i in "bcd")
    assert again == Fraction(233, 438)
    found = loops(chain_of(P, "a")).loops
    assert (found[0].nodes, found[0].period, found[0].irreducible) == (("a", "b", "c", "d"), 1, False)
    assert found[0].again == pytest.approx(float(again), rel=1e-14)
    assert found[0].rounds == pytest.approx(float(1 / (1 - again)), rel=1e-14)
    assert [loop.depth for loop in found] == [0, 1, 2]
    assert found[0].gain == pytest.approx(max(np.linalg.eigvals(chain_of(P).P.toarray()).real), rel=1e-12)


def test_gain_and_period() -> None:
    """A ring of three with 1/2, 1/2, 1/4 has the gain (1/16)^(1/3); what is closed keeps; fan-out grows."""
    chain = chain_of({"a": {"b": 0.5}, "b": {"c": 0.5}, "c": {"a": 0.25}}, "a")
    [loop] = loops(chain).loops
    assert loop.gain == pytest.approx((1 / 16) ** (1 / 3), rel=1e-13)
    assert (loop.effect, loop.period) == ("dampens", 3)
    assert loop.gain_bound < 1e-12
    [closed] = loops(chain_of({"a": {"b": 1}, "b": {"a": 1}})).loops
    assert (closed.gain, closed.effect, closed.period) == (1, "keeps", 2)
    [nearly] = loops(chain_of({"a": {"b": 1}, "b": {"a": 1, END: 1e-30}})).loops
    assert nearly.effect == "dampens"
    assert "gain just below 1, dampens" in loop_sentence(nearly)


def test_a_storm_is_told_by_its_gain() -> None:
    """Half of the events at a send two messages to a, the others none: 1 message an event; with three, 3/2."""
    for times, value, effect in ((2, 1.0, "keeps"), (3, 1.5, "grows"), (1, 0.5, "dampens")):
        sent = f"a*{times}" if times > 1 else "a"
        [loop] = loops(estimate(Counts({("a", sent): 5, ("a", ""): 5}, {"a": 10}), prior=0)).loops
        assert (loop.gain, loop.effect, loop.again) == (value, effect, 0.5)
    graph = parse_graph("a -> b; b -> a")
    chain = estimate(Counts({("a", "b*2"): 3, ("b", "a"): 6, ("a", ""): 1}, {"a": 1}), graph, prior=1)
    # a: (3 2 + 1) / 5 messages to b; b: 7/7 to a.
    assert loops(chain).loops[0].gain == pytest.approx(np.sqrt(7 / 5), rel=1e-13)


def test_time_spent() -> None:
    """a takes 2 s to itself, 1 s on: two visits, of which one goes round."""
    chain = chain_of({"a": {"a": 0.5, "b": 0.5}, "b": {}}, "a")
    [loop] = loops(chain, latencies={("a", "a"): (2, 0), ("a", "b"): (1, 0), ("b", END): (9, 0)}).loops
    assert loop.time == pytest.approx(3, rel=1e-14)
    assert abs(loop.time - 3) <= loop.time_bound < 1e-12
    assert "takes 3 s of a run on average" in loop_sentence(loop)
    assert loops(chain).loops[0].time is None
    assert "no latencies" in loops(chain).timeless
    with pytest.raises(AnalysisError, match="no latency is known"):
        loops(chain, latencies={("a", "a"): (2, 0)})


def test_cycles_inside() -> None:
    outer, inner = loops(chain_of({"a": {"b": 1}, "b": {"b": 0.25, "a": 0.5}}, "a"), cycles=2).loops
    assert [(c.name, c.probability) for c in outer.cycles] == [("a -> b -> a", 0.5), ("b -> b", 0.25)]
    assert [(c.name, c.traversals) for c in inner.cycles] == [("b -> b", pytest.approx(1 / 3))]
    assert outer.inner == "a -> b -> a"
    assert loops(shop(), cycles=0).loops[0].cycles == ()


def test_the_sentence() -> None:
    graph = parse_graph(
        "in -> payment @0.5; payment/retry -> payment @0.2; payment -> ship @0.7; payment -> rejected @0.1"
    )
    [loop] = loops(estimate(Counts(), graph)).loops
    assert loop_sentence(loop) == (
        "payment -> payment (self-injection, key `retry`): entered in 10.0% of runs, 1.25 rounds on average; "
        "leaves to ship 87.5%, to rejected 12.5%; carries 29.4% of all events; gain 0.2, dampens."
    )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("way", ["visits", "eliminated", "solved", "sparse"])
def test_exact_numbers_lie_within_the_bounds(monkeypatch: pytest.MonkeyPatch, seed: int, way: str) -> None:
    if way != "visits":
        # Nothing is taken from the visits.
        monkeypatch.setattr(rounds_of, "CLOSE", -1.0)
    if way in ("solved", "sparse"):
        monkeypatch.setattr(rounds_of, "DENSE", 0)
    if way == "sparse":
        monkeypatch.setattr(solve, "DENSE", 1)
    rng = np.random.default_rng(seed)
    described = 0
    for _ in range(40):
        chain = dyadic(rng)
        keep, matrix = transient(chain)
        try:
            found = loops(chain, cycles=0)
        except AnalysisError:
            assert way == "sparse"
            continue
        P = [[Fraction(float(p)) for p in row] for row in chain.P.toarray()]
        law = [Fraction(float(p)) for p in chain.start]
        visits = solution([list(row) for row in zip(*matrix, strict=True)], [law[i] for i in keep]) if keep else []
        for loop in found.loops:
            inside = [chain.index[name] for name in loop.nodes]
            if not set(inside) <= set(keep):
                continue
            described += 1
            h, body = inside[0], inside[1:]
            x = solution([[(i == j) - P[i][j] for j in body] for i in body], [P[i][h] for i in body]) if body else []
            again = P[h][h] + sum(P[h][i] * p for i, p in zip(body, x, strict=True))
            within(loop.again, loop.again_bound, again)
            within(loop.rounds_per_arrival, loop.rounds_per_arrival_bound, again / (1 - again))
            k = keep.index(h)
            Nhh = solution(matrix, [int(i == k) for i in range(len(keep))])[k]
            within(loop.rounds, loop.rounds_bound, 1 + again * Nhh)
            reach = visits[k] / Nhh
            within(loop.entered, loop.entered_bound, reach * again / (1 / Nhh + again))
            events = sum(visits[keep.index(i)] for i in inside)
            within(loop.events, loop.events_bound, events)
            if len(keep) == len(chain.names):
                within(loop.share, loop.share_bound, events / sum(visits))
            arrivals = {
                i: law[i] + sum(visits[keep.index(j)] * P[j][i] for j in keep if j not in inside) for i in inside
            }
            if sum(arrivals.values()):
                for e in loop.exits:
                    i = chain.index[e.source]
                    p = Fraction(float(chain.stop[i])) if e.target == END else P[i][chain.index[e.target]]
                    within(e.probability, e.error_bound, visits[keep.index(i)] * p / sum(arrivals.values()))
                within(loop.events_per_entry, loop.events_per_entry_bound, events / sum(arrivals.values()))
    assert described > 20


def within(value: float, bound: float, expected: Fraction) -> None:
    assert abs(Fraction(value) - expected) <= Fraction(bound), (value, bound, float(expected))


def test_a_large_class_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line of 1,600 nodes with ways back: the outermost loop is all of it."""
    monkeypatch.setattr(loop_found, "NESTED", 10)
    n = 1600
    rows = np.arange(n)
    P = sparse.csr_array(
        (
            np.concatenate([np.full(n - 1, 0.5), np.full(n - 1, 0.25)]),
            (np.r_[rows[:-1], rows[1:]], np.r_[rows[1:], rows[:-1]]),
        ),
        shape=(n, n),
    )
    chain = Chain.from_matrix(P, start="0", stop=1 - P.sum(axis=1))
    found = loops(chain)
    assert 1 < len(found.loops) <= 12
    assert "Not described: at least" in str(found)
    outer = found.loops[0]
    assert len(outer.nodes) == n
    # x = 1/4 + x^2/2 from each node on: x = 1 - 1/sqrt 2, and from the first there is no way but on.
    assert outer.again == pytest.approx(0.5 * (1 - np.sqrt(0.5)), rel=1e-9)
    assert abs(outer.again - 0.5 * (1 - np.sqrt(0.5))) <= outer.again_bound + 1e-15
    assert outer.gain == pytest.approx(2 * np.sqrt(0.125) * np.cos(np.pi / (n + 1)), abs=outer.gain_bound)


def test_many_loops_take_little_time() -> None:
    n = 1000
    rows = np.arange(n)
    P = sparse.csr_array(
        (np.r_[np.full(n, 0.25), np.full(n - 1, 0.5)], (np.r_[rows, rows[:-1]], np.r_[rows, rows[1:]])), shape=(n, n)
    )
    found = loops(Chain.from_matrix(P, start="0", stop=1 - P.sum(axis=1)))
    assert len(found.loops) == n
    assert found.loops[5].again == 0.25


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


@settings(max_examples=150)
@given(chains())
def test_loops_equal_brute_force(chain: Chain) -> None:
    found = loops(chain, cycles=0)
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


@settings(max_examples=100)
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


@settings(max_examples=100)
@given(chains(traps=True), st.randoms(use_true_random=False))
def test_order_and_names_change_nothing(chain: Chain, random: Random) -> None:
    """Names keep their alphabetical order here: it decides between entries that are used alike."""
    order = list(range(len(chain.names)))
    random.shuffle(order)
    names = dict(zip(sorted(LETTERS), "UVWXYZ", strict=True))
    expected, other = by_nodes(loops(chain, cycles=0)), by_nodes(loops(relabelled(chain, order, names), cycles=0))
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
        events = inside[runs.steps].sum(axis=0)
        assert mean_agrees(events, loop.events)
        assert mean_agrees(events - loop.share * (runs.steps >= 0).sum(axis=0), 0)
        was = np.vstack([np.zeros((1, runs.runs), bool), inside[runs.steps[:-1]]])
        come_in = inside[runs.steps] & ~was
        assert mean_agrees(events - loop.events_per_entry * come_in.sum(axis=0), 0)
        header = runs.steps == runs.chain.index[loop.header]
        # A visit of the header is a round or not one; the next is a round with `again`.
        assert share_agrees(counted.sum(), header.sum(), loop.again)
        assert mean_agrees(counted - loop.rounds_per_arrival * (header.sum(axis=0) - counted), 0)
        into = [name for name in loop.nodes if (come_in & (runs.steps == runs.chain.index[name])).any()]
        assert set(into) == set(loop.entries)


def test_results_show_themselves() -> None:
    for result in (loops(shop()), loops(pit()), Loops(())):
        assert str(result).startswith("Loops")
        assert list(result.frame().columns) == list(result.columns)
        assert len(result.frame()) == len(result.loops)
        assert "<table>" in result._repr_html_()
        json.dumps(result.to_dict(), allow_nan=False)
    assert "There is no loop" in str(loops(chain_of({"a": {"b": 1}, "b": {}})))
