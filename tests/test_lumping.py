from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from flowstat.analyze import partition
from flowstat.analyze.absorption import absorption
from flowstat.analyze.lumping import coarsest, lump
from flowstat.errors import AnalysisError, ChainError
from flowstat.estimate.chain import Chain
from tests.oracles import LETTERS, chain_of, chains, exact, relabelled, shop


def by_definition(chain, groups):
    """Refine a partition in fractions until it is a chain's, all groups against all: the definition itself."""
    P = [[exact(p) for p in row] for row in chain.P.toarray().tolist()]
    label = groups
    while True:
        signs = []
        for i, row in enumerate(P):
            toward = {}
            for j, p in enumerate(row):
                toward[label[j]] = toward.get(label[j], Fraction(0)) + p
            signs.append((label[i], exact(chain.stop[i]), frozenset((k, p) for k, p in toward.items() if p)))
        numbers = {}
        new = [numbers.setdefault(sign, len(numbers)) for sign in signs]
        if len(numbers) == len(set(label)):
            return new
        label = new


def blocks(label, names):
    return {frozenset(name for name, k in zip(names, label, strict=True) if k == g) for g in set(label)}


def lifted(rng):
    """Return a chain of groups, and one whose nodes lump to it, with the group of each of its nodes."""
    g = int(rng.integers(1, 6))
    W = rng.integers(0, 4, (g, g + 1)) * (rng.random((g, g + 1)) < 0.6)
    W[W.sum(axis=1) == 0, g] = 1
    small = W / W.sum(axis=1, keepdims=True)
    label = np.repeat(np.arange(g), rng.integers(1, 5, g))
    rng.shuffle(label)
    label = np.unique(label, return_inverse=True)[1]
    n = len(label)
    P = np.zeros((n, n))
    for i in range(n):
        for k in range(g):
            members = np.flatnonzero(label == k)
            weights = rng.random(len(members)) * (rng.random(len(members)) < 0.7)
            weights[0] += 1e-3
            P[i, members] = small[label[i], k] * weights / weights.sum()
    law = rng.random(n)
    names = [f"n{k}" for k in range(n)]
    big = Chain.from_matrix(P, names, dict(zip(names, law / law.sum(), strict=True)), stop=small[label, g])
    return small, big, label


@pytest.mark.parametrize("seed", range(100))
def test_a_chain_that_was_blown_up_is_lumped_again(seed):
    small, big, label = lifted(np.random.default_rng(seed))
    groups = {f"g{k}": [big.names[i] for i in np.flatnonzero(label == k)] for k in range(len(small))}
    found = lump(big, groups)
    at = [found.index[f"g{k}"] for k in range(len(small))]
    assert np.allclose(found.P.toarray()[np.ix_(at, at)], small[:, :-1], atol=1e-14)
    assert np.allclose(found.stop[at], small[:, -1], atol=1e-14)
    assert np.allclose(found.start[at], [big.start[label == k].sum() for k in range(len(small))], atol=1e-14)
    assert np.abs(found.P.toarray()[np.ix_(at, at)] - small[:, :-1]).max() <= found.error_bound < 1e-12
    assert len(coarsest(big).names) <= len(small)


@given(chains(largest=6, traps=True), st.lists(st.sampled_from([0, 0, 1]), min_size=6, max_size=6))
def test_the_coarsest_lumping_is_that_of_the_definition(chain, first):
    n = len(chain.names)
    found = coarsest(chain)
    assert set(map(frozenset, found.groups)) == blocks(by_definition(chain, [0] * n), chain.names)
    apart = [[name for name, k in zip(chain.names, first, strict=False) if k]]
    if apart[0]:
        found = coarsest(chain, apart)
        assert set(map(frozenset, found.groups)) == blocks(by_definition(chain, first[:n]), chain.names)


