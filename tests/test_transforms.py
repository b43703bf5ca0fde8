from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from flowstat.analyze import solve
from flowstat.analyze.absorption import absorption
from flowstat.analyze.transforms import condition, pairs, power
from flowstat.analyze.visits import visits
from flowstat.errors import AnalysisError, ChainError
from flowstat.estimate.chain import Chain
from tests.oracles import LETTERS, chains, pit, relabelled, shop, shop_runs
from tests.test_bounds import check, dyadic, solution, transient


def outcomes(chain, start=None):
    return {o.outcome: o for o in absorption(chain, start).outcomes}


@given(chains(traps=True), st.data())
def test_conditioned_runs_all_end_in_the_outcome(chain, data):
    found = outcomes(chain)
    name = data.draw(st.sampled_from(sorted(found)))
    given_ = condition(chain, name)
    assert given_.chance == pytest.approx(found[name].probability, rel=1e-12)
    after = outcomes(given_)
    assert list(after) == [name]
    assert after[name].probability == pytest.approx(1, rel=1e-12)
    assert after[name].kind == found[name].kind


@given(chains(), st.data())
def test_outcomes_make_up_the_chain(chain, data):
    """Visits of the runs of each outcome, weighted by its chance, add up to all visits."""
    total = dict.fromkeys(chain.names, 0.0)
    for name, outcome in outcomes(chain).items():
        for v in visits(condition(chain, name)).nodes:
            total[v.node] += outcome.probability * v.visits
    assert list(total.values()) == pytest.approx([v.visits for v in visits(chain).nodes], rel=1e-11, abs=1e-14)


def test_runs_that_ended_so_are_runs_of_the_conditioned_chain():
    runs = shop_runs()
    chain = runs.chain
    last = np.array(chain.names)[runs.last()]
    steps = runs.steps[:, last == "wait"]
    given_ = condition(chain, "wait")
    exact = {v.node: v.visits for v in visits(given_).nodes}
    for i, name in enumerate(chain.names):
        seen = (steps == i).sum(axis=0)
        if name not in exact:
            assert not seen.any()
            continue
        assert abs(seen.mean() - exact[name]) <= 4 * seen.std() / np.sqrt(len(seen)) + 1e-12


def test_several_outcomes_and_traps_by_any_of_their_nodes():
    whole = outcomes(pit())
    both = condition(pit(), ["stuck", "b"])
    assert both.chance == pytest.approx(whole["stuck"].probability + whole["b"].probability, rel=1e-12)
    assert set(outcomes(both)) == {"stuck", "b"}
    for name in ("{ping, pong}", "ping", "pong"):
        trapped = condition(pit(), name)
        assert trapped.chance == pytest.approx(whole["{ping, pong}"].probability, rel=1e-12)
        assert set(outcomes(trapped)) == {"{ping, pong}"}
        assert "stuck" not in trapped.names


@pytest.mark.parametrize("dense", [1500, 1])
def test_exact_conditions_lie_within_the_bound(monkeypatch, dense):
    monkeypatch.setattr(solve, "DENSE", dense)
    rng = np.random.default_rng(11)
    done = 0
    for _ in range(200):
        chain = dyadic(rng)
        keep, matrix = transient(chain)
        ends = [i for i in keep if chain.stop[i] > 0]
        if not ends:
            continue
        end = int(rng.choice(ends))
        try:
            given_ = condition(chain, chain.names[end])
        except AnalysisError:
            continue  # there is no way from the start to that end
        done += 1
        h = dict(zip(keep, solution(matrix, [Fraction(float(chain.stop[i])) * (i == end) for i in keep]), strict=True))
        P, mine = chain.P.toarray(), given_.P.toarray()
        where = [chain.index[name] for name in given_.names]
        for a, i in enumerate(where):
            exact = [Fraction(float(P[i, j])) * h[j] / h[i] for j in where]
            check(mine[a], [given_.error_bound] * len(where), exact)
            stop = Fraction(float(chain.stop[i])) * (i == end) / h[i]
            check([given_.stop[a]], [given_.error_bound], [stop])
        check([given_.chance], [given_.chance_bound], [h[0]])
    assert done > 100


def test_a_ruin_of_2e_29_is_conditioned_on_to_the_last_digits():
    n, up = 60, Fraction(1, 4)
    P = sparse.diags_array([np.full(n - 1, 0.75), np.full(n - 1, 0.25)], offsets=[-1, 1])
    stop = np.zeros(n)
    stop[0], stop[-1] = 0.75, 0.25
    lucky = condition(Chain.from_matrix(P, start="0", stop=stop), str(n - 1))
    r = (1 - up) / up
    assert lucky.chance == pytest.approx(float((r - 1) / (r ** (n + 1) - 1)), rel=1e-12)
    h = [r ** (k + 1) - 1 for k in range(n)]
    assert lucky.P.toarray()[5, 6] == pytest.approx(float(up * h[6] / h[5]), rel=1e-12)
    assert lucky.error_bound < 1e-9


