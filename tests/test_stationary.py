"""The long run: laws, limits, turns of periodic classes, ends and entropy, by closed forms, powers and fractions."""

from fractions import Fraction
from math import inf, log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from flowstat.analyze import arrivals, solve
from flowstat.analyze import restart as restarting
from flowstat.analyze.entropy import step_entropy
from flowstat.analyze.law import eliminated_law
from flowstat.analyze.restart import restart
from flowstat.analyze.stationary import stationary
from flowstat.errors import AnalysisError, ChainError
from flowstat.estimate.chain import Chain
from tests.oracles import LETTERS, chain_of, chains, relabelled, shop, traps_of
from tests.test_bounds import check, dyadic, solution


def walk(n: int, up: float, down: float) -> np.ndarray:
    P = np.diag(np.full(n - 1, up), 1) + np.diag(np.full(n - 1, down), -1)
    return P + np.diag(1 - P.sum(axis=1))


def geometric(n: int, ratio: Fraction) -> np.ndarray:
    """The law of a walk, `pi_k ~ ratio^k`, each entry rounded once."""
    weights = [ratio**k for k in range(n)]
    whole = sum(weights)
    return np.array([float(w / whole) for w in weights])


def powered(chain: Chain, times: int = 60) -> list[np.ndarray]:
    """The laws from the start at late times one after the other, by repeated squaring of the matrix."""
    P = chain.P.toarray()
    late = np.linalg.matrix_power(P, 2**10 * 60)
    laws = [chain.start @ late]
    for _ in range(times - 1):
        laws.append(laws[-1] @ P)
    return laws


