from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import sparse

from flowstat.analyze import restriction, solve
from flowstat.analyze.absorption import absorption
from flowstat.analyze.restriction import restrict
from flowstat.analyze.visits import visits
from flowstat.errors import AnalysisError, ChainError
from flowstat.estimate.chain import Chain
from tests.oracles import LETTERS, chains, pit, relabelled, shop
from tests.test_bounds import check, dyadic, solution, transient


def brute(chain, keep):
    """Play the chain step by step until it comes to a node that is watched: P, start and the share that is seen."""
    P = chain.P.toarray()
    others = [i for i in range(len(chain.names)) if i not in keep]
    arrived = np.zeros((len(others), len(keep)))
    on = np.eye(len(others))
    for _ in range(2000):
        arrived += on @ P[np.ix_(others, keep)]
        on = on @ P[np.ix_(others, others)]
    start = chain.start[keep] + chain.start[others] @ arrived
    return P[np.ix_(keep, keep)] + P[np.ix_(keep, others)] @ arrived, start


@given(chains(traps=True), st.data())
def test_it_is_the_chain_seen_on_some_nodes(chain, data):
    names = data.draw(st.lists(st.sampled_from(chain.names), min_size=1, unique=True))
    keep = sorted(chain.index[name] for name in names)
    P, start = brute(chain, keep)
    if start.sum() == 0:
        with pytest.raises(AnalysisError, match="no run comes to any"):
            restrict(chain, names)
        return
    seen = restrict(chain, names)
    assert seen.names == tuple(chain.names[i] for i in keep)
    assert np.allclose(seen.P.toarray(), P, atol=1e-8)
    assert np.allclose(seen.start, start / start.sum(), atol=1e-8)
    assert np.isclose(seen.chance, start.sum(), atol=1e-8)
    assert np.allclose(seen.P.sum(axis=1) + seen.stop, 1, atol=1e-13)
    assert seen.error_bound < 1e-12


