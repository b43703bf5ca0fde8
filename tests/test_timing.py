import json
from fractions import Fraction
from math import inf, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowstat.analyze import solve
from flowstat.analyze.arrow_times import Latencies, read_latencies
from flowstat.analyze.timing import OutcomeTime, Timing, timing
from flowstat.errors import AnalysisError, ChainError
from flowstat.estimate.chain import END, Chain, estimate
from flowstat.estimate.counting import count
from flowstat.estimate.counts import Counts
from flowstat.estimate.counts_file import format_counts, parse_counts
from flowstat.estimate.latency import Latency
from flowstat.read.files import parse_graph
from flowstat.read.traces import read_traces
from tests.oracles import LETTERS, chain_of, chains, mean_agrees, pit, relabelled, shop, traps_of
from tests.strategies import event, write_json_lines
from tests.test_bounds import dyadic, solution, transient

SECOND = 1_000_000_000


def lasting(chain: Chain, seed: int = 0) -> Latencies:
    """Return latencies of all pairs with whole means and deviations, some of them 0."""
    draw = np.random.default_rng(seed)
    names = sorted(chain.names)
    pairs = [(a, b) for a in names for b in [*names, END]]
    means = draw.integers(0, 4, len(pairs)).tolist()
    return {pair: (float(m), float(draw.integers(0, 3)) if m else 0.0) for pair, m in zip(pairs, means, strict=True)}


def by_name(found: Timing) -> dict[str, OutcomeTime]:
    return {o.outcome: o for o in found.outcomes}


def test_a_sequence_adds_up() -> None:
    chain = chain_of({"a": {"b": 1}, "b": {"c": 1}, "c": {}})
    found = timing(chain, latencies={("a", "b"): (1.0, 3.0), ("b", "c"): (2.0, 4.0), ("c", END): (0.5, 12.0)})
    assert (found.mean, found.sd) == (3.5, 13.0)
    assert found.last_event
    assert "to its end" in str(found)
    assert [(o.outcome, o.kind, o.probability) for o in found.outcomes] == [(END, "end", 1.0), ("c", "stop", 1.0)]


@pytest.mark.parametrize("p", [Fraction(1, 10), Fraction(1, 2), Fraction(99, 100)])
def test_a_retry_loop(p: Fraction) -> None:
    """N tries are geometric: with latencies of mean m and variance s^2, E T = m E N, Var T = s^2 E N + m^2 Var N."""
    chain = chain_of({"try": {"try": p, "ok": (1 - p) / 2}, "ok": {}})
    known = {("try", "try"): (3.0, 2.0), ("try", "ok"): (0.0, 0.0)}
    again = float(p / (1 - p))
    for outcome in timing(chain, latencies=known).outcomes:
        assert outcome.mean == pytest.approx(3 * again, rel=1e-14)
        assert outcome.sd == pytest.approx(sqrt(4 * again + 9 * float(p) / float(1 - p) ** 2), rel=1e-13)
        assert outcome.error_bound < 1e-11 * outcome.mean
        assert outcome.sd_bound < 1e-11 * outcome.sd


def test_outcomes_have_their_own_times() -> None:
    """A run that is declined has waited 5 s, one that is shipped 1 s: together 0.9 + 0.5, deviation 4 sqrt(0.09)."""
    chain = chain_of({"pay": {"ship": Fraction(9, 10), "declined": Fraction(1, 10)}, "ship": {}, "declined": {}})
    found = timing(chain, latencies={("pay", "ship"): (1.0, 0.0), ("pay", "declined"): (5.0, 0.0)})
    assert [(o.outcome, o.mean, o.sd) for o in found.outcomes[1:]] == [("ship", 1, 0), ("declined", 5, 0)]
    assert (found.mean, found.sd) == (pytest.approx(1.4, rel=1e-14), pytest.approx(1.2, rel=1e-14))


