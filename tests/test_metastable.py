import json
from fractions import Fraction
from itertools import pairwise
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from flowstat.analyze import eigen, factored_inverse, sought
from flowstat.analyze.membership import basis, memberships
from flowstat.analyze.metastable import Metastable, metastable
from flowstat.errors import AnalysisError, ChainError
from flowstat.estimate.chain import Chain
from tests.oracles import chain_of, chains, pit, relabelled, shop, traps_of


def planted(sizes: list[int], apart: float, seed: int, symmetric: bool = False) -> Chain:
    """Blocks of random chances, and a little everywhere."""
    rng, n = np.random.default_rng(seed), sum(sizes)
    A, at = apart * rng.random((n, n)), 0
    for size in sizes:
        A[at : at + size, at : at + size] += rng.random((size, size)) + 0.1
        at += size
    if symmetric:
        A = A + A.T
    return Chain.from_matrix(A / A.sum(axis=1, keepdims=True))


def blocks(k: int, m: int, tiny: float, onward: float = 1.0) -> Chain:
    """k blocks of m nodes in a ring: all nodes of a block lead to the next with the same chance, and back."""
    forth, back = np.roll(np.eye(k), 1, axis=1), np.roll(np.eye(k), -1, axis=1)
    Q = (1 - tiny) * np.eye(k) + tiny * (onward * forth + (1 - onward) * back)
    return Chain.from_matrix(np.kron(Q, np.full((m, m), 1 / m)))


def holds(found: Metastable) -> None:
    """What is so of every answer."""
    chi = found.memberships
    assert chi.shape == (len(found.nodes), len(found.groups))
    assert (chi >= 0).all()
    assert chi.sum(axis=1) == pytest.approx(1, abs=1e-12)
    assert found.between.sum(axis=1) == pytest.approx(1, abs=1e-9)
    assert sum(g.weight for g in found.groups) == pytest.approx(1)
    assert sorted(name for g in found.groups for name in g.nodes) == sorted(found.nodes)
    assert [g.weight for g in found.groups] == sorted((g.weight for g in found.groups), reverse=True)
    assert 0 < found.crispness <= 1
    json.dumps(found.to_dict(), allow_nan=False)
    assert str(found)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("sizes", [[4, 4], [5, 7, 4, 6], [2, 3, 9, 2, 5], [8, 30, 3]])
def test_planted_groups_are_found(sizes: list[int], symmetric: bool) -> None:
    chain = planted(sizes, 1e-4, len(sizes), symmetric)
    found = metastable(chain)
    holds(found)
    assert found.method == ("PCCA+" if symmetric else "GPCCA")
    ends = np.cumsum([0, *sizes])
    wanted = {tuple(chain.names[a:b]) for a, b in pairwise(ends)}
    assert {g.nodes for g in found.groups} == wanted
    assert found.crispness > 0.99
    assert found.residual < 1e-12
    leading = np.sort(np.linalg.eigvals(chain.P.toarray()).real)[::-1]
    assert [real for real, _ in found.eigenvalues] == pytest.approx(leading[: len(sizes)], abs=1e-12)
    assert found.next_eigenvalue == pytest.approx(leading[len(sizes)], abs=1e-12)
    P, law = chain.P.toarray(), np.linalg.matrix_power(chain.P.toarray(), 2**20)[0]
    for g in found.groups:
        inside = np.isin(chain.names, g.nodes)
        stays = law[inside] @ P[np.ix_(inside, inside)].sum(axis=1) / law[inside].sum()
        assert g.weight == pytest.approx(law[inside].sum(), abs=1e-9)
        assert g.stays == pytest.approx(stays, abs=1e-9)
        assert g.events == pytest.approx(1 / (1 - stays), rel=1e-6)
        assert max(g.weight_bound, g.stays_bound) < 1e-9
        assert g.events_bound < 1e-9 * g.events


@pytest.mark.parametrize("tiny", [0.01, 1e-9, 1e-17])
@pytest.mark.parametrize(("k", "onward"), [(2, 1.0), (3, 0.5), (3, 1.0), (5, 0.7)])
def test_blocks_that_lump_exactly(k: int, onward: float, tiny: float) -> None:
    """All nodes of a block lead out with the same chance: groups are crisp, and between them is the lumped chain."""
    found = metastable(blocks(k, 3, tiny, onward))
    holds(found)
    assert found.crispness == pytest.approx(1, abs=1e-9)
    assert len(found.groups) == k
    for g in found.groups:
        assert g.events == pytest.approx(1 / tiny, rel=1e-12)
        assert g.crisp == pytest.approx(1, abs=1e-9)
    off = np.sort(found.between[~np.eye(k, dtype=bool)])[::-1] / tiny
    both = [1.0] if k == 2 else [onward, 1 - onward]
    wanted = sorted((v for v in both for _ in range(k)), reverse=True)
    assert off[: len(wanted)] == pytest.approx(wanted, rel=1e-6, abs=1e-6)


