from collections import Counter, defaultdict
from fractions import Fraction
from itertools import pairwise
from math import comb, exp, inf, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse, special

from flowstat.analyze.durations import Durations, durations, time_law
from flowstat.analyze.lattice import Lattice
from flowstat.analyze.solve import Solver
from flowstat.analyze.timed import Timed
from flowstat.analyze.timing import timing
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import END, Chain
from flowstat.estimate.latency import Latency
from tests.oracles import chain_of, chains, pit, shop
from tests.test_timing import lasting

EXPONENTIAL = {("try", "try"): (1.0, 1.0), ("try", "done"): (1.0, 1.0)}


def retry(p: float) -> Chain:
    return Chain.from_matrix([[p, 1 - p], [0, 0]], ["try", "done"], "try", stop=[0, 1])


def answers(found: Durations, outcome: str = END, kind: str = "quantile") -> dict[float, tuple[float, float]]:
    return {d.at: (d.low, d.high) for d in found.durations if (d.outcome, d.kind) == (outcome, kind)}


@pytest.mark.parametrize("p", [0.0, 0.5, 0.9])
def test_geometrically_many_exponential_times_are_exponential(p: float) -> None:
    """With chance p of another try of mean 1 the time is exponential with mean 1 / (1 - p)."""
    found = durations(retry(p), latencies=EXPONENTIAL, quantiles=(0.01, 0.5, 0.9, 0.99, 0.9999), within=(0.5, 3.0))
    mean = 1 / (1 - p)
    for at, (low, high) in answers(found).items():
        right = -mean * log(1 - at)
        assert low <= right <= high
        assert high - low < 0.02 * mean * -log(1 - 0.9999)
    for at, (low, high) in answers(found, kind="within").items():
        assert low <= 1 - exp(-at / mean) <= high
        assert high - low < 0.002
    assert "gamma" in str(found)


def test_a_sum_of_gamma_times_is_one() -> None:
    names = list("abcd")
    P = np.diag([1.0, 1.0, 1.0], 1)
    chain = Chain.from_matrix(P, names, "a", stop=[0, 0, 0, 1])
    known = dict.fromkeys(pairwise(names), (2.0, 2.0 / 2**0.5))
    law = time_law(chain, latencies=known, points=50)
    right = special.gammainc(6, np.array(law.times))
    assert (law.low <= right).all()
    assert (right <= law.high).all()
    assert law.error_bound < 2e-3
    assert law.rows()[-1]["probability"] == pytest.approx(0.999, abs=3e-3)
    assert law.times[-1] < 40


def walked(chain: Chain, hops: dict[tuple[str, str], dict[int, float]], horizon: int) -> dict[str, list[float]]:
    """Return for every outcome the chance to have come to it by each whole time, played out time by time.

    A trap is named as its first node; hops of no time are played until no mass is left of them.
    """
    traps = {i for states in Solver(chain.P, chain.stop).closed for i in states.tolist()}
    mass: dict[tuple[int, int], float] = defaultdict(float)
    done: dict[str, list[float]] = defaultdict(lambda: [0.0] * (horizon + 1))
    for i, p in enumerate(chain.start.tolist()):
        if p:
            mass[0, i] += p
    P = chain.P.toarray()
    for now in range(horizon + 1):
        while any(t == now and m > 1e-18 for (t, _), m in mass.items()):
            for t, i in [key for key in mass if key[0] == now]:
                m = mass.pop((t, i))
                if i in traps:
                    done[chain.names[i]][now] += m
                    continue
                for j in [*np.flatnonzero(P[i]).tolist(), None]:
                    share = chain.stop[i] if j is None else P[i, j]
                    pair = (chain.names[i], END if j is None else chain.names[j])
                    for s, p in hops[pair].items() if share else ():
                        if now + s > horizon:
                            continue
                        if j is None:
                            done[chain.names[i]][now + s] += m * share * p
                        else:
                            mass[now + s, j] += m * share * p
    return {name: np.cumsum(parts).tolist() for name, parts in done.items()}


@given(chains(traps=True), st.integers(0, 9))
@settings(max_examples=40)
def test_whole_times_played_out_lie_between(chain: Chain, seed: int) -> None:
    known = {pair: (mean, 0.0) for pair, (mean, _) in lasting(chain, seed).items()}
    right = walked(chain, {pair: {int(mean): 1.0} for pair, (mean, _) in known.items()}, 12)
    outcomes = timing(chain, latencies=known).outcomes
    for o in outcomes:
        law = time_law(chain, o.outcome, latencies=known, until=12.5, points=25, cells=1024)
        parts = [name for name in right if (name in o.nodes if o.kind != "end" else chain.stop[chain.index[name]] > 0)]
        for t, low, high in zip(law.times, law.low, law.high, strict=True):
            exact = sum(right[name][int(t)] for name in parts)
            assert low - 1e-12 <= exact <= high + 1e-12
            if t != int(t):
                # A grid that is fine enough leaves no doubt about whole times.
                assert high - low < 1e-4