def test_a_trap_takes_the_time_until_it_is_come_to() -> None:
    chain = chain_of({"a": {"b": 0.5, "stuck": 0.25}, "b": {"c": 1}, "c": {"b": 1}, "stuck": {"stuck": 1}}, "a")
    found = timing(chain, latencies={("a", "b"): (2.0, 1.0), ("a", "stuck"): (7.0, 0.5)})
    assert {o.outcome: (o.kind, o.probability, o.mean, o.sd) for o in found.outcomes} == {
        END: ("end", 0.25, 0, 0),
        "a": ("stop", 0.25, 0, 0),
        "{b, c}": ("trap", 0.5, 2, 1),
        "stuck": ("trap", 0.25, 7, 0.5),
    }
    assert (found.mean, found.sd) == (inf, inf)
    assert "0.75" in str(found)
    inside = timing(chain, "b")
    assert [(o.outcome, o.mean) for o in inside.outcomes] == [("{b, c}", 0)]
    assert inside.mean == inf
    json.dumps(found.to_dict(), allow_nan=False)


def exact_times(chain: Chain, known: Latencies) -> dict[str, tuple[Fraction, Fraction, Fraction]]:
    """Return chance, mean and variance by outcome in fractions, by the first and second moments of the time."""
    keep, matrix = transient(chain)
    n = len(chain.names)
    P = [[Fraction(float(x)) for x in row] for row in chain.P.toarray()]
    law, stop = [Fraction(float(x)) for x in chain.start], [Fraction(float(x)) for x in chain.stop]
    mean = [[Fraction(known[a, b][0]) for b in [*chain.names, END]] for a in chain.names]
    square = [[Fraction(known[a, b][1]) ** 2 + Fraction(known[a, b][0]) ** 2 for b in [*chain.names, END]]
              for a in chain.names]  # fmt: skip
    traps = [sorted(trap) for trap in traps_of(chain)]
    ends = {END: keep} | {chain.names[i]: [i] for i in keep}
    ends |= {t[0] if len(t) == 1 else "{" + ", ".join(chain.names[i] for i in sorted(map(chain.index.get, t))) + "}": t
             for t in traps}  # fmt: skip
    found = {}
    for name, states in ends.items():
        trap = isinstance(states[0], str) if states else False
        inside = [chain.index[i] for i in states] if trap else []
        worth = [[Fraction(0)] * n for _ in range(3)]
        for i in inside:
            worth[0][i] = Fraction(1)
        last = [stop[i] if not trap and i in states else Fraction(0) for i in range(n)]
        for order in range(3):
            right = []
            for i in keep:
                gain = sum(P[i][j] * worth[order][j] for j in inside)
                for j in range(n):
                    lower = (
                        [],
                        [(mean[i][j], worth[0][j])],
                        [(square[i][j], worth[0][j]), (2 * mean[i][j], worth[1][j])],
                    )[order]
                    gain += P[i][j] * sum(a * b for a, b in lower)
                right.append(gain + last[i] * (1, mean[i][n], square[i][n])[order])
            for i, value in zip(keep, solution(matrix, right), strict=True):
                worth[order][i] = value
        chance, first, second = (sum(law[i] * w[i] for i in range(n)) for w in worth)
        if chance:
            found[name] = chance, first / chance, second / chance - (first / chance) ** 2
    return found


def holds(value: float, bound: float, right: Fraction) -> bool:
    return abs(Fraction(value) - right) <= Fraction(bound)


@pytest.mark.parametrize("largest", [1500, 1])
def test_exact_times_lie_within_the_bounds(monkeypatch: pytest.MonkeyPatch, largest: int) -> None:
    monkeypatch.setattr(solve, "DENSE", largest)
    draw = np.random.default_rng(largest)
    compared = 0
    for seed in range(150 if largest > 1 else 60):
        chain = dyadic(draw)
        known = lasting(chain, seed)
        right = exact_times(chain, known)
        try:
            found = timing(chain, latencies=known)
        except AnalysisError:
            assert largest == 1
            continue
        assert {o.outcome for o in found.outcomes} <= set(right)
        assert found.left_out == 0
        for o in found.outcomes:
            chance, mean, variance = right[o.outcome]
            assert holds(o.probability, o.probability_bound, chance)
            assert holds(o.mean, o.error_bound, mean)
            low = max(Fraction(0), Fraction(o.sd) - Fraction(o.sd_bound))
            assert low**2 <= variance <= (Fraction(o.sd) + Fraction(o.sd_bound)) ** 2
            compared += 1
    assert compared > 100