def test_another_implementation_finds_the_same() -> None:
    """Memberships and crispness by pygpcca 1.0.4 (`z="LR"`, three groups), of a chain that is not reversible."""
    P = np.array(
        [
            [0.70, 0.25, 0.05, 0.00, 0.00, 0.00, 0.00],
            [0.30, 0.60, 0.00, 0.10, 0.00, 0.00, 0.00],
            [0.00, 0.05, 0.80, 0.15, 0.00, 0.00, 0.00],
            [0.00, 0.00, 0.30, 0.60, 0.10, 0.00, 0.00],
            [0.00, 0.02, 0.00, 0.00, 0.50, 0.40, 0.08],
            [0.00, 0.00, 0.00, 0.03, 0.30, 0.60, 0.07],
            [0.04, 0.00, 0.00, 0.00, 0.26, 0.20, 0.50],
        ]
    )
    theirs = np.array(
        [
            [0.000004, 0.999970, 0.000026],
            [0.027093, 0.900354, 0.072553],
            [0.000000, 0.096373, 0.903627],
            [0.185190, 0.000000, 0.814810],
            [0.949703, 0.027366, 0.022931],
            [0.943189, 0.000008, 0.056802],
            [0.917430, 0.082570, 0.000000],
        ]
    )
    found = metastable(Chain.from_matrix(P), 3)
    holds(found)
    assert [g.nodes for g in found.groups] == [("4", "5", "6"), ("2", "3"), ("0", "1")]
    assert 0.8488057266725392 <= found.crispness < 0.86
    assert found.memberships == pytest.approx(theirs[:, [0, 2, 1]], abs=0.05)


@settings(max_examples=100)
@given(chains(traps=True), st.integers(1, 5))
def test_any_chain_has_groups_or_a_reason(chain: Chain, groups: int) -> None:
    traps = [t for t in traps_of(chain) if t & set(absorbed(chain))]
    found: Metastable | str
    try:
        found = metastable(chain, groups)
    except AnalysisError as error:
        found = str(error)
    if isinstance(found, str):
        reasons = ("closed classes", "groups of", "are not 0", "cut a pair", "nearly dependent")
        assert any(reason in found for reason in reasons)
        return
    holds(found)
    assert len(found.groups) == groups
    assert found.restarted == (not traps)


def absorbed(chain: Chain) -> set[str]:
    reached = chain.start > 0
    for _ in chain.names:
        reached = reached | (chain.P.T @ reached > 0)
    return {name for name, yes in zip(chain.names, reached, strict=True) if yes}


@pytest.mark.parametrize("seed", range(3))
def test_names_and_order_do_not_matter(seed: int) -> None:
    chain = planted([3, 4, 5], 1e-3, seed)
    order = np.random.default_rng(seed).permutation(12)
    names = {name: f"n{name}" for name in chain.names}
    one, other = metastable(chain), metastable(relabelled(chain, order.tolist(), names))
    assert [{names[n] for n in g.nodes} for g in one.groups] == [set(g.nodes) for g in other.groups]
    place = [other.nodes.index(names[name]) for name in one.nodes]
    assert other.memberships[place] == pytest.approx(one.memberships, abs=1e-4)


@pytest.mark.parametrize("symmetric", [True, False])
def test_large_classes_are_as_small_ones(monkeypatch: pytest.MonkeyPatch, symmetric: bool) -> None:
    chain = planted([20, 30, 25], 1e-3, 7, symmetric)
    whole = metastable(chain)
    monkeypatch.setattr(eigen, "WHOLE", 1)
    monkeypatch.setattr("flowstat.analyze.membership.POINTS", 40)
    some = metastable(chain)
    assert [g.nodes for g in some.groups] == [g.nodes for g in whole.groups]
    assert some.memberships == pytest.approx(whole.memberships, abs=1e-3)
    holds(some)


def test_runs_that_end_start_again() -> None:
    """Two retry loops, one after the other: each holds a run for long."""
    chain = chain_of({"a": {"b": 1}, "b": {"a": 0.99, "x": 0.01}, "x": {"y": 1}, "y": {"x": 0.98}})
    found = metastable(chain)
    holds(found)
    assert found.restarted
    assert "each end starts a new run" in str(found)
    assert {g.nodes for g in found.groups} == {("a", "b"), ("x", "y")}


def test_nothing_slow_is_one_group() -> None:
    found = metastable(shop())
    assert len(found.groups) == 1
    assert "No part is much slower" in str(found)
    assert found.groups[0].events == inf
    holds(found)
    alone = metastable(chain_of({"a": {"a": 1}}))
    assert [g.nodes for g in alone.groups] == [("a",)]
    once = metastable(chain_of({"a": {}}))
    assert (once.restarted, len(once.groups)) == (True, 1)


