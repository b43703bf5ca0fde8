import json
from fractions import Fraction
from math import inf, sqrt
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowstat.analyze import solve
from flowstat.analyze.before import before
from flowstat.analyze.hitting import Hitting, hitting
from flowstat.errors import AnalysisError, ChainError
from flowstat.estimate.chain import END, Chain
from tests.oracles import LETTERS, chain_of, chains, hit, mean_agrees, pit, relabelled, share_agrees, shop, shop_runs
from tests.test_bounds import check, dyadic, solution


def walk(p: Fraction, goal: int) -> Chain:
    """A walk on 0..goal that goes up with chance p and ends at both ends."""
    rows: dict[str, dict[str, Fraction]] = {"0": {}, str(goal): {}}
    for k in range(1, goal):
        rows[str(k)] = {str(k + 1): p, str(k - 1): 1 - p}
    return chain_of(rows)


def by_state(found: Hitting) -> dict[str, tuple]:
    return {s.state: s for s in found.states}


@pytest.mark.parametrize("goal", [2, 5, 12])
def test_a_fair_game_that_is_won(goal: int) -> None:
    """From k it is won with k/N, then after (N^2 - k^2)/3 bets on average (Stern, Mathematics Magazine 48 (1975))."""
    found = by_state(hitting(walk(Fraction(1, 2), goal), str(goal)))
    for k in range(1, goal):
        at = found[str(k)]
        assert at.probability == pytest.approx(k / goal, rel=1e-14)
        assert at.mean_if_hit == pytest.approx((goal**2 - k**2) / 3, rel=1e-13)
        assert (at.mean, at.variance) == (inf, inf)
    assert found[str(goal)][1:6] == (1, 0, 0, 0, 0)
    assert found["0"][1:6] == (0, inf, inf, None, None)


@pytest.mark.parametrize("goal", [2, 5, 9])
def test_the_end_of_a_fair_game(goal: int) -> None:
    """It has k (N - k) bets with variance k (N - k) (k^2 + (N - k)^2 - 2) / 3, and comes to an end for sure."""
    found = by_state(hitting(walk(Fraction(1, 2), goal), ["0", str(goal)]))
    for k in range(1, goal):
        at, away = found[str(k)], goal - k
        assert (at.probability, at.probability_bound) == (1, 0)
        assert at.mean == pytest.approx(k * away, rel=1e-13)
        assert at.variance == pytest.approx(k * away * (k * k + away * away - 2) / 3, rel=1e-12, abs=1e-12)
        assert (at.mean_if_hit, at.variance_if_hit) == (at.mean, at.variance)


@pytest.mark.parametrize("n", [1, 3, 40])
def test_coupon_collector(n: int) -> None:
    """n coupons take n H_n packets, with variance sum (1 - p) / p^2 for p = k/n."""
    names = [str(k) for k in range(n + 1)]
    P = np.zeros((n + 1, n + 1))
    for k in range(n):
        P[k, k], P[k, k + 1] = k / n, (n - k) / n
    P[n, n] = 1
    at = hitting(Chain.from_matrix(P, names, "0"), str(n)).start
    chances = [Fraction(k, n) for k in range(1, n + 1)]
    assert at.probability == 1
    assert at.mean == pytest.approx(float(sum(1 / p for p in chances)), rel=1e-14)
    assert at.variance == pytest.approx(float(sum((1 - p) / p**2 for p in chances)), rel=1e-12, abs=1e-13)


def test_a_walk_on_the_complete_graph_and_on_a_cycle() -> None:
    """On K_n it takes n - 1 steps to a node on average, geometric; on a cycle k (n - k) from k away."""
    n = 9
    complete = Chain.from_matrix((np.ones((n, n)) - np.eye(n)) / (n - 1))
    at = hitting(complete, "0", "3").start
    assert (at.probability, at.mean) == (1, pytest.approx(n - 1, rel=1e-14))
    assert at.variance == pytest.approx((n - 2) * (n - 1), rel=1e-13)
    ring = np.roll(np.eye(n), 1, axis=1) / 2
    found = by_state(hitting(Chain.from_matrix(ring + ring.T), "0"))
    for k in range(n):
        assert found[str(k)].mean == pytest.approx(k * (n - k), rel=1e-13)