@given(chains(traps=True), st.integers(0, 5), st.permutations(range(5)))
@settings(max_examples=60)
def test_times_are_those_of_fractions_whatever_the_names(chain: Chain, seed: int, order: list[int]) -> None:
    known = lasting(chain, seed)
    found = timing(chain, latencies=known)
    right = exact_times(chain, known)
    for o in found.outcomes:
        chance, mean, variance = map(float, right[o.outcome])
        assert o.probability == pytest.approx(chance, rel=1e-12)
        assert o.mean == pytest.approx(mean, rel=1e-10, abs=1e-13)
        assert o.sd == pytest.approx(sqrt(max(0.0, variance)), rel=1e-9, abs=1e-6)
    order = [i for i in order if i < len(chain.names)]
    names = dict(zip(chain.names, sorted(LETTERS[: len(chain.names)].upper()), strict=True))
    renamed = {(names[a], names.get(b, b)): value for (a, b), value in known.items()}
    other = timing(relabelled(chain, order, names), latencies=renamed)
    wanted = sorted((o.kind, o.probability, o.mean) for o in found.outcomes)
    assert [x for o in sorted((o.kind, o.probability, o.mean) for o in other.outcomes) for x in o[1:]] == pytest.approx(
        [x for o in wanted for x in o[1:]]
    )


@pytest.mark.parametrize("chain", [shop(), pit()])
def test_simulated_runs_take_as_long(chain: Chain) -> None:
    known = {pair: (m + 0.5, s + 0.25) for pair, (m, s) in lasting(chain, 3).items()}
    found = by_name(timing(chain, latencies=known))
    draw = np.random.default_rng(11)
    runs, n = 40_000, len(chain.names)
    trapped = np.isin(chain.names, list(frozenset().union(*traps_of(chain))))
    table = np.array([[known[a, b] for b in [*chain.names, END]] for a in chain.names])
    ways = np.cumsum(np.hstack([chain.P.toarray(), chain.stop[:, None]]), axis=1)
    now, time = draw.choice(n, runs, p=chain.start), np.zeros(runs)
    end = np.where(trapped[now], now, -1)
    alive = np.flatnonzero(end < 0)
    while len(alive):
        onward = (draw.random(len(alive))[:, None] >= ways[now[alive], :n]).sum(axis=1)
        mean, deviation = table[now[alive], onward].T
        time[alive] += draw.gamma((mean / deviation) ** 2, deviation**2 / mean)
        stops = onward == n
        end[alive[stops]] = now[alive[stops]]
        now[alive[~stops]] = onward[~stops]
        inside = alive[~stops][trapped[onward[~stops]]]
        end[inside] = now[inside]
        alive = np.flatnonzero(end < 0)
    for o in found.values():
        if o.kind != "end" and o.probability > 0.01:
            took = time[np.isin(end, [chain.index[i] for i in o.nodes])]
            assert mean_agrees(took, o.mean)
            assert mean_agrees((took - o.mean) ** 2, o.sd**2)


def test_recorded_latencies_come_with_the_counts(tmp_path) -> None:
    """Two runs: a sends b after 1 and 3 s; b sends a self-message after 2 s in one of them."""
    rows = [
        event(1, 1, "a", sent="b", started_at=0),
        event(1, 2, "b", parent_id=1, parent="a", started_at=1 * SECOND),
        event(2, 1, "a", sent="b", started_at=0),
        event(2, 2, "b", parent_id=1, parent="a", sent="b", started_at=3 * SECOND),
        event(2, 3, "b", parent_id=2, parent="b", started_at=5 * SECOND),
    ]
    traces = read_traces(write_json_lines(tmp_path / "t.jsonl", rows))
    counts = count(traces, latencies=True)
    counts = parse_counts(format_counts(counts)) + Counts()
    found = timing(estimate(counts))
    assert found.mean == pytest.approx(2 + 2 * 0.5)
    assert found.sd == pytest.approx(sqrt(1 + 4 * 0.75))
    assert timing(estimate(counts), latencies={("a", "b"): (0.0, 0.0)}).mean == pytest.approx(1)
    with pytest.raises(AnalysisError, match="flowstat count --latencies"):
        timing(estimate(count(traces)))
    graph = parse_graph("a -> b -> c; b -> b;")
    with pytest.raises(AnalysisError, match=r"b -> c: no message was seen there, .* prior 0"):
        timing(estimate(counts, graph))
    assert timing(estimate(counts, graph, prior=0)).mean == pytest.approx(3)