def test_weights_and_stays_in_fractions() -> None:
    """A ring of two pairs: what is said of the groups lies within the bounds, and no chance leaves 0..1."""
    half, few = Fraction(1, 2), Fraction(1, 2**20)
    table = {
        "a": {"b": 1 - few, "x": few},
        "b": {"a": half, "b": half},
        "x": {"y": 1 - 3 * few, "a": 3 * few},
        "y": {"x": half, "y": half},
    }
    found = metastable(chain_of(table))
    # As many go from a to x as back: of 3 events at a there is 1 at x, and twice what goes on to b there, and to y.
    sizes = 3 + 6 * (1 - few), 1 + 2 * (1 - 3 * few)
    for g, size in zip(found.groups, sizes, strict=True):
        weight, leaves = size / sum(sizes), 3 * few / size
        assert abs(Fraction(g.weight) - weight) <= Fraction(g.weight_bound)
        assert abs(1 - Fraction(g.stays) - leaves) <= Fraction(g.stays_bound)
        assert abs(Fraction(g.events) - 1 / leaves) <= Fraction(g.events_bound)
    vague = metastable(shop(), 3)
    assert all(0 <= g.stays <= 1 for g in vague.groups)
    assert "Groups are vague" in str(vague)


def test_as_many_groups_as_nodes() -> None:
    found = metastable(planted([2, 2], 1e-2, 0, True), 4)
    assert [len(g.nodes) for g in found.groups] == [1, 1, 1, 1]
    assert found.crispness == pytest.approx(1)


def test_questions_without_an_answer() -> None:
    with pytest.raises(AnalysisError, match="2 closed classes"):
        metastable(pit())
    with pytest.raises(AnalysisError, match="or end"):
        metastable(chain_of({"a": {"b": 0.5}, "b": {"b": 1}}))
    assert metastable(pit(), start="pong").nodes == ("ping", "pong")
    for groups in (0, 3):
        with pytest.raises(AnalysisError, match="1 to 2 groups"):
            metastable(pit(), groups, "ping")
    with pytest.raises(AnalysisError, match="ask for 1 or 3"):
        metastable(blocks(3, 2, 0.01), 2)
    with pytest.raises(ChainError):
        metastable(shop(), start="nobody")


def test_a_basis_says_when_it_is_none() -> None:
    law = np.full(5, 0.2)
    X, least = basis(np.arange(5.0)[:, None], law)
    assert X.T @ (law[:, None] * X) == pytest.approx(np.eye(2), abs=1e-12)
    assert least > 0.5
    assert basis(np.ones((5, 1)), law)[1] < 1e-8
    chi, crispness = memberships(X)
    # On a line every node between the ends is in between.
    assert np.sort(chi[:, 0]) == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert crispness == pytest.approx(0.75)


def test_a_crowd_has_no_groups() -> None:
    """One class that mixes well, too large to be decomposed: one group, or an error that says why, both soon."""
    rng, n = np.random.default_rng(0), 400
    columns = rng.integers(0, n, (n, 4))
    columns[:, 0] = (np.arange(n) + 1) % n
    P = sparse.csr_array((np.full(4 * n, 0.25), (np.repeat(np.arange(n), 4), columns.ravel())), shape=(n, n))
    chain = Chain.from_matrix(P, None, "0")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(eigen, "WHOLE", 1)
        patch.setattr(sought, "RESTARTS", 1)
        found = metastable(chain)
        assert len(found.groups) == 1
        assert found.crowd == pytest.approx(np.sort(np.abs(np.linalg.eigvals(P.toarray())))[-2], rel=0.1)
        assert found.next_eigenvalue is None
        assert "no eigenvalue but the first stands out" in str(found)
        with pytest.raises(AnalysisError, match="stand out"):
            metastable(chain, 2)


def test_a_long_program_with_retry_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restarted, it is one class that falls into small ones without its start: its factors are as small."""
    rng, k = np.random.default_rng(1), 100
    P = sparse.lil_array((4 * k, 4 * k))
    for b in range(k):
        at, leave = 4 * b, 10.0 ** -rng.uniform(0.5, 1.5) if b not in (17, 66) else 1e-5
        for j in range(4):
            P[at + j, at + (j + 1) % 4] = 0.6 * (1 - leave)
            P[at + j, at + (j + 2) % 4] = 0.4 * (1 - leave)
            for onward in rng.integers(b + 1, b + 20, 2).tolist():
                if onward < k:
                    P[at + j, 4 * onward] += leave / 2
    P = sparse.csr_array(P)
    chain = Chain.from_matrix(P, None, "0", stop=np.maximum(0.0, 1 - np.asarray(P.sum(axis=1)).ravel()))
    whole = metastable(chain)
    monkeypatch.setattr(eigen, "WHOLE", 1)
    monkeypatch.setattr(factored_inverse, "FACTORS", 4000)
    found = metastable(chain)
    holds(found)
    assert found.nearest
    assert len(found.groups) == len(whole.groups) > 1
    assert [g.nodes for g in found.groups] == [g.nodes for g in whole.groups]
    assert [v for v, _ in found.eigenvalues] == pytest.approx([v for v, _ in whole.eigenvalues], abs=1e-9)