def test_what_can_not_be_conditioned_on():
    with pytest.raises(AnalysisError, match=r"no run ends at 'order'.*one of"):
        condition(Chain.from_matrix([[0, 1], [0, 0]], ["order", "done"], stop=[0, 1]), "order")
    with pytest.raises(AnalysisError, match="no run ends at 'nowhere'"):
        condition(pit(), "nowhere")
    with pytest.raises(AnalysisError, match="no run from this start can end so: stuck"):
        condition(pit(), "stuck", start="ping")
    with pytest.raises(AnalysisError, match="no outcome is named"):
        condition(pit(), [])
    with pytest.raises(ChainError, match="no node is called 'x'"):
        condition(pit(), "stuck", start="x")
    tiny = Chain.from_matrix([[0, 1e-200, 0], [0, 0, 1e-200], [0, 0, 0]], ["a", "b", "c"], "a", stop=[1, 1, 1])
    with pytest.raises(AnalysisError, match="so improbable from 'a'"):
        condition(tiny, "c")


@given(chains(), st.permutations(range(5)))
def test_names_change_no_condition(chain, order):
    order = [i for i in order if i < len(chain.names)]
    names = dict(zip(LETTERS, "uvwxyz", strict=True))
    name = next(iter(outcomes(chain)))
    one, other = condition(chain, name), condition(relabelled(chain, order, names), names[name])
    assert {names[n] for n in one.names} == set(other.names)
    at = [other.index[names[n]] for n in one.names]
    assert other.P.toarray()[np.ix_(at, at)] == pytest.approx(one.P.toarray(), rel=1e-12)


@given(chains(traps=True), st.integers(1, 40))
def test_powers(chain, k):
    taken = power(chain, k)
    P = chain.P.toarray()
    assert np.allclose(taken.P.toarray(), np.linalg.matrix_power(P, k), atol=1e-12)
    stops = sum(np.linalg.matrix_power(P, t) @ chain.stop for t in range(k))
    assert np.allclose(taken.stop, stops, atol=1e-12)
    assert taken.error_bound < 1e-12
    assert (taken.start == chain.start).all()


def test_exact_powers_lie_within_the_bound():
    rng = np.random.default_rng(3)
    for _ in range(60):
        chain = dyadic(rng)
        k = int(rng.integers(1, 9))
        n = len(chain.names)
        P = [[Fraction(float(value)) for value in row] for row in chain.P.toarray()]
        x = [[Fraction(i == j) for j in range(n)] for i in range(n)]
        for _ in range(k):
            x = [[sum(row[m] * P[m][j] for m in range(n)) for j in range(n)] for row in x]
        taken = power(chain, k)
        for mine, exact in zip(taken.P.toarray(), x, strict=True):
            check(mine, [taken.error_bound] * n, exact)


def test_powers_that_are_refused(monkeypatch):
    for k in (0, -3, 2.5, float("inf"), None):
        with pytest.raises(AnalysisError, match="k is a whole number of at least 1"):
            power(pit(), k)
    rounded = Chain.from_matrix([[0.3, 0.7 + 1e-10], [0.5, 0.5]], ["a", "b"])
    with pytest.raises(AnalysisError, match="rounding, multiplied"):
        power(rounded, 1000)
    monkeypatch.setattr("flowstat.analyze.transforms.MOST", 3)
    with pytest.raises(AnalysisError, match="more than 3 arrows"):
        power(shop(), 2)
    with pytest.raises(AnalysisError, match="more than 3: restrict or lump"):
        pairs(shop())


def test_a_cycle_comes_round():
    ring = Chain.from_matrix(np.roll(np.eye(5), 1, axis=1))
    assert (power(ring, 5).P.toarray() == np.eye(5)).all()
    assert (power(ring, 10**12 + 1).P.toarray() == ring.P.toarray()).all()


@given(chains(traps=True))
def test_pairs_are_the_same_runs(chain):
    two = pairs(chain)
    assert np.allclose(two.P.sum(axis=1) + two.stop, 1, atol=1e-14)
    last = {name: name.rsplit(" > ", 1)[-1] for name in two.names}
    ends = {}
    for o in absorption(two).outcomes:
        if o.kind == "stop":
            ends[last[o.outcome]] = ends.get(last[o.outcome], 0.0) + o.probability
    assert ends == pytest.approx(
        {name: o.probability for name, o in outcomes(chain).items() if o.kind == "stop"}, rel=1e-12
    )
    seen = dict.fromkeys(chain.names, 0.0)
    for v in visits(two).nodes:
        seen[last[v.node]] += v.visits
    assert list(seen.values()) == pytest.approx([v.visits for v in visits(chain).nodes], rel=1e-12)


def test_pairs_have_names_that_differ():
    chain = Chain.from_matrix([[0, 1, 0], [0, 0, 1], [0, 0, 0]], ["a > b", "a", "b"], stop=[0, 0, 1])
    assert pairs(chain).names == ('"a > b"', '"a > b" > a', "a > b")
    assert pairs(chain, "b").names[0] == "b"
