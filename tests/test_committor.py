import json
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from flowstat.analyze import solve
from flowstat.analyze.committor import Committor, committor
from flowstat.analyze.passages import passages
from flowstat.analyze.reactive import ReactiveFlow, reactive_flow
from flowstat.errors import AnalysisError, ChainError
from flowstat.estimate.chain import END, Chain
from tests.oracles import (
    Simulated,
    chain_of,
    chains,
    hit,
    mean_agrees,
    pit,
    pit_runs,
    relabelled,
    shop,
    shop_runs,
    traps_of,
)
from tests.test_bounds import check, dyadic, solution


def table(found: Committor) -> dict[str, tuple[float, float | None, float]]:
    return {v.node: (v.forward, v.backward, v.reactive) for v in found.nodes}


def ring(n: int, seed: int, symmetric: bool = False) -> Chain:
    """A closed class of n nodes."""
    rng = np.random.default_rng(seed)
    A = rng.random((n, n)) * (rng.random((n, n)) < 0.4) + 0.1 * np.roll(np.eye(n), 1, axis=1)
    A = A + A.T if symmetric else A
    return Chain.from_matrix(A / A.sum(axis=1, keepdims=True))


def brute(P: np.ndarray, a: list[int], b: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Forward and backward committor by the time-reversed chain, and the stationary law, all by dense solves."""
    n = len(P)
    values, vectors = np.linalg.eig(P.T)
    law = vectors[:, np.argmax(values.real)].real
    law = law / law.sum()
    back = P.T * law[None, :] / law[:, None]
    both = []
    for Q, target in ((P, b), (back, a)):
        rest = [i for i in range(n) if i not in a and i not in b]
        x = np.zeros(n)
        x[target] = 1
        x[rest] = np.linalg.solve(np.eye(len(rest)) - Q[np.ix_(rest, rest)], Q[np.ix_(rest, target)].sum(axis=1))
        both.append(x)
    return both[0], both[1], law


@pytest.mark.parametrize("goal", [2, 5, 9])
@pytest.mark.parametrize("p", [Fraction(1, 2), Fraction(1, 3), Fraction(3, 5)])
def test_gamblers_ruin(p: Fraction, goal: int) -> None:
    """From k the goal comes before ruin with (s^k - 1) / (s^goal - 1), s = q/p; fair: k / goal."""
    rows = {str(k): {str(k + 1): p, str(k - 1): 1 - p} for k in range(1, goal)}
    chain = chain_of({"0": {}, str(goal): {}, **rows})
    found = committor(chain, "0", str(goal), start=str(goal - 1))
    s = (1 - p) / p
    for k in range(goal + 1):
        exact = Fraction(k, goal) if s == 1 else (s**k - 1) / (s**goal - 1)
        assert table(found)[str(k)][0] == pytest.approx(float(exact), rel=1e-14)
    assert (found.ensemble, found.flux) == ("runs", 0.0)
    assert "no way leads from 0" in str(found)
    if goal > 2:
        up = committor(chain, "1", str(goal), start="1")
        once = 1 / goal if s == 1 else float((s - 1) / (s**goal - 1))
        assert up.flux == pytest.approx(once, rel=1e-13)


@pytest.mark.parametrize("n", [3, 6, 30])
def test_a_walk_on_a_line(n: int) -> None:
    """Between its ends q+ is linear and q- the rest; 1 of 2 (n - 1) n passages a step, each of n steps or so."""
    P = np.diag(np.full(n - 1, 0.5), 1) + np.diag(np.full(n - 1, 0.5), -1)
    P[0, 0] = P[-1, -1] = 0.5
    found = committor(Chain.from_matrix(P), "0", str(n - 1))
    line = np.arange(n) / (n - 1)
    assert [v.forward for v in found.nodes] == pytest.approx(line, abs=1e-13)
    assert [v.backward for v in found.nodes] == pytest.approx(1 - line, abs=1e-13)
    assert found.ensemble == "stationary"
    assert found.flux == pytest.approx(1 / (2 * n * (n - 1)), rel=1e-13)
    assert found.rate == pytest.approx(2 * found.flux, rel=1e-12)
    assert found.steps == pytest.approx(sum(v.reactive for v in found.nodes[:-1]) / found.flux)
    # A fair walk that comes to n - 1 from 1 before 0 takes ((n - 1)^2 - 1) / 3 steps, and 1 came before.
    assert found.steps == pytest.approx(((n - 1) ** 2 - 1) / 3 + 1, rel=1e-12)
    flow = reactive_flow(Chain.from_matrix(P), "0", str(n - 1))
    assert [p.nodes for p in flow.paths] == [tuple(str(k) for k in range(n))]
    assert flow.paths[0].share == pytest.approx(1, rel=1e-9)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("sets", [([0], [1]), ([0, 3], [5]), ([2], [4, 6, 7])])
def test_the_reversed_chain_agrees(seed: int, sets: tuple[list[int], list[int]]) -> None:
    chain = ring(9, seed, seed % 2 == 0)
    a, b = sets
    found = committor(chain, [str(k) for k in a], [str(k) for k in b])
    forward, backward, law = brute(chain.P.toarray(), a, b)
    assert [v.forward for v in found.nodes] == pytest.approx(forward, abs=1e-12)
    assert [v.backward for v in found.nodes] == pytest.approx(backward, abs=1e-12)
    if seed % 2 == 0:
        assert backward == pytest.approx(1 - forward, abs=1e-12)
    flow = law[:, None] * backward[:, None] * chain.P.toarray() * forward[None, :]
    assert found.flux == pytest.approx(flow[a].sum(), rel=1e-12)
    assert found.rate == pytest.approx(flow[a].sum() / (law @ backward), rel=1e-12)
    inside = flow.sum(axis=1)
    inside[b] = flow[:, b].sum(axis=0)
    assert [v.reactive for v in found.nodes] == pytest.approx(inside, abs=1e-13)
    back = committor(chain, [str(k) for k in b], [str(k) for k in a])
    assert back.flux == pytest.approx(found.flux, rel=1e-11)
    conserved(reactive_flow(chain, [str(k) for k in a], [str(k) for k in b], top=200))


def conserved(flow: ReactiveFlow) -> None:
    """Between the sets as much comes as goes; net is gross one way less the other; paths carry all of it."""
    gross = {(f.source, f.target): f.gross for f in flow.arrows}
    nodes = {name for pair in gross for name in pair}
    for name in nodes - set(flow.a) - set(flow.b):
        into = sum(v for (_, j), v in gross.items() if j == name)
        out = sum(v for (i, _), v in gross.items() if i == name)
        assert into == pytest.approx(out, abs=1e-12)
    for f in flow.arrows:
        assert f.net == pytest.approx(max(0.0, f.gross - gross.get((f.target, f.source), 0.0)), abs=1e-14)
    assert not any(f.target in flow.a or f.source in flow.b for f in flow.arrows)
    assert sum(v for (i, _), v in gross.items() if i in flow.a) == pytest.approx(flow.flux, rel=1e-9)
    if flow.flux:
        assert not flow.more
        assert flow.covered == pytest.approx(1, abs=1e-9)
    left = {(f.source, f.target): f.net for f in flow.arrows}
    for path in flow.paths:
        pairs = list(pairwise(path.nodes))
        assert path.nodes[0] in flow.a
        assert path.nodes[-1] in flow.b
        assert len(set(path.nodes)) == len(path.nodes)
        assert min(pairs, key=left.__getitem__) == path.bottleneck
        for pair in pairs:
            assert left[pair] >= path.flow * (1 - 1e-9)
            left[pair] -= path.flow
    widths = [p.flow for p in flow.paths]
    assert all(later <= earlier * (1 + 1e-9) for earlier, later in pairwise(widths))


def test_the_widest_path_comes_first() -> None:
    """Widest, not shortest: in -> y -> x -> out is as wide as its narrowest arrow."""
    chain = chain_of(
        {
            "in": {"x": Fraction(1, 10), "y": Fraction(6, 10), "z": Fraction(3, 10)},
            "y": {"x": Fraction(9, 10), "z": Fraction(1, 10)},
            "x": {"out": 1},
            "z": {"out": 1},
            "out": {},
        }
    )
    found = reactive_flow(chain, "in", "out")
    assert [(p.name, round(p.share, 9)) for p in found.paths] == [
        ("in -> y -> x -> out", 0.54),
        ("in -> z -> out", 0.3),
        ("in -> x -> out", 0.1),
        ("in -> y -> z -> out", 0.06),
    ]
    assert found.paths[0].bottleneck == ("y", "x")
    assert not found.more
    two = reactive_flow(chain, "in", "out", top=2)
    assert (len(two.paths), two.more) == (2, True)
    assert two.covered == pytest.approx(0.84)
    assert "more paths" in str(two)


def passed(runs: Simulated, a: set[str], b: set[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return, run by run, how many passages there are and how long, and how often each node is on one."""
    names = runs.chain.names
    in_a, in_b = (np.isin((*names, END), list(each)) for each in (a, b))
    count, steps = np.zeros(runs.runs), np.zeros(runs.runs)
    open_, visits = np.zeros(runs.runs, bool), np.zeros((len(names), runs.runs))
    pending, length = np.zeros((len(names), runs.runs)), np.zeros(runs.runs)
    for now in runs.steps:
        alive = np.flatnonzero(now >= 0)
        at = now[alive]
        begins = alive[in_a[at]]
        open_[begins], length[begins] = True, 0
        pending[:, begins] = 0
        going = alive[open_[alive]]
        pending[now[going], going] += 1
        ends = alive[in_b[at] & open_[alive]]
        count[ends] += 1
        steps[ends] += length[ends]
        visits[:, ends] += pending[:, ends]
        open_[alive[in_b[at]]] = False
        length[open_] += 1
    return count, steps, visits


@pytest.mark.parametrize(
    ("which", "a", "b"),
    [
        ("shop", {"order"}, {"ship"}),
        ("shop", {"pay"}, {"wait", "ship"}),
        ("pit", {"a"}, {"stuck"}),
        ("pit", {"c"}, {"b"}),
    ],
)
def test_simulated_runs_pass_as_often(which: str, a: set[str], b: set[str]) -> None:
    chain, runs = (shop(), shop_runs()) if which == "shop" else (pit(), pit_runs())
    found = committor(chain, sorted(a), sorted(b))
    count, steps, visits = passed(runs, a, b)
    assert found.ensemble == "runs"
    assert mean_agrees(count, found.flux)
    assert mean_agrees(steps, found.flux * found.steps)
    for v, each in zip(found.nodes, visits, strict=True):
        assert mean_agrees(each, v.reactive)


@settings(max_examples=150)
@given(chains(traps=True), st.randoms(use_true_random=False))
def test_chances_are_those_of_hitting(chain: Chain, random) -> None:
    assume(len(chain.names) > 1)
    names = list(chain.names)
    random.shuffle(names)
    a, b = [names[0]], [names[1]]
    found = committor(chain, a, b)
    for v in found.nodes:
        assert 0 <= v.forward <= 1
        assert v.backward is None or 0 <= v.backward <= 1
        assert np.isfinite(v.reactive)
        if v.node not in a:
            # Runs that come to A stop there: what is hit then was hit before.
            P = chain.P.toarray()
            P[chain.index[a[0]]] = 0
            stop = chain.stop.copy()
            stop[chain.index[a[0]]] = 1
            cut = Chain.from_matrix(P, chain.names, v.node, stop=stop)
            assert v.forward == pytest.approx(hit(cut, b), abs=1e-11)
    flow = reactive_flow(chain, a, b, top=100)
    conserved(flow)
    assert flow.flux == found.flux
    json.dumps([found.to_dict(), flow.to_dict()], allow_nan=False)
    assert str(found)
    assert str(flow)


@pytest.mark.parametrize("largest", [1500, 1])
def test_exact_answers_lie_within_the_bounds(monkeypatch: pytest.MonkeyPatch, largest: int) -> None:
    monkeypatch.setattr(solve, "DENSE", largest)
    rng, seen = np.random.default_rng(11), {"runs": 0, "stationary": 0}
    for _ in range(600 if largest > 1 else 150):
        chain = dyadic(rng)
        if rng.random() < 0.5:
            chain = Chain.from_matrix(chain.P + np.outer(chain.stop, np.eye(len(chain.names))[0]), start="0")
        n = len(chain.names)
        if n < 3:
            continue
        a, b = 0, 1 + int(rng.integers(n - 1))
        try:
            found, exact = committor(chain, "0", str(b)), passages_exact(chain, a, b)
        except AnalysisError:
            assert largest == 1
            continue
        if exact is None:
            continue
        q, w, v = exact
        seen[found.ensemble] += 1
        P = [[Fraction(float(value)) for value in row] for row in chain.P.toarray()]
        check([v.forward for v in found.nodes], [v.forward_bound for v in found.nodes], q)
        for i, node in enumerate(found.nodes):
            if node.backward is not None and v[i]:
                check([node.backward], [node.backward_bound], [w[i] / v[i]])
            flow = (
                sum(w[k] * P[k][i] * q[i] for k in range(n)) if i == b else sum(w[i] * P[i][k] * q[k] for k in range(n))
            )
            check([node.reactive], [node.reactive_bound], [flow])
        flux = sum(w[a] * P[a][k] * q[k] for k in range(n))
        check([found.flux], [found.flux_bound], [flux])
        if flux:
            rounds = sum(w[i] * P[i][k] * q[k] for i in range(n) for k in range(n))
            check([found.steps, found.rate], [found.steps_bound, found.rate_bound], [rounds / flux, flux / sum(w)])
        for f in reactive_flow(chain, "0", str(b)).arrows:
            i, j = chain.index[f.source], chain.index[f.target]
            check([f.gross], [f.gross_bound], [w[i] * P[i][j] * q[j]])
            check([f.net], [f.net_bound], [max(Fraction(0), w[i] * P[i][j] * q[j] - w[j] * P[j][i] * q[i])])
    assert min(seen.values()) > (60 if largest > 1 else 5)


def passages_exact(chain: Chain, a: int, b: int) -> tuple[list[Fraction], list[Fraction], list[Fraction]] | None:
    """Return q+, w and the visits or the law, in fractions; None if there are several closed classes."""
    n = len(chain.names)
    P = [[Fraction(float(value)) for value in row] for row in chain.P.toarray()]
    traps = traps_of(chain)
    if len(traps) > 1 or (traps and len(traps[0]) < n):
        return None
    if traps:
        for i in range(n):
            P[i][i] = 1 - sum(P[i][j] for j in range(n) if j != i)
        matrix = [[(i == j) - P[j][i] for j in range(n)] for i in range(n - 1)] + [[Fraction(1)] * n]
        v = solution(matrix, [0] * (n - 1) + [1])
    else:
        v = solution([[(i == j) - P[j][i] for j in range(n)] for i in range(n)], [float(s) for s in chain.start])
    if v is None:
        return None
    rest = [i for i in range(n) if i not in (a, b)]
    inner = [[(i == j) - P[i][j] for j in rest] for i in rest]
    forward = solution(inner, [P[i][b] for i in rest])
    onward = solution([list(row) for row in zip(*inner, strict=True)], [v[a] * P[a][j] for j in rest])
    if forward is None or onward is None:
        return None
    q, w = [Fraction(0)] * n, [Fraction(0)] * n
    q[b], w[a] = Fraction(1), v[a]
    for k, i in enumerate(rest):
        q[i], w[i] = forward[k], onward[k]
    return q, w, v


def test_large_classes_are_as_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = ring(60, 5)
    whole, flow = committor(chain, "0", ["30", "31"]), reactive_flow(chain, "0", ["30", "31"])
    monkeypatch.setattr(solve, "DENSE", 1)
    some, same = committor(chain, "0", ["30", "31"]), reactive_flow(chain, "0", ["30", "31"])
    for x, y in zip(whole.nodes, some.nodes, strict=True):
        assert (x.forward, x.reactive) == pytest.approx((y.forward, y.reactive), rel=1e-10, abs=1e-14)
    assert [p.nodes for p in same.paths] == [p.nodes for p in flow.paths]


@pytest.mark.parametrize("seed", range(3))
def test_names_and_order_do_not_matter(seed: int) -> None:
    chain = ring(8, seed)
    order = np.random.default_rng(seed).permutation(8).tolist()
    names = {name: f"n{name}" for name in chain.names}
    one, other = committor(chain, "0", "4"), committor(relabelled(chain, order, names), "n0", "n4")
    for name, row in table(one).items():
        assert table(other)[names[name]] == pytest.approx(row, rel=1e-12)
    paths = [reactive_flow(chain, "0", "4"), reactive_flow(relabelled(chain, order, names), "n0", "n4")]
    assert [[names[n] for n in p.nodes] for p in paths[0].paths] == [list(p.nodes) for p in paths[1].paths]


def test_a_hard_chain_keeps_its_digits() -> None:
    """The way from a goes through a state that is left with 1e-17, three times as often to b as back."""
    tiny = 1e-17
    chain = chain_of({"a": {"m": 1}, "m": {"m": 1.0, "b": 3 * tiny, "a": tiny, END: 0}, "b": {"a": 1}})
    found = committor(chain, "a", "b")
    assert table(found)["m"][0] == pytest.approx(0.75, rel=1e-14)
    assert found.rate == pytest.approx(3 * tiny, rel=1e-12)
    assert found.steps == pytest.approx(1 / (4 * tiny), rel=1e-12)


def test_what_never_ends_and_what_is_never_reached() -> None:
    """A trap of neither holds runs for ever; nothing passes where no run comes, or no way leads."""
    chain = chain_of(
        {"a": {"b": 0.5, "pit": 0.5}, "b": {}, "pit": {"pit": 1}, "far": {"a": 1}, "up": {"up": 0.5, "far": 0.5}}, "a"
    )
    found = committor(chain, "a", "b")
    assert table(found)["pit"] == (0.0, None, 0.0)
    assert (found.flux, found.steps, found.rate) == (0.5, 1.0, 0.0)
    none = committor(chain, "far", "b")
    assert (none.flux, none.rate, none.steps) == (0.0, None, None)
    assert "no run comes to far" in str(none)
    assert table(none)["up"][0] == 0
    assert table(committor(chain, "b", "far"))["up"][0] == 1
    empty = reactive_flow(chain, "far", "b")
    assert (empty.paths, empty.covered, empty.error_bound) == ((), 0, 0)
    assert "Nothing passes" in str(empty)
    caught = committor(chain, "a", "pit")
    assert (caught.ensemble, caught.flux) == ("runs", 0.5)
    away = committor(chain, "pit", "b")
    assert (away.ensemble, away.flux) == ("stationary", 0.0)
    assert "in the long run" in str(away)


def test_several_closed_classes_by_their_chances() -> None:
    """Reached with 0.3 and 0.7; a passage in each is half of the steps there."""
    table_ = {"s": {"x": 0.3, "u": 0.7}, "x": {"y": 1}, "y": {"x": 1}, "u": {"v": 1}, "v": {"u": 1}}
    found = committor(chain_of(table_, "s"), ["x", "u"], ["y", "v"])
    assert found.flux == pytest.approx(0.5)
    assert [v.reactive for v in found.nodes] == pytest.approx([0, 0.15, 0.15, 0.35, 0.35])


def test_questions_without_an_answer() -> None:
    for analysis in (committor, reactive_flow, passages):
        with pytest.raises(ChainError, match="in both sets"):
            analysis(shop(), ["order", "pay"], "pay")
        with pytest.raises(ChainError, match="no node is called 'x'"):
            analysis(shop(), "x", "pay")
        with pytest.raises(AnalysisError, match="at least one node"):
            analysis(shop(), [], "pay")
        with pytest.raises(ChainError):
            analysis(shop(), "order", "pay", start="nobody")
    with pytest.raises(AnalysisError, match="at least one path"):
        reactive_flow(shop(), "order", "pay", 0)


def test_frames_and_bounds() -> None:
    found, flow = committor(shop(), "order", "ship"), reactive_flow(shop(), "order", "ship")
    assert list(found.frame()["node"]) == list(shop().names)
    assert list(flow.frame()["path"]) == [p.name for p in flow.paths]
    assert 0 < found.error_bound < 1e-14
    assert 0 < flow.error_bound < 1e-13