def test_latencies_that_are_none() -> None:
    chain = chain_of({"a": {"a": 0.5, "b": 0.25}, "b": {}})
    ok = {("a", "a"): (1.0, 0.0), ("a", "b"): (1.0, 0.0)}
    for wrong, said in [
        ({("a", "a"): (1.0, 0.0)}, "a -> b: state them as"),
        (ok | {("a", "z"): (1.0, 0.0)}, "no node is called 'z'"),
        (ok | {(END, "a"): (1.0, 0.0)}, "no node is called"),
        (ok | {(END, END): (1.0, 0.0)}, "no node is called"),
        (ok | {("a", "b"): (1e300, 0.0)}, "in another unit of time"),
        (ok | {("a", "b"): (1.0, 1e300)}, "in another unit of time"),
        (ok | {("a", "b"): (1e-310, 0.0)}, "in another unit of time"),
        (ok | {("a", "b"): (-1.0, 0.0)}, "at least 0"),
        (ok | {("a", "b"): (1.0, inf)}, "at least 0"),
        (ok | {("a", "b"): (0.0, 1.0)}, "no standard deviation but 0"),
        (ok | {("a", "b"): 3.0}, "mean, standard deviation"),
        (ok | {("a", "b"): ("x", 1)}, "mean, standard deviation"),
        (ok | {("a", "b"): Latency()}, "no message at all"),
        (ok | {"ab1": (1.0, 0.0)}, "source, target"),
    ]:
        with pytest.raises(AnalysisError, match=said):
            timing(chain, latencies=wrong)
    with pytest.raises(ChainError, match="no node is called"):
        timing(chain, "z", latencies=ok)
    # Pairs that no run takes need none.
    assert timing(chain, "b").mean == 0


def test_extreme_chains() -> None:
    one = Chain.from_matrix([[0]], ["only"], stop=[1])
    assert [(o.outcome, o.mean, o.sd) for o in timing(one).outcomes] == [(END, 0, 0), ("only", 0, 0)]
    endless = Chain.from_matrix([[1]], ["only"])
    assert [(o.kind, o.mean) for o in timing(endless).outcomes] == [("trap", 0)]
    slow = Chain.from_matrix([[1 - 1e-17]], ["a"], stop=[1e-200])
    found = timing(slow, latencies={("a", "a"): (3.0, 1.0)})
    assert found.mean == pytest.approx(3e200, rel=1e-13)
    assert found.sd == pytest.approx(3e200, rel=1e-13)
    assert found.outcomes[0].sd_bound < 1e-12 * found.sd
    rare = Chain.from_matrix([[0.5, 1e-300], [0, 0]], ["a", "b"], "a", stop=[0.5, 1])
    found = timing(rare, latencies={("a", "a"): (1.0, 0.0), ("a", "b"): (9.0, 2.0)})
    assert by_name(found)["b"].mean == pytest.approx(10, rel=1e-12)
    assert by_name(found)["b"].sd == pytest.approx(sqrt(4 + 2), rel=1e-12)
    with pytest.raises(AnalysisError, match="can't be told from never"):
        timing(Chain.from_matrix([[1.0]], ["a"], stop=[1e-300]), latencies={("a", "a"): (1.0, 0.0)})


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("unit", [1e250, 1e200, 1e-200, 1e-250])
def test_times_of_any_size(unit: float) -> None:
    """A retry that takes as long as every run of it: geometrically many exponential times."""
    known = {("try", "try"): (unit, unit), ("try", "done"): (unit, unit)}
    retry = Chain.from_matrix([[0.5, 0.5], [0, 0]], ["try", "done"], "try", stop=[0, 1])
    for found in timing(retry, latencies=known).outcomes:
        assert abs(found.mean - 2 * unit) <= found.error_bound < 1e-13 * unit
        assert abs(found.sd - 2 * unit) <= found.sd_bound < 1e-13 * unit