def test_a_reflecting_walk() -> None:
    """20 states, up with 1/10: e_k = 10 (1 + 9/10 e_{k-1}) steps from k to k + 1, e_0 = 10: some 10^19 in all."""
    n = 20
    P = np.zeros((n + 1, n + 1))
    for k in range(n):
        P[k, k + 1], P[k, max(0, k - 1)] = 0.1, 0.9
    P[n, n] = 1
    up, down = Fraction(0.1), Fraction(0.9)
    step, total = 1 / up, Fraction(0)
    for _ in range(n):
        total += step
        step = (1 + down * step) / up
    at = hitting(Chain.from_matrix(P, start="0"), str(n)).start
    assert at.probability == 1
    assert at.mean == pytest.approx(float(total), rel=1e-13)
    assert at.mean > 1.7e19
    assert at.mean_if_hit_bound < 1e-11 * at.mean
    assert sqrt(at.variance) == pytest.approx(at.mean, rel=1e-6)


def test_exits_that_one_minus_a_sum_would_lose() -> None:
    chain = chain_of(
        {"a": {"b": 1 - 3e-13, "x": 3e-13, END: 0}, "b": {"a": 1 - 1e-13, "y": 1e-13, END: 0}, "x": {}, "y": {}}
    )
    at = hitting(chain, "x", "b").start
    assert at.probability == pytest.approx(0.75, rel=1e-12)
    assert at.mean_if_hit == pytest.approx(2 / 4e-13, rel=1e-12)
    assert sqrt(at.variance_if_hit) == pytest.approx(2 / 4e-13, rel=1e-9)
    first = before(chain, "x", "y", "a").start
    assert (first.a_first, first.b_first, first.neither) == pytest.approx((0.75, 0.25, 0), rel=1e-12)


@pytest.mark.parametrize("tiny", [1e-17, 1e-100, 1e-200])
def test_rare_ways(tiny: float) -> None:
    chain = chain_of({"a": {"a": 1.0, "b": tiny, "c": 3 * tiny, END: 0}, "b": {}, "c": {}})
    at = hitting(chain, "b").start
    assert at.probability == pytest.approx(0.25, rel=1e-14)
    assert at.mean_if_hit == pytest.approx(0.25 / tiny, rel=1e-14)
    # The square of 10^200 steps is no number.
    assert at.variance_if_hit == (None if tiny == 1e-200 else pytest.approx((0.25 / tiny) ** 2, rel=1e-13))
    lucky = chain_of({"a": {"b": tiny, END: 1.0}, "b": {"a": 1}}, "a")
    assert hitting(lucky, "b").start.probability == tiny
    assert hitting(lucky, "b").start.mean_if_hit == 1


def test_a_chance_next_to_one_is_known_as_well_as_that_to_fail() -> None:
    chain = chain_of({"a": {"b": 0.5, "a": 0.5, END: 1e-30}, "b": {}})
    at = hitting(chain, "b").start
    assert (at.probability, at.mean) == (1, inf)
    assert at.probability_bound < 1e-15


def test_why_a_mean_is_infinite() -> None:
    """Runs end before, are trapped elsewhere, come where nothing leads on, or there is no way at all."""
    ends = chain_of({"a": {"b": 0.5}, "b": {}})
    assert "with probability 0.5 runs end before, such as at a" in hitting(ends, "b").notes()[1]
    trap = chain_of({"a": {"b": 0.5, "t": 0.5}, "b": {}, "t": {"t": 1}})
    assert "with probability 0.5 runs come where nothing leads there, such as to t" in hitting(trap, "b").notes()[1]
    assert "nothing leads there from the start" in hitting(trap, "b", "t").notes()[1]
    assert hitting(trap, "b", "b").reason is None
    assert len(hitting(trap, ["b", "t"]).notes()) == 1


def test_no_way_to_the_target_is_no_error() -> None:
    chain = chain_of({"a": {"a": 1}, "far": {"a": 1}, "once": {}}, "a")
    for target in ("far", "once"):
        at = hitting(chain, target).start
        assert at[1:] == (0, inf, inf, None, None, 0, 0, 0)
        assert before(chain, target, "a").start[1:4] == (0, 1, 0)
    one = chain_of({"a": {}})
    assert hitting(one, "a").states[0][1:6] == (1, 0, 0, 0, 0)