@given(chains(traps=True), st.data())
def test_either_way_to_solve_gives_the_same(chain, data):
    """Whether the watched nodes or the ways to them are solved for, densely or not."""
    names = data.draw(st.lists(st.sampled_from(chain.names), min_size=1, unique=True))
    try:
        first = restrict(chain, names)
    except AnalysisError:
        assume(False)
    for fewer, dense in ((lambda a, b: True, 1500), (lambda a, b: False, 1500), (lambda a, b: a <= b, 1)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(restriction, "SLICE", 1)
            patch.setattr(restriction, "_fewer", fewer)
            patch.setattr(solve, "DENSE", dense)
            again = restrict(chain, names)
        assert abs(first.P - again.P).max() <= first.error_bound + again.error_bound
        assert np.abs(first.stop - again.stop).max() <= first.error_bound + again.error_bound
        assert np.abs(first.start - again.start).max() <= first.error_bound + again.error_bound


def test_visits_of_the_restricted_chain_are_visits_of_the_chain():
    chain = shop()
    nodes = ["check", "ship", "done"]
    seen = restrict(chain, nodes)
    all_visits = {v.node: v.visits for v in visits(chain).nodes}
    for v in visits(seen).nodes:
        assert v.visits * seen.chance == pytest.approx(all_visits[v.node], rel=1e-12)


def test_traps_that_are_not_watched_end_a_run_and_watched_ones_stay_traps():
    seen = restrict(pit(), ["a", "stuck"])
    kinds = {o.outcome: (o.kind, o.probability) for o in absorption(seen, "a").outcomes}
    whole = {o.outcome: o.probability for o in absorption(pit(), "a").outcomes}
    assert kinds["stuck"] == ("trap", pytest.approx(whole["stuck"], rel=1e-12))
    assert kinds["a"][0] == "stop"
    assert kinds["a"][1] == pytest.approx(1 - whole["stuck"], rel=1e-12)


@given(chains(), st.permutations(range(5)))
def test_other_names_change_nothing(chain, order):
    order = [i for i in order if i < len(chain.names)]
    names = dict(zip(LETTERS, "uvwxyz", strict=True))
    keep = chain.names[:1]
    try:
        one = restrict(chain, keep)
    except AnalysisError:
        return
    other = restrict(relabelled(chain, order, names), [names[k] for k in keep])
    assert other.P.toarray() == pytest.approx(one.P.toarray(), rel=1e-12)
    assert other.stop == pytest.approx(one.stop, rel=1e-12)


@pytest.mark.parametrize("dense", [1500, 1])
def test_the_exact_answer_lies_within_the_bound(monkeypatch, dense):
    monkeypatch.setattr(solve, "DENSE", dense)
    rng = np.random.default_rng(5)
    solved = 0
    for _ in range(150):
        chain = dyadic(rng)
        n = len(chain.names)
        keep = sorted(rng.permutation(n)[: int(rng.integers(1, n + 1))].tolist())
        others = [i for i in range(n) if i not in keep]
        P = [[Fraction(float(value)) for value in row] for row in chain.P.toarray()]
        within, _ = transient(_cut(chain, keep))
        free = [i for i in others if i in within]
        system = [[(i == j) - P[i][j] for j in free] for i in free]
        try:
            seen = restrict(chain, [chain.names[i] for i in keep])
        except AnalysisError:
            continue
        solved += 1
        for at, k in enumerate(keep):
            x = solution(system, [P[i][k] for i in free]) if free else []
            exact = [P[i][k] + sum(P[i][j] * value for j, value in zip(free, x, strict=True)) for i in keep]
            check(seen.P.toarray()[:, at], [seen.error_bound] * len(keep), exact)
    assert solved > 100


def _cut(chain, keep):
    """Return the chain whose watched nodes are ends."""
    P, stop = chain.P.toarray(), chain.stop.copy()
    P[keep], stop[keep] = 0.0, 1.0
    return Chain.from_matrix(P, chain.names, stop=stop)


def test_tiny_chances_are_not_lost():
    # Two unseen nodes hand each other the flow, with exits of 3e-13 and 1e-13; a way of 1e-17 beside.
    P = [[0, 1, 0, 0, 0], [0, 0, 1 - 3e-13, 3e-13, 0], [0, 1 - 1e-13, 0, 0, 1e-13], [0] * 5, [0] * 5]
    seen = restrict(Chain.from_matrix(P, list("abcde"), "a", stop=[0, 0, 0, 1, 1]), list("ade"))
    assert seen.P.toarray()[0] == pytest.approx([0, 0.75, 0.25], rel=1e-12)
    P = [[0, 1 - 1e-17, 1e-17], [1, 0, 0], [0, 0, 0]]
    rare = restrict(Chain.from_matrix(P, list("abc"), "a", stop=[0, 0, 1]), ["a", "c"])
    assert rare.P.toarray()[0, 1] == 1e-17


def test_a_start_that_is_not_watched():
    seen = restrict(shop(), ["ship", "done"], start="order")
    assert seen.start.sum() == pytest.approx(1, abs=1e-14)
    assert seen.chance == pytest.approx({v.node: v.reached for v in visits(shop(), "order").nodes}["ship"], rel=1e-12)
    assert restrict(shop(), ["ship"], start={"done": 0.5, "ship": 0.5}).chance == 0.5


def test_all_nodes_and_one_node():
    chain = shop()
    same = restrict(chain, chain.names)
    assert abs(same.P - chain.P).max() == 0
    assert same.chance == 1
    one = restrict(chain, "pay")
    assert one.names == ("pay",)
    assert one.P.toarray()[0, 0] == pytest.approx({v.node: v.again for v in visits(chain).nodes}["pay"], rel=1e-12)


def test_refusals():
    with pytest.raises(ChainError, match="no node is called 'x': there are order"):
        restrict(shop(), ["x"])
    with pytest.raises(ChainError, match="name at least one"):
        restrict(shop(), [])
    with pytest.raises(AnalysisError, match="no run comes to any"):
        restrict(shop(), ["order"], start="pay")
    with pytest.raises(ChainError, match="no node is called"):
        restrict(shop(), ["order"], start="nowhere")


def test_what_would_fill_the_memory_is_refused(monkeypatch):
    monkeypatch.setattr(restriction, "MOST", 2)
    with pytest.raises(AnalysisError, match="more than 2"):
        restrict(shop(), ["order", "check", "pay", "done"])


def test_a_large_chain_seen_on_few_nodes_and_without_few():
    rng = np.random.default_rng(6)
    n = 20_000
    rows = np.repeat(np.arange(n), 3)
    # Classes of up to forty nodes, each leading on to the next ones.
    columns = rows // 40 * 40 + rng.integers(0, 40, 3 * n)
    onward = rng.random(3 * n) < 0.1
    columns = np.minimum(np.where(onward, columns + 40 * rng.integers(1, 3, 3 * n), columns), n - 1)
    shares = rng.random((n, 3))
    shares *= 0.99 / shares.sum(axis=1, keepdims=True)
    P = sparse.csr_array((shares.ravel(), (rows, columns)), shape=(n, n))
    chain = Chain.from_matrix(P, start="0", stop=1 - P.sum(axis=1))
    for nodes in (["0", "70", "19000"], [str(k) for k in range(n) if k % 7], [str(k) for k in range(0, n, 500)]):
        seen = restrict(chain, nodes)
        assert np.allclose(seen.P.sum(axis=1) + seen.stop, 1, atol=1e-12)
        assert seen.error_bound < 1e-11
        few = {v.node: v.visits for v in visits(seen).nodes}
        whole = {v.node: v.visits for v in visits(chain).nodes}
        assert few[nodes[1]] * seen.chance == pytest.approx(whole[nodes[1]], rel=1e-9, abs=1e-300)