@pytest.mark.filterwarnings("error")
def test_times_of_very_different_sizes() -> None:
    fork = Chain.from_matrix([[0, 0.5, 0.5], [0] * 3, [0] * 3], ["a", "b", "c"], "a", stop=[0, 1, 1])
    found = by_name(timing(fork, latencies={("a", "b"): (1e-200, 5e-201), ("a", "c"): (1e200, 5e199)}))
    assert (found["b"].mean, found["b"].sd) == (pytest.approx(1e-200), pytest.approx(5e-201))
    assert (found["c"].mean, found["c"].sd) == (pytest.approx(1e200), pytest.approx(5e199))
    wide = timing(fork, latencies={("a", "b"): (1e-240, 1e240), ("a", "c"): (1e-240, 1e240)})
    assert (wide.mean, wide.sd) == (pytest.approx(1e-240), pytest.approx(1e240))
    slow = Chain.from_matrix([[1 - 1e-17]], ["a"], stop=[1e-200])
    with pytest.raises(AnalysisError, match="longer than any number"):
        timing(slow, latencies={("a", "a"): (1e200, 0.0)})


def test_the_two_that_hand_each_other_the_run() -> None:
    """Exits 3e-13 and 1e-13: 5e12 steps of 2 s on average, and the deviation is as long."""
    chain = chain_of({"a": {"b": 1, END: 3e-13}, "b": {"a": 1, END: 1e-13}}, "a")
    found = timing(chain, latencies={("a", "b"): (2.0, 0.0), ("b", "a"): (2.0, 0.0)})
    assert found.mean == pytest.approx(1e13, rel=1e-11)
    assert found.sd == pytest.approx(1e13, rel=1e-11)
    assert found.outcomes[0].sd_bound < 1e-11 * found.sd
    assert by_name(found)["a"].probability == pytest.approx(0.75, rel=1e-12)


def test_only_the_most_probable_outcomes_are_listed() -> None:
    n = 30
    chain = chain_of({"s": {f"n{k}": Fraction(k, n * (n + 1) // 2) for k in range(1, n + 1)}} | {
        f"n{k}": {} for k in range(1, n + 1)
    })  # fmt: skip
    known = {("s", f"n{k}"): (float(k), 0.0) for k in range(1, n + 1)}
    found = timing(chain, latencies=known, top=2)
    assert [o.outcome for o in found.outcomes] == [END, "n30", "n29"]
    assert found.left_out == 28
    assert "28 less probable outcomes" in str(found)
    assert [o.outcome for o in timing(chain, latencies=known, top=0).outcomes] == [END]
    assert timing(chain, latencies=known).mean == pytest.approx((2 * n + 1) / 3)


def test_latencies_in_words() -> None:
    chain = Chain.from_matrix([[0, 1], [0, 0]], ["a->b", "c"], "a->b", stop=[0, 1])
    found = read_latencies(chain, ["a->b -> c = 0.5,0.25", '"c" -> (end)=1e-3'])
    assert found == {("a->b", "c"): (0.5, 0.25), ("c", END): (0.001, 0.0)}
    assert timing(chain, latencies=found).mean == pytest.approx(0.501)
    for wrong in ("a->b -> c", "a->b -> c=x", "a->b -> c=1,y", "a->b -> z=1", "c=1", "a->b -> c=-1", "a->b -> c=nan"):
        with pytest.raises(AnalysisError, match=r"a->b -> c|is no latency"):
            read_latencies(chain, [wrong])