def test_recorded_latencies_are_bracketed_by_their_sketch() -> None:
    """Runs draw from the recorded latencies; the sketch knows them within 2 %, and so do the bounds."""
    draw = np.random.default_rng(5)
    first = draw.integers(10**6, 10**9, 40).tolist()
    second = [7 * 10**8] * 3
    chain = chain_of({"a": {"b": 0.75, "c": 0.25}, "b": {"c": 1}, "c": {}})
    known = {("a", "b"): Latency.of(first), ("b", "c"): Latency.of(second), ("a", "c"): Latency.of([0, 1])}
    times = [(f + 7 * 10**8) * 1e-9 for f in first for _ in range(3)] + [0.0, 1e-9] * 20
    found = durations(chain, latencies=known, quantiles=(0.2, 0.6, 0.9), within=(1.2,))
    for at, (low, high) in answers(found).items():
        right = float(np.quantile(times, at, method="inverted_cdf"))
        assert low <= right <= high + 1e-12
        assert high - low < 0.025 * high + 2e-3
    ((low, high),) = answers(found, kind="within").values()
    assert low <= np.mean(np.array(times) <= 1.2) <= high
    assert "gamma" not in str(found)


def test_a_rare_outcome_has_its_own_law() -> None:
    """Its bound is relative to its chance: 1e-9 of the runs go through b, for an exponential time of mean 3."""
    chain = chain_of({"a": {"b": 1e-9, "c": 0.5}, "b": {}, "c": {}})
    known = {("a", "b"): (3.0, 3.0), ("a", "c"): (0.25, 0.0)}
    found = durations(chain, latencies=known, quantiles=(0.5, 0.9))
    for at, (low, high) in answers(found, "b").items():
        assert low <= -3 * log(1 - at) <= high
        assert high - low < 0.02
    half = answers(found)[0.5]
    assert half[0] <= 0 <= half[1]


@pytest.mark.parametrize("chain", [shop(), pit()])
def test_the_mean_of_the_law_is_that_of_timing(chain: Chain) -> None:
    """The integral of 1 - F lies between those of the bounds."""
    known = lasting(chain, 2)
    for o in timing(chain, latencies=known, top=3).outcomes:
        if o.mean == 0:
            continue
        until = o.mean + 40 * o.sd
        law = time_law(chain, o.outcome, latencies=known, until=until, points=400)
        width = until / 400
        low = sum(o.probability - h for h in law.high) * width
        high = sum(o.probability - x for x in (0.0, *law.low[:-1])) * width
        assert low / o.probability - 1e-3 <= o.mean <= high / o.probability + 1e-3


def test_two_grids_agree() -> None:
    known = lasting(shop(), 1)
    coarse, fine = (durations(shop(), latencies=known, within=(5.0,), cells=c) for c in (1024, 16384))
    for a, b in zip(coarse.durations, fine.durations, strict=True):
        assert a.low <= b.high
        assert b.low <= a.high
        assert b.error_bound <= a.error_bound + 1e-9
    assert fine.error_bound < coarse.error_bound


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("mean", "sd"),
    [(1, 1e-5), (1, 1e-7), (1, 1.1e-8), (1, 1e-8), (1, 1e-9), (1, 1e-160), (1e200, 1e200), (1e-200, 2e-200), (2, 300)],
)
def test_gamma_times_of_any_width_lie_between(mean: float, sd: float) -> None:
    once = Chain.from_matrix([[0, 1], [0, 0]], ["ask", "done"], "ask", stop=[0, 1])
    asked = {"quantiles": (0.01, 0.5, 0.99), "within": (0.5 * mean, mean, 1.5 * mean)}
    found = durations(once, latencies={("ask", "done"): (mean, sd)}, top=0, **asked)
    if sd < 1e-100 * mean:
        times, chances = dict.fromkeys((0.01, 0.5, 0.99), mean), dict(zip(asked["within"], (0, 0.5, 1), strict=True))
    else:
        shape = (mean / sd) ** 2
        times = {p: mean / shape * float(special.gammaincinv(shape, p)) for p in asked["quantiles"]}
        chances = {t: float(special.gammainc(shape, shape * (t / mean))) for t in asked["within"]}
    for at, (low, high) in answers(found).items():
        assert low <= times[at] <= high
        # The grid's: to a law with a long tail it is coarse.
        assert high - low < 0.002 * mean or sd > mean
    for at, (low, high) in answers(found, kind="within").items():
        assert low <= chances[at] <= high


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("spread", [1e160, 1e200])
def test_a_law_all_but_at_zero(spread: float) -> None:
    """Of so wide a gamma law next to nothing is away from 0, and there it is very far."""
    found = durations(retry(0.5), latencies=dict.fromkeys(EXPONENTIAL, (1.0, spread)), within=(1.5,), top=0)
    low, high = answers(found, kind="within")[1.5]
    assert 1 - 1e-5 < low <= high == 1