@settings(max_examples=200)
@given(chains(traps=True), st.integers(1, 31))
def test_chances_and_moments_by_brute_force(chain: Chain, mask: int) -> None:
    targets = [name for k, name in enumerate(chain.names) if mask >> k & 1] or list(chain.names[:1])
    found = hitting(chain, targets)
    assert found.start.probability == pytest.approx(hit(chain, targets), abs=1e-12)
    # By powers: the law of the first hit of a chain that forgets it quickly enough.
    inside = np.isin(chain.names, targets)
    P = np.where(inside[:, None], 0.0, chain.P.toarray())
    x, hits = np.where(inside, 0.0, chain.start), [chain.start[inside].sum()]
    for _ in range(4000):
        x = x @ P
        hits.append(x[inside].sum())
        x = np.where(inside, 0.0, x)
    law, time = np.array(hits), np.arange(4001)
    if found.start.probability > 0:
        mean = (law * time).sum() / law.sum()
        assert found.start.mean_if_hit == pytest.approx(mean, abs=1e-7)
        assert found.start.variance_if_hit == pytest.approx((law * (time - mean) ** 2).sum() / law.sum(), abs=1e-5)
    assert (found.start.mean == inf) == (found.start.probability < 1 - 1e-12)


@settings(max_examples=150)
@given(chains(traps=True), st.randoms(use_true_random=False))
def test_order_and_names_change_nothing(chain: Chain, random: Random) -> None:
    order = list(range(len(chain.names)))
    random.shuffle(order)
    names = dict(zip(LETTERS, "UVWXYZ", strict=True))
    target = random.choice(chain.names)
    other = by_state(hitting(relabelled(chain, order, names), names[target]))
    for at in (*hitting(chain, target).states,):
        there = other[names[at.state]]
        for value, same in zip(at[1:6], there[1:6], strict=True):
            assert (value is None) == (same is None)
            assert value is None or same == pytest.approx(value, rel=1e-9, abs=1e-12)


def exact_moments(chain: Chain, inside: list[int]) -> tuple[list, list, list]:
    """Return the chance to come to some states, and with it mean and second moment, from every state; in fractions."""
    n = len(chain.names)
    P = [[Fraction(float(value)) for value in row] for row in chain.P.toarray()]
    able = set(inside)
    for _ in range(n):
        able |= {i for i in range(n) if any(P[i][j] and j in able for j in range(n))}
    way = [i for i in range(n) if i in able and i not in inside]
    matrix = [[(i == j) - P[i][j] for j in way] for i in way]
    h, w, s = ([Fraction(0)] * n for _ in range(3))
    for i in inside:
        h[i] = Fraction(1)

    def fill(into: list, right: list) -> None:
        for i, value in zip(way, solution(matrix, right) if way else [], strict=True):
            into[i] = value

    fill(h, [sum(P[i][j] for j in inside) for i in way])
    fill(w, [h[i] for i in way])
    fill(s, [2 * w[i] - h[i] for i in way])
    return h, w, s


@pytest.mark.parametrize(("largest", "compiled"), [(1500, False), (1500, True), (1, False)])
def test_exact_answers_lie_within_the_bounds(monkeypatch: pytest.MonkeyPatch, largest: int, compiled: bool) -> None:
    monkeypatch.setattr(solve, "DENSE", largest)
    monkeypatch.setattr(solve, "COMPILED", 0 if compiled else 10**9)
    rng = np.random.default_rng(4)
    checked = 0
    for _ in range(150):
        chain = dyadic(rng)
        n = len(chain.names)
        inside = sorted(rng.permutation(n)[: int(rng.integers(1, 3))].tolist())
        h, w, s = exact_moments(chain, inside)
        found = hitting(chain, [chain.names[i] for i in inside])
        check([at.probability for at in found.states], [at.probability_bound for at in found.states], h)
        for i, at in (*enumerate(found.states), (0, found.start)):
            if at.mean_if_hit is None:
                assert largest == 1 or not h[i]
                continue
            mean = w[i] / h[i]
            check([at.mean_if_hit], [at.mean_if_hit_bound], [mean])
            if at.variance_if_hit is not None:
                check([at.variance_if_hit], [at.variance_if_hit_bound], [s[i] / h[i] - mean**2])
                checked += 1
        rest = [i for i in range(n) if i not in inside]
        if rest:
            other = int(rng.choice(rest))
            first = before(chain, [chain.names[i] for i in inside], chain.names[other])
            P = chain.P.toarray()
            P[[*inside, other]] = 0.0
            stop = np.where(P.any(axis=1), chain.stop, 1.0)
            cut = Chain.from_matrix(P, chain.names, chain.names[0], stop=stop)
            check(
                [at.a_first for at in first.states],
                [at.a_first_bound for at in first.states],
                exact_moments(cut, inside)[0],
            )
            check(
                [at.b_first for at in first.states],
                [at.b_first_bound for at in first.states],
                exact_moments(cut, [other])[0],
            )
    assert checked > 300