@pytest.mark.parametrize("seed", range(40))
def test_the_coarsest_lumping_of_larger_chains(seed):
    """Few different rows, so that much can be lumped, and splits follow from splits."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(20, 60))
    P = np.zeros((n, n))
    for i in range(n):
        P[i, rng.integers(0, n, 2)] += 0.5 if rng.random() < 0.9 else 0.25
    stop = 1 - P.sum(axis=1)
    chain = Chain.from_matrix(P, stop=stop)
    found = coarsest(chain, [["0"]])
    assert set(map(frozenset, found.groups)) == blocks(by_definition(chain, [1] + [0] * (n - 1)), chain.names)


@given(chains(largest=6), st.permutations(range(6)))
def test_names_and_order_change_no_lumping(chain, order):
    order = [i for i in order if i < len(chain.names)]
    names = dict(zip(LETTERS, "uvwxyz", strict=True))
    one, other = coarsest(chain), coarsest(relabelled(chain, order, names))
    assert {frozenset(names[x] for x in g) for g in one.groups} == set(map(frozenset, other.groups))


def test_outcomes_that_are_kept_apart_keep_their_chances():
    chain = shop()
    groups = {"fine": ["done"], "left": ["order", "check", "pay", "wait", "ship"]}
    small = coarsest(chain, groups)
    fine = {o.outcome: o.probability for o in absorption(chain).outcomes}["done"]
    assert {o.outcome: o.probability for o in absorption(small).outcomes}["fine"] == pytest.approx(fine, rel=1e-12)
    assert "left" not in small.names


def test_what_is_no_chain_is_refused_with_the_worst_pair():
    with pytest.raises(AnalysisError, match=r"of 'mid', the node 'pay' leads to 'ship' with 0.55 and 'wait' with 0"):
        lump(shop(), {"mid": ["pay", "wait"]})
    with pytest.raises(AnalysisError, match=r"leads to '\(end\)' with 1 and 'ship' with 0"):
        lump(shop(), [["ship", "done"]])


def test_tiny_chances_are_told_apart():
    """A difference of 1e-17 is a difference: one way out is three times the other."""
    chain = chain_of({"a": {"b": 1, "(end)": 3e-17}, "b": {"a": 1, "(end)": 1e-17}})
    assert len(coarsest(chain).names) == 2
    with pytest.raises(AnalysisError, match="no Markov chain"):
        lump(chain, {"ab": ["a", "b"]})
    P = [[0, 0, 1e-17, 1, 0], [0, 0, 3e-17, 1, 0], [0] * 5, [0.5, 0.5, 0, 0, 0], [0, 0, 0, 1, 0]]
    chain = Chain.from_matrix(P, list("abcde"), stop=[0, 0, 1, 0, 0])
    assert ("a", "b") not in coarsest(chain).groups


def test_what_is_hidden_by_the_largest_part_is_found():
    """Both lead to the large group with 1, but for rounding, and to a small one with 1e-20 or 2e-20."""
    n = 8
    P = np.zeros((n, n))
    P[0, 2], P[0, 7] = 1, 1e-20
    P[1, 3], P[1, 7] = 1, 2e-20
    P[2:7, 2:7] = np.roll(np.eye(5), 1, axis=1)
    P[7, 7] = 1
    chain = Chain.from_matrix(P)
    found = coarsest(chain, [["0", "1"], ["7"]])
    assert ("0",) in found.groups
    assert ("1",) in found.groups
    assert ("2", "3", "4", "5", "6") in found.groups


def test_sums_in_any_order_are_the_same():
    shares = np.array([0.1] * 10)
    P = np.zeros((22, 22))
    for i in range(2):
        P[i, 2 + i * 10 : 12 + i * 10] = shares
    P[0, 2:12] = 0.0
    P[0, 2], P[0, 3] = 0.3, 0.7
    chain = Chain.from_matrix(P, stop=[0, 0] + [1] * 20)
    assert len(coarsest(chain).names) == 2


def test_one_node_and_all_nodes():
    one = Chain.from_matrix([[1]], ["a"])
    assert coarsest(one).groups == (("a",),)
    assert lump(one, {"all": ["a"]}).names == ("all",)
    ring = Chain.from_matrix(np.roll(np.eye(30), 1, axis=1))
    assert coarsest(ring).names[0].startswith("{0, 1, 2, 3, 4, 5, 6, 7 and 22 more")
    assert len(coarsest(ring, [["0"]]).names) == 30
    assert lump(shop(), {}).names == shop().names


def test_refusals():
    with pytest.raises(ChainError, match="no node is called 'x'"):
        lump(shop(), {"g": ["x"]})
    with pytest.raises(ChainError, match="'pay' is in two groups"):
        coarsest(shop(), [["pay"], ["pay", "ship"]])
    with pytest.raises(ChainError, match="name at least one"):
        lump(shop(), {"g": []})
    with pytest.raises(ChainError, match="there twice"):
        lump(chain_of({"a": {"b": 1}, "b": {}, "c": {}}), {"a": ["b", "c"]})
    with pytest.raises(ChainError, match="where runs stop"):
        lump(shop(), {"(end)": ["pay"]})
    with pytest.raises(ChainError, match="groups are"):
        lump(shop(), "pay")
    for tolerance in (-1, 1, float("nan")):
        with pytest.raises(AnalysisError, match="tolerance"):
            coarsest(shop(), tolerance=tolerance)


def line(n, back):
    """Return a line of n states, each of which leads to the next, and back with a chance."""
    P = sparse.diags_array([np.full(n - 1, 1 - back), np.full(n - 1, back / 2)], offsets=[1, -1], format="csr")
    return Chain.from_matrix(P, stop=1 - np.asarray(P.sum(axis=1)).ravel())


@pytest.mark.parametrize("back", [0, 0.5])
def test_a_long_line_takes_few_steps_for_each_of_its_states(monkeypatch, back):
    """Of its rounds, one a state, all but the first few look at one or two states, and not with arrays of them."""
    rounds = []
    many = partition._Partition._signed
    monkeypatch.setattr(partition._Partition, "_signed", lambda self, some: rounds.append(1) or many(self, some))
    assert len(coarsest(line(2000, back)).groups) == 2000
    assert len(rounds) < 20


@given(chains(largest=6, traps=True), st.lists(st.sampled_from([0, 0, 1]), min_size=6, max_size=6))
def test_few_states_are_split_as_many_are(chain, first):
    groups = [[name for name, k in zip(chain.names, first, strict=False) if k == g] for g in (0, 1)]
    found = []
    for few in (-1, 12):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(partition, "FEW", few)
            found.append(coarsest(chain, [group for group in groups if group]).groups)
    assert found[0] == found[1]


@pytest.mark.parametrize("seed", range(60))
def test_few_states_of_larger_chains_are_split_as_many_are(monkeypatch, seed):
    chain = lifted(np.random.default_rng(seed))[1]
    found = coarsest(chain).groups
    monkeypatch.setattr(partition, "FEW", -1)
    assert found == coarsest(chain).groups


def test_a_large_chain_is_lumped_fast():
    """Half a million arrows of a thousand kinds of nodes, each kind a hundred times."""
    rng = np.random.default_rng(9)
    kinds, copies = 1000, 100
    to = rng.integers(0, kinds, (kinds, 4))
    shares = rng.dirichlet(np.ones(5), kinds)
    kind = np.tile(np.arange(kinds), copies)
    n = len(kind)
    columns = to[kind] + kinds * rng.integers(0, copies, (n, 4))
    values = shares[kind, :4]
    P = sparse.csr_array((values.ravel(), (np.repeat(np.arange(n), 4), columns.ravel())), shape=(n, n))
    found = coarsest(Chain.from_matrix(P, stop=shares[kind, 4]))
    assert len(found.names) == kinds
    assert found.groups[3] == tuple(str(k) for k in range(3, n, kinds))