def test_no_time_at_all() -> None:
    known = {("try", "try"): (0.0, 0.0), ("try", "done"): (0.0, 0.0)}
    found = durations(retry(0.5), latencies=known, within=(1.0,))
    assert all(d.low == d.high == 0 for d in found.durations if d.kind == "quantile")
    assert all(d.low == pytest.approx(1, abs=1e-5) for d in found.durations if d.kind == "within")


def test_a_loop_that_is_almost_never_left() -> None:
    """1e12 rounds of 1 s: known where time passes; where none does, it says so or brackets it widely."""
    chain = chain_of({"a": {"a": 1 - 1e-12, END: 1e-12}}, "a")
    found = durations(chain, latencies={("a", "a"): (1.0, 0.0)}, quantiles=(0.5,))
    low, high = answers(found)[0.5]
    assert low <= 1e12 * log(2) <= high


def test_runs_that_never_end() -> None:
    chain = chain_of({"a": {"b": 0.5, "stuck": 0.5}, "b": {}, "stuck": {"stuck": 1}}, "a")
    known = {("a", "b"): (2.0, 0.0), ("a", "stuck"): (1.0, 0.0)}
    found = durations(chain, latencies=known, quantiles=(0.5,), within=(10.0,))
    assert answers(found, kind="within")[10.0] == (pytest.approx(0.5, abs=1e-5), pytest.approx(0.5, abs=1e-5))
    assert answers(found, "stuck")[0.5] == (pytest.approx(1.0, rel=1e-2), pytest.approx(1.0, rel=1e-2))
    trap = Chain.from_matrix([[1]], ["only"])
    assert answers(durations(trap, quantiles=(0.5,)), "only")[0.5] == (0, 0)
    with pytest.raises(AnalysisError, match="no run has the outcome"):
        time_law(trap)


def test_the_law_on_a_grid_is_the_binomial_one() -> None:
    """Three hops that take 0 or 1 each: the sums, cell by cell, to the stated bound."""
    names = list("abcd")
    chain = Chain.from_matrix(np.diag([1.0, 1.0, 1.0], 1), names, "a", stop=[0, 0, 0, 1])
    second = Latency(4, 2 * 10**9, 2 * 10**18, {0: 2, 1044: 2})
    timed = Timed(chain, None, dict.fromkeys(pairwise(names), second), 0)
    law, bound = Lattice(timed, timed.ways, timed.chances(timed.ways)[0], 512).law(0.9, up=False)
    right = np.cumsum([Fraction(comb(3, k), 8) for k in range(4)])
    assert np.abs(law[0, :4] - right.astype(float)).max() <= bound[0] + 2e-6
    assert bound[0] < 1e-6


def test_what_can_not_be_asked() -> None:
    for wrong in (
        {"quantiles": (1.0,)},
        {"quantiles": (0.0,)},
        {"quantiles": ("a",)},
        {"within": (None,)},
        {"within": (0.0,)},
        {"within": (inf,)},
        {"cells": 1000},
        {"cells": 8},
    ):
        with pytest.raises(AnalysisError):
            durations(retry(0.5), latencies=EXPONENTIAL, **wrong)
    with pytest.raises(AnalysisError, match="no run has the outcome nowhere: there are"):
        time_law(retry(0.5), "nowhere", latencies=EXPONENTIAL)
    with pytest.raises(AnalysisError, match="at least one point"):
        time_law(retry(0.5), latencies=EXPONENTIAL, points=0)
    with pytest.raises(AnalysisError, match="points at most"):
        time_law(retry(0.5), latencies=EXPONENTIAL, points=10**6)
    n = 3000
    ring = sparse.csr_array((np.full(n, 0.5), (np.arange(n), (np.arange(n) + 1) % n)), shape=(n, n))
    chain = Chain.from_matrix(ring, start="0", stop=np.full(n, 0.5))
    pairs = {(str(k), str((k + 1) % n)): (1.0, 0.0) for k in range(n)}
    with pytest.raises(AnalysisError, match="too large for the law"):
        durations(chain, latencies=pairs)
    assert timing(chain, latencies=pairs, top=0).mean == pytest.approx(1)


def test_equal_ways_share_grids() -> None:
    found = durations(retry(0.5), latencies=EXPONENTIAL, quantiles=(0.9, 0.5))
    assert Counter((d.at, d.low, d.high) for d in found.durations).most_common()[0][1] == 2
    assert [d.at for d in found.durations] == [0.5, 0.9, 0.5, 0.9]
    assert found.rows()[0]["low"] <= found.rows()[0]["value"] <= found.rows()[0]["high"]