def test_bounds_are_close() -> None:
    found = hitting(shop(), "ship")
    assert found.error_bound < 1e-13
    assert all(at.mean_if_hit_bound < 1e-12 and at.variance_if_hit_bound < 1e-11 for at in found.states)


def test_simulated_runs_agree() -> None:
    runs, chain = shop_runs(), shop()
    for target in ("wait", "ship"):
        there = runs.steps == chain.index[target]
        came = there.any(axis=0)
        at = hitting(chain, target).start
        assert share_agrees(came.sum(), runs.runs, at.probability)
        times = there.argmax(axis=0)[came]
        assert mean_agrees(times, at.mean_if_hit)
        assert mean_agrees((times - at.mean_if_hit) ** 2, at.variance_if_hit)
    ship, wait = (
        np.where(there.any(axis=0), there.argmax(axis=0), 10**6)
        for there in (runs.steps == chain.index["ship"], runs.steps == chain.index["wait"])
    )
    first = before(chain, "ship", "wait").start
    assert share_agrees((ship < wait).sum(), runs.runs, first.a_first)
    assert share_agrees((ship == wait).sum(), runs.runs, first.neither)


@settings(max_examples=150)
@given(chains(traps=True), st.integers(0, 4), st.integers(0, 4))
def test_which_comes_first_and_what_is_never_come_to_sum_to_one(chain: Chain, a: int, b: int) -> None:
    first, second = chain.names[a % len(chain.names)], chain.names[b % len(chain.names)]
    if first == second:
        with pytest.raises(AnalysisError, match="both sets"):
            before(chain, first, second)
        return
    found = before(chain, first, second)
    for at in (found.start, *found.states):
        assert sum(at[1:4]) == pytest.approx(1, abs=1e-14)
    assert found.start.a_first + found.start.b_first == pytest.approx(hit(chain, [first, second]), abs=1e-12)
    turned = before(chain, second, first)
    assert (turned.start.a_first, turned.start.b_first) == pytest.approx((found.start.b_first, found.start.a_first))


def test_questions_that_do_not_fit() -> None:
    chain = pit()
    for targets, said in (((), "at least one node"), (("a", "nobody"), "no node is called 'nobody'")):
        with pytest.raises(AnalysisError, match=said):
            hitting(chain, targets)
        with pytest.raises(AnalysisError, match=said):
            before(chain, "a", targets)
    with pytest.raises(ChainError, match="no node is called"):
        hitting(chain, "a", "nobody")
    with pytest.raises(AnalysisError, match="set the shares that lead out of them to 0"):
        hitting(chain_of({"a": {"a": 1.0, "b": 1e-300, END: 0}, "b": {}}), "b")
    with pytest.raises(AnalysisError, match="no node is called"):
        hitting(chain, "a").states.only(["b", "nobody"])


def test_results_show_themselves() -> None:
    for result in (hitting(pit(), "c"), hitting(pit(), "c", "ping"), before(pit(), "c", ["ping", "stuck"])):
        assert "bound" not in str(result)
        assert list(result.frame().columns) == list(result.columns)
        assert len(result.frame()) == len(result.states) == len(pit().names)
        assert "<table>" in result._repr_html_()
        text = json.dumps(result.to_dict(), allow_nan=False)
        assert len(json.loads(text)["states"]) == len(pit().names)
        assert result.error_bound < 1e-14
    rows = hitting(pit(), "c").states
    assert [at.state for at in rows.only(["stuck", "a"])] == ["stuck", "a"]
    assert rows[-1] == rows[5] == list(rows)[5]
    assert [at.state for at in rows[1:3]] == ["b", "c"]
    with pytest.raises(IndexError):
        rows[6]