@settings(max_examples=150, deadline=None)
@given(chains(largest=5, traps=True))
def test_limits_are_those_of_powers(chain: Chain) -> None:
    found = stationary(chain)
    laws = powered(chain)
    average = dict(zip(chain.names, np.mean(laws, axis=0), strict=True))
    for row in found.rows():
        assert row["limit"] == pytest.approx(average[row["node"]], abs=1e-9)
    assert found.ended == pytest.approx(1 - laws[0].sum(), abs=1e-9)
    assert found.limit.sum() + found.ended == pytest.approx(1, abs=1e-12)
    nodes = np.array(found.nodes)
    assert {frozenset(nodes[found.member == c]) for c in range(len(found.classes))} == set(traps_of(chain))
    for t in range(13):
        for node, chance in found.at(t).items():
            assert chance == pytest.approx(laws[t][chain.index[node]], abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(chains(largest=5, traps=True), st.permutations(range(5)))
def test_names_and_order_change_nothing(chain: Chain, order: list[int]) -> None:
    order = [i for i in order if i < len(chain.names)]
    names = {name: f"<{name}>" for name in chain.names}
    rows = {f"<{r['node']}>": (r["law"], r["limit"]) for r in stationary(chain).rows()}
    other = {r["node"]: (r["law"], r["limit"]) for r in stationary(relabelled(chain, order, names)).rows()}
    assert set(rows) == set(other)
    for node, numbers in rows.items():
        assert other[node] == pytest.approx(numbers, rel=1e-12)


@settings(max_examples=100, deadline=None)
@given(chains(largest=5))
def test_restarted_is_the_share_of_events(chain: Chain) -> None:
    found = stationary(chain, restarted=True)
    anew = stationary(restart(chain))
    by_node = {r["node"]: (r["limit"], r["period"]) for r in anew.rows() if r["limit"] > 0}
    assert {r["node"]: (pytest.approx(r["limit"], rel=1e-12), r["period"]) for r in found.rows()} == by_node
    late = anew.at(7)
    for node, chance in found.at(7).items():
        assert chance == pytest.approx(late[node], abs=1e-12)


def test_a_chain_whose_runs_end_has_no_long_run() -> None:
    found = stationary(shop())
    assert (found.rows(), found.ended, found.entropy_rate) == ([], pytest.approx(1.0), 0.0)
    assert "Every run ends" in str(found)
    assert stationary(shop(), restarted=True).law.sum() == pytest.approx(1)


def test_entropy_of_a_run() -> None:
    """A coin thrown until it is heads: 2 bits; with exits below rounding nothing is lost."""
    chain = chain_of({"throw": {"throw": Fraction(1, 2)}}, "throw")
    found = stationary(chain)
    assert found.run_entropy == pytest.approx(2, rel=1e-14)
    assert stationary(chain, restarted=True).entropy_rate == pytest.approx(1, rel=1e-14)
    tiny = 1e-17
    chain = Chain.from_matrix([[1.0]], ["a"], "a", stop=[tiny])
    bits = tiny * (-log2(tiny) + 1 / np.log(2))
    assert step_entropy(chain).values[0] == pytest.approx(bits, rel=1e-13)
    assert stationary(chain).run_entropy == pytest.approx(bits / tiny, rel=1e-13)


@settings(max_examples=100, deadline=None)
@given(chains(largest=4))
def test_entropy_of_runs_is_that_of_all_runs(chain: Chain) -> None:
    """By the definition: the chances of all runs up to a length, and what is left is next to nothing."""
    if np.abs(np.linalg.eigvals(chain.P.toarray())).max() > 0.35:
        return
    found = stationary(chain)
    bits, paths = 0.0, [(i, p) for i, p in enumerate(chain.start) if p > 0]
    P = chain.P.toarray()
    for _ in range(9):
        bits -= sum(p * chain.stop[i] * log2(p * chain.stop[i]) for i, p in paths if chain.stop[i] > 0)
        paths = [(j, p * P[i, j]) for i, p in paths for j in np.flatnonzero(P[i])]
        if len(paths) > 20_000:
            return
    left = sum(p for _, p in paths)
    assert found.run_entropy >= bits - 1e-12
    assert found.run_entropy <= bits + 60 * left + 1e-12


def test_entropy_rates() -> None:
    found = stationary(Chain.from_matrix([[0.5, 0.5], [0.25, 0.75]], start="0"))
    h = 1 / 3 + 2 / 3 * (-0.25 * log2(0.25) - 0.75 * log2(0.75))
    assert found.entropy_rate == pytest.approx(h, rel=1e-14)
    assert (found.run_entropy, found.classes[0].entropy_rate) == (inf, found.entropy_rate)
    ring = stationary(Chain.from_matrix(np.roll(np.eye(5), 1, axis=1), start="2"))
    assert (ring.entropy_rate, ring.run_entropy) == (0.0, 0.0)


@pytest.mark.parametrize("period", range(2, 13))
def test_periods(period: int) -> None:
    """A ring entered at one of two nodes, one step later with chance 1/4."""
    names = ["in", "wait", *(str(k) for k in range(period))]
    table = {"in": {"0": Fraction(3, 4), "wait": Fraction(1, 4)}, "wait": {"0": Fraction(1)}}
    table |= {str(k): {str((k + 1) % period): Fraction(1)} for k in range(period)}
    found = stationary(chain_of({name: table[name] for name in names}, "in"))
    [part] = found.classes
    assert (part.period, part.probability) == (period, 1.0)
    assert found.limit == pytest.approx(np.full(period, 1 / period), rel=1e-14)
    at = found.at(period + 1)
    expected = {str(k): 0.0 for k in range(period)} | {"0": 0.75}
    expected[str(period - 1)] += 0.25
    assert at == pytest.approx(expected, abs=1e-15)
    assert "averages over time" in str(found)


def test_two_closed_classes_and_a_lost_one() -> None:
    chain = chain_of(
        {
            "start": {"a": Fraction(3, 10), "b": Fraction(7, 10)},
            "a": {"a": 1},
            "b": {"c": 1},
            "c": {"b": Fraction(1, 2), "c": Fraction(1, 2)},
            "lost": {"lost": 1},
        },
        "start",
    )
    found = stationary(chain)
    limits = {r["node"]: r["limit"] for r in found.rows()}
    assert limits == pytest.approx({"a": 0.3, "b": 0.7 / 3, "c": 1.4 / 3, "lost": 0.0}, rel=1e-13)
    assert "No run from the start comes to lost" in str(found)
    assert stationary(chain, "lost").limit.max() == 1
    with pytest.raises(ChainError, match="no node"):
        stationary(chain, "nobody")


def test_restarted_with_a_trap_is_trapped() -> None:
    chain = chain_of({"a": {"trap": 0.125, "b": 0.25}, "b": {"b": 0.5}, "trap": {"trap": 1}}, "a")
    found = stationary(chain, restarted=True)
    assert (found.nodes, found.limit.tolist(), found.ended) == (("trap",), [pytest.approx(1.0)], 0.0)
    assert found.restarted


@pytest.mark.parametrize("order", ["up", "down", "shuffled"])
@pytest.mark.parametrize(("n", "up", "down"), [(120, 0.125, 0.75), (700, 0.25, 0.5), (400, 0.125, 0.875)])
def test_laws_over_hundreds_of_orders_of_magnitude(n: int, up: float, down: float, order: str) -> None:
    at = {"up": np.arange(n), "down": np.arange(n)[::-1], "shuffled": np.random.default_rng(0).permutation(n)}[order]
    exact = geometric(n, Fraction(up) / Fraction(down))[at]
    found = stationary(Chain.from_matrix(walk(n, up, down)[np.ix_(at, at)], start="0"))
    law, sorted_by = found.law, [int(name) for name in found.nodes]
    assert law == pytest.approx(exact[sorted_by], rel=1e-13, abs=1e-300)
    assert (np.abs(law - exact[sorted_by]) <= found.law_bound).all()
    check_again = eliminated_law(walk(n, up, down)[np.ix_(at, at)])
    assert check_again[exact > 1e-300] == pytest.approx(exact[exact > 1e-300], rel=1e-13)


def test_two_thousand_states_over_three_hundred_orders() -> None:
    """Right to 1e-13 relative, to the last entry of 1e-300; the chances are such that float rows sum to 1 exactly."""
    n = 2000
    down, up = 0.5, 0.5 * 0.70703125
    exact = geometric(n, Fraction(up) / Fraction(down))
    assert 1e-302 < exact[-1] < 1e-300
    found = stationary(Chain.from_matrix(sparse.csr_array(walk(n, up, down)), start="0"))
    assert found.law == pytest.approx(exact, rel=1e-13)
    assert (np.abs(found.law - exact) <= found.law_bound).all()


def test_a_tail_of_5e_38() -> None:
    up, down = Fraction(1, 16), Fraction(1, 2)
    exact = geometric(42, up / down)
    found = stationary(Chain.from_matrix(walk(42, float(up), float(down)), start="0"))
    assert exact[-1] < 5e-37
    assert found.law == pytest.approx(exact, rel=1e-14)


def test_a_lost_chance_is_noticed() -> None:
    """Between 0 and 1 a run goes over 2 and 3 with 1e-400, which is no float: in another order no chance is lost."""
    e = 1e-200
    P = np.array([[1, 0.0, e, 0], [1e-280, 1, 0, e], [1, e, 0, 0], [e, 1, 0, 0]])
    fractions = [[Fraction(p) for p in row] for row in P.tolist()]
    for i, row in enumerate(fractions):
        row[i] = 1 - sum(p for j, p in enumerate(row) if j != i)
    exact = [float(p) for p in law_in_fractions(fractions)]
    assert exact[1] == pytest.approx(1e-120)
    assert eliminated_law(P) == pytest.approx(exact, rel=1e-13, abs=1e-300)
    ways = np.array([[0.5, 0, e, e], [e, 0, 0, 1], [e, 0, 1, e], [e * 1e-80, 1, 1e-80, 0]])
    with pytest.raises(AnalysisError, match="orders of magnitude"):
        eliminated_law(np.kron(np.array([[0, 1], [1, 0]]), ways * 1e-60) + np.diag(np.full(7, 1e-140), 1))


@pytest.mark.parametrize("largest", [1500, 1])
@pytest.mark.parametrize("seed", range(4))
def test_exact_laws_and_limits_lie_within_the_bounds(monkeypatch: pytest.MonkeyPatch, seed: int, largest: int) -> None:
    monkeypatch.setattr(solve, "DENSE", largest)
    rng = np.random.default_rng(100 + seed)
    seen = 0
    for _ in range(150):
        chain = dyadic(rng)
        try:
            found = stationary(chain)
        except AnalysisError:
            assert largest == 1
            continue
        P = [[Fraction(float(p)) for p in row] for row in chain.P.toarray()]
        for c, part in enumerate(found.classes):
            inside = np.flatnonzero(found.member == c)
            states = [chain.index[found.nodes[k]] for k in inside]
            exact = law_in_fractions([[P[i][j] for j in states] for i in states])
            check(found.law[inside], found.law_bound[inside], exact)
            others = [i for i in range(len(P)) if i not in states]
            reached = [i for i in others if not found_closed(chain, i, found)]
            weight = trapped(P, chain.start, reached, states)
            check([part.probability], [part.probability_bound], [weight])
            check(found.limit[inside], found.limit_bound[inside], [weight * p for p in exact])
            if part.phases:
                assert abs(sum(map(Fraction, part.phases)) - weight) <= part.period * Fraction(part.phases_bound)
            seen += 1
    assert seen > 20


def found_closed(chain: Chain, i: int, found: object) -> bool:
    return chain.names[i] in found.nodes  # type: ignore[attr-defined]


def law_in_fractions(P: list[list[Fraction]]) -> list[Fraction]:
    n = len(P)
    rows = [[P[j][i] - (i == j) for j in range(n)] for i in range(n - 1)] + [[Fraction(1)] * n]
    law = solution(rows, [0] * (n - 1) + [1])
    assert law is not None
    return law


def trapped(P: list[list[Fraction]], start: np.ndarray, passed: list[int], states: list[int]) -> Fraction:
    matrix = [[(i == j) - P[j][i] for j in passed] for i in passed]
    visits = solution(matrix, [Fraction(float(start[i])) for i in passed])
    assert visits is not None
    entered = sum(v * P[i][j] for v, i in zip(visits, passed, strict=True) for j in states)
    return entered + sum(Fraction(float(start[j])) for j in states)


def test_bounds_of_entropy_hold() -> None:
    from decimal import Decimal, getcontext

    getcontext().prec = 60
    rng = np.random.default_rng(5)
    for _ in range(100):
        chain = dyadic(rng)
        found = step_entropy(chain)
        for i, row in enumerate(chain.P.toarray()):
            shares = [Decimal(float(p)) for p in [*row, chain.stop[i]] if p > 0]
            exact = -sum(p * p.ln() / Decimal(2).ln() for p in shares)
            assert abs(Decimal(float(found.values[i])) - exact) <= Decimal(float(found.bound[i]))


def test_many_absorbing_nodes_and_a_large_class() -> None:
    n = 30_000
    rows = np.repeat(np.arange(n), 3)
    columns = np.random.default_rng(0).integers(0, n, 3 * n)
    columns[::3] = (np.arange(n) + 1) % n
    P = sparse.csr_array((np.full(3 * n, 1 / 3), (rows, columns)), shape=(n, n))
    chain = Chain.from_matrix(P, start="0")
    found = stationary(chain)
    assert found.law.sum() == pytest.approx(1)
    law = np.empty(n)
    law[[chain.index[name] for name in found.nodes]] = found.law
    assert np.abs(law @ P - law).max() < 1e-15
    assert found.error_bound < 1e-8


def test_a_result_is_shown_and_written() -> None:
    found = stationary(Chain.from_matrix([[0.5, 0.5], [0.25, 0.75]], LETTERS[:2], "f"))
    assert "{f, b}" in str(found)
    assert found.to_dict()["law"] == found.law.tolist()
    assert list(found.frame().columns) == list(found.columns)
    assert "law bound" not in str(found)


def test_what_takes_too_much_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = chain_of({"in": {"x": 1}, "x": {"y": 1}, "y": {"x": 1}}, "in")
    monkeypatch.setattr(arrivals, "MOST", 1)
    found = stationary(chain)
    assert found.limit.tolist() == [0.5, 0.5]
    assert "was not found" in str(found)
    with pytest.raises(AnalysisError, match="too many states"):
        found.at(0)
    monkeypatch.setattr(restarting, "MOST", 1)
    with pytest.raises(AnalysisError, match="too many arrows"):
        restart(shop())
    assert stationary(shop(), restarted=True).law.sum() == pytest.approx(1)
