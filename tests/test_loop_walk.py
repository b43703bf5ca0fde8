import json
import pickle
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from scipy import sparse

from flowstat.analyze import loop_found
from flowstat.analyze.loops import loops
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import Chain, estimate
from flowstat.estimate.counts import Counts
from flowstat.explain.sentences import loop_sentence
from tests.oracles import chain_of, hit, rounds
from tests.test_loops import by_nodes, exits


@pytest.mark.parametrize("n", [60, 300, 401, 1000, 1600])
def test_the_gain_of_a_long_ring_is_told(n: int) -> None:
    """Left at one of its nodes by half of the runs: 2^(-1/n) is less than 1, however long it is."""
    [loop] = loops(ring(n)).loops
    assert abs(loop.gain - 2 ** (-1 / n)) <= loop.gain_bound < 1e-12
    assert loop.effect == "dampens"
    assert (loop.period, loop.again) == (n, pytest.approx(0.5, rel=1e-12))


def ring(n: int) -> Chain:
    P = sparse.csr_array((np.r_[np.ones(n - 1), 0.5], (np.arange(n), np.r_[1:n, 0])), shape=(n, n))
    return Chain.from_matrix(P, None, "0", stop=np.r_[np.zeros(n - 1), 0.5])


def test_rows_that_are_off_from_1_by_rounding_make_no_storm() -> None:
    """What stops is small beside what rounding adds to the row of b: still no event sends two messages."""
    chain = chain_of({"a": {"b": 1}, "b": {"a": 1}}, "a")
    P = chain.P.copy()
    P.data *= 1 + 1e-10
    stop = np.array([0, 1e-12])
    [loop] = loops(Chain(chain.names, P, stop, chain.start)).loops
    assert (loop.effect, loop.gain <= 1) == ("dampens", True)
    [loop] = loops(Chain(chain.names, P, np.zeros(2), chain.start)).loops
    assert (loop.effect, loop.gain, loop.gain_bound) == ("keeps", 1, 0)


def test_a_message_that_stays_while_another_leaves_is_kept() -> None:
    """a sends one message to itself and one to b, always: a lineage leaves with 1/2, the loop keeps all its messages.

    If one in a thousand events sends two to a, and one in a thousand none, that is exactly critical; one less grows.
    """
    [loop] = loops(estimate(Counts({("a", "a b"): 9, ("b", ""): 9}, {"a": 1}), prior=0)).loops
    assert (loop.effect, loop.gain, loop.gain_bound, loop.again) == ("keeps", 1, 0, 0.5)
    for two, none, effect in ((1, 1, "keeps"), (1, 0, "grows"), (0, 1, "dampens")):
        table = {("a", "b*2"): two, ("a", "b"): 998, ("a", ""): none, ("b", "a"): 1000}
        counts = Counts({key: n for key, n in table.items() if n}, {"a": 1})
        [loop] = loops(estimate(counts, prior=0)).loops
        assert loop.effect == effect
        exact = Fraction(998 + 2 * two, 998 + two + none)
        assert abs(loop.gain - np.sqrt(float(exact))) <= loop.gain_bound + 1e-15
    assert "gain 1, keeps" in loop_sentence(loops(estimate(Counts({("a", "a b"): 9}, {"a": 1}), prior=0)).loops[0])


def test_gains_equal_eigenvalues() -> None:
    rng = np.random.default_rng(5)
    for n in (2, 3, 7, 30, 150):
        P = rng.random((n, n)) * (rng.random((n, n)) < 2 / n)
        P[np.arange(n), (np.arange(n) + 1) % n] += 0.01
        P /= P.sum(axis=1)[:, None] * rng.uniform(1, 1.5, n)[:, None]
        chain = Chain.from_matrix(P, stop=1 - P.sum(axis=1))
        for loop in loops(chain, cycles=0).loops:
            inside = [chain.index[name] for name in loop.nodes]
            radius = np.abs(np.linalg.eigvals(P[np.ix_(inside, inside)])).max()
            assert loop.gain == pytest.approx(radius, rel=1e-7)
            assert loop.gain_bound < 1e-11
            assert loop.effect == "dampens"


def test_changed_shares_of_a_fan_out_leave_the_gain_open() -> None:
    chain = estimate(Counts({("a", "a*2"): 5, ("a", ""): 5}, {"a": 10}), prior=0)
    changed = replace(chain, P=sparse.csr_array([[0.25]]), stop=np.array([0.75]))
    found = loops(changed)
    assert (found.loops[0].gain, found.loops[0].effect, found.loops[0].again) == (None, "can't tell", 0.25)
    assert "its gain is not known" in loop_sentence(found.loops[0], True)
    assert "No gain is told: the shares of a are not" in str(found)
    json.dumps(found.to_dict(), allow_nan=False)


def test_cycles_of_large_loops_are_listed_if_asked_for() -> None:
    chain = ring(1600)
    found = loops(chain)
    assert found.loops[0].cycles == ()
    assert "Cycles inside were not looked for in 1 loop of many nodes: loops(..., cycles=3) lists them." in str(found)
    found = loops(chain, cycles=5)
    [cycle] = found.loops[0].cycles
    assert (len(cycle.nodes), cycle.probability) == (1600, 0.5)
    assert "Cycles inside" not in str(found)


def test_the_loops_with_the_most_events_are_described(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a hundred nests of loops, with room for some nodes only."""
    rng = np.random.default_rng(3)
    k, classes = 8, 25
    n = k * classes
    rows = np.repeat(np.arange(n), 3)
    columns = rows // k * k + rng.integers(0, k, len(rows))
    P = sparse.csr_array((rng.random(len(rows)), (rows, columns)), shape=(n, n))
    P = P + sparse.csr_array((np.full(n - 1, 0.2), (np.arange(n - 1), np.arange(1, n))), shape=(n, n))
    P = sparse.csr_array(sparse.diags_array(0.97 / P.sum(axis=1)) @ P)
    chain = Chain.from_matrix(P, start="0", stop=1 - P.sum(axis=1))
    whole = loops(chain, cycles=0)
    assert whole.left_out == 0
    monkeypatch.setattr(loop_found, "SMALL", 600)
    part = loops(chain, cycles=0)
    assert part.left_out > 0
    assert f"Not described: at least {part.left_out:,} loops nested in large ones" in str(part)
    expected, described = by_nodes(whole), by_nodes(part)
    assert 10 < sum(depth > 0 for _, depth in described) < sum(depth > 0 for _, depth in expected)
    for key, loop in described.items():
        same = expected[key]
        assert (loop.header, loop.entries, loop.period, loop.depth) == (
            same.header,
            same.entries,
            same.period,
            same.depth,
        )
        assert (loop.parent is None) == (loop.depth == 0)
        if loop.parent is not None:
            assert set(loop.nodes) <= set(part.loops[loop.parent].nodes)
        for what in ("reached", "entered", "again", "rounds", "events_per_entry", "share", "gain"):
            assert getattr(loop, what) == pytest.approx(getattr(same, what), rel=1e-9)
    dropped = [loop.events for key, loop in expected.items() if key not in described]
    kept = [loop.events for (_, depth), loop in described.items() if depth]
    assert max(dropped) <= min(kept) * (1 + 1e-12)


def test_a_printed_table_fits_a_terminal() -> None:
    """Forty nodes with long names that differ at their ends only, loops forty deep."""
    n = 40
    names = [f"service.europe-west.payments.internal/handler-of-queue-{i}" for i in range(n)]
    P = np.full((n, n), 0.99 / n)
    found = loops(Chain.from_matrix(P, names, names[0], stop=np.full(n, 0.01)), cycles=0)
    assert max(loop.depth for loop in found.loops) == n - 1
    table = str(found).splitlines()[1 : len(found.loops) + 2]
    assert len(table) == len(found.loops) + 1
    assert max(map(len, table)) <= 100
    assert table[0].split() == ["where", "size", "entered", "rounds", "share", "gain", "leaves", "to"]
    assert table[1].startswith("service.europ...r-of-queue-0 ")
    assert found.frame()["loop"][0] == f"{names[0]} -> ... -> {names[0]}"
    assert found.frame()["nodes"][0] == names


def test_sentences_of_all_kinds_of_loops() -> None:
    def told(table: dict[str, dict[str, float]], start: dict[str, float]) -> str:
        return loop_sentence(loops(chain_of(table, start)).loops[0])

    assert told({"x": {"y": 0.5}, "y": {"x": 0.5}}, {"x": 0.75, "y": 0.25}) == (
        "x -> ... -> x (a chain that leads back, through y): entered in 21.9% of runs, 1.333 rounds on average; runs "
        "come in at x and y; leaves to its end at x 58.3%, to its end at y 41.7%; carries 100% of all events; gain "
        "0.5, dampens."
    )
    assert told({"a": {}, "b": {"b": 0.5}}, {"a": 1}) == "b -> b (self-injection): no run comes to it."
    assert told({"a": {"b": 0.5}, "b": {"c": 1}, "c": {"b": 1}}, {"a": 1}) == (
        "b -> ... -> b (a chain that leads back, through c): entered in 50.0% of runs, and never left: such a run "
        "never ends."
    )
    many = {"a": {"a": 0.5, "b": 0.125, "c": 0.125, "d": 0.125, "e": 0.0625, "f": 0.0625}}
    many |= {name: {} for name in "bcdef"}
    assert "leaves to b 25.0%, to c 25.0%, to d 25.0%, to e 12.5%, and to 1 more;" in told(many, {"a": 1})
    fan = estimate(Counts({("a", "a*3"): 5, ("a", "b"): 5, ("b", ""): 5}, {"a": 10}), prior=0)
    assert loop_sentence(loops(fan).loops[0], True) == (
        "a -> a (self-injection): entered in 50.0% of lineages, 2 rounds on average; leaves to b 100%; carries 66.7% "
        "of a lineage's events; gain 1.5, grows."
    )


def test_exits_are_a_tuple_that_takes_little_room() -> None:
    [loop] = loops(chain_of({"a": {"a": 0.5, "b": 0.25, "c": 0.125}, "b": {}, "c": {}}, "a")).loops
    assert loop.exits == tuple(loop.exits)
    assert loop.exits[0] == next(iter(loop.exits))
    assert loop.exits[-1].probability == 0.25
    assert loop.exits[1:] == tuple(loop.exits)[1:]
    assert hash(loop.exits) == hash(tuple(loop.exits))
    assert repr(loop.exits) == repr(tuple(loop.exits))
    assert pickle.loads(pickle.dumps(loop)) == loop


def test_many_small_classes_and_a_large_one() -> None:
    """Every number is the same as that of each class by itself, whatever else is described at once."""
    rng = np.random.default_rng(8)
    k, classes = 6, 20
    parts = []
    for _ in range(classes):
        part = rng.random((k, k)) * (rng.random((k, k)) < 0.4)
        part[np.arange(k), (np.arange(k) + 1) % k] += 0.1
        parts.append(part / part.sum(axis=1)[:, None] * 0.9)
    n = k * classes
    start = {str(i): 1 / n for i in range(n)}
    P = sparse.csr_array(sparse.block_diag(parts))
    found = by_nodes(loops(Chain.from_matrix(P, start=start, stop=np.full(n, 0.1)), cycles=0))
    for c, part in enumerate(parts):
        names = [str(i) for i in range(c * k, c * k + k)]
        alone = Chain.from_matrix(part, names, dict.fromkeys(names, 1 / k), stop=np.full(k, 0.1))
        for key, loop in by_nodes(loops(alone, cycles=0)).items():
            same = found.pop(key)
            assert (same.header, same.entries, same.period) == (loop.header, loop.entries, loop.period)
            for what in ("again", "rounds", "rounds_per_arrival", "events_per_entry", "gain"):
                assert getattr(same, what) == pytest.approx(getattr(loop, what), rel=1e-9)
            for what in ("reached", "entered", "events", "share"):
                assert getattr(same, what) * classes == pytest.approx(getattr(loop, what), rel=1e-9)
            assert exits(same) == pytest.approx(exits(loop), rel=1e-9)
    assert not found


def test_small_starts_and_loops_that_no_run_comes_to() -> None:
    """Ways in of 1e-300 and of none at all: the numbers of a round do not depend on them."""
    table = {"a": {"x": 1e-300, "y": 1e-300}, "x": {"y": 0.5, "z": 0.25}, "y": {"x": 0.5, "z": 0.25}, "z": {"y": 0.5}}
    faint = loops(chain_of(table, "a"), cycles=0).loops
    never = loops(chain_of(table | {"b": {}}, "b"), cycles=0).loops
    assert len(faint) == len(never) > 1
    for one, other in zip(faint, never, strict=True):
        assert one.again == pytest.approx(other.again, rel=1e-12)
        assert one.rounds == pytest.approx(other.rounds, rel=1e-12)
        assert 0 <= one.reached <= 3e-300
        assert (other.reached, other.entries, other.events) == (0, (), 0)
        assert sum(exits(other).values()) == pytest.approx(1, rel=1e-12)
        assert sum(exits(one).values()) == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("seed", range(12))
def test_loops_in_several_branches_that_are_entered_anywhere(seed: int) -> None:
    """A ring of groups, each strongly connected: many loops side by side in one class, come into by several nodes."""
    rng = np.random.default_rng(seed)
    k, groups = 4, 4
    n = k * groups
    P = np.zeros((n, n))
    for g in range(groups):
        own = slice(g * k, g * k + k)
        P[own, own] = rng.random((k, k)) * (rng.random((k, k)) < 0.5)
        P[np.arange(g * k, g * k + k), g * k + (np.arange(k) + 1) % k] += 0.2
        out = rng.choice(k, 2, replace=False) + g * k
        P[out, rng.integers(0, k, 2) + (g + 1) % groups * k] += 0.3
    P *= rng.uniform(0.7, 0.99, n)[:, None] / P.sum(axis=1)[:, None]
    start = rng.dirichlet(np.ones(3))
    chain = Chain.from_matrix(P, start={str(i): p for i, p in zip((0, 5, 10), start, strict=True)}, stop=1 - P.sum(1))
    found = loops(chain, cycles=0)
    assert sum(loop.depth > 0 and len(loop.nodes) > 1 and len(loop.entries) > 1 for loop in found.loops) > 3
    for loop in found.loops:
        assert abs(loop.reached - hit(chain, loop.nodes)) <= loop.reached_bound + 1e-13
        entered, total = rounds(chain, loop.nodes, loop.header)
        assert abs(loop.entered - entered) <= loop.entered_bound + 1e-13
        assert loop.rounds == pytest.approx(total / entered, rel=1e-11)
        inside = [chain.index[name] for name in loop.nodes]
        assert 1 - 1 / np.linalg.inv(np.eye(len(inside)) - P[np.ix_(inside, inside)])[0, 0] == pytest.approx(
            loop.again, abs=1e-12
        )


def test_a_gain_that_is_known_badly_says_so() -> None:
    [loop] = loops(chain_of({"a": {"a": 0.5}}, "a")).loops
    assert "gain 0.5, dampens" in loop_sentence(loop)
    assert "gain 0.5 give or take 0.01, dampens" in loop_sentence(replace(loop, gain_bound=0.01))
    assert "gain 1 give or take 0.01: can't tell" in loop_sentence(
        replace(loop, gain=1.0, gain_bound=0.01, effect="can't tell")
    )


def test_within_a_trap_only_the_long_run_counts() -> None:
    """Runs come by `in` to a trap of x, y, z, once. Without y, its header, z and x are a loop: come into by z from y,
    left from z to y with 2/3; a visit of it takes z 3/2 times and x, which stays with 1/2, once. What comes from `in`
    to x is nothing beside that.
    """
    table = {"in": {"y": 1}, "x": {"z": 1}, "y": {"z": 1}, "z": {"x": Fraction(1, 3), "y": Fraction(2, 3)}}
    whole, inner = loops(chain_of(table, "in")).loops
    assert (whole.header, inner.header, inner.nodes, inner.entries) == ("y", "z", ("z", "x"), ("z",))
    found = loops(chain_of(table | {"x": {"x": 0.5, "z": 0.5}}, "in")).loops
    assert [loop.nodes for loop in found] == [("y", "x", "z"), ("z", "x"), ("x",)]
    assert exits(found[1]) == {("z", "y"): 1}
    assert (found[1].again, found[1].events_per_entry) == pytest.approx((1 / 3, 2.5))
    mixed = {
        "in": {"y": 0.5, "x": 0.5},
        "x": {"y": 0.5, "z": 0.5},
        "y": {"x": 0.25, "z": 0.75},
        "z": {"x": 0.5, "y": 0.5},
    }
    for loop in loops(chain_of(mixed, "in")).loops[1:]:
        assert sum(exits(loop).values()) == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_numbers_of_all_sizes_are_none_or_right(seed: int) -> None:
    """Shares down to 1e-300, traps, few starts: no number is none, exits sum to 1, and gains enclose the eigenvalue."""
    rng = np.random.default_rng(seed)
    seen = 0
    for _ in range(100):
        n = int(rng.integers(1, 9))
        M = 10.0 ** rng.uniform(-rng.choice([1, 20, 150, 305]), 0, (n, n)) * (
            rng.random((n, n)) < rng.choice([0.3, 0.6])
        )
        stop = 10.0 ** rng.uniform(-rng.choice([1, 30, 300]), 0, n) * (rng.random(n) < rng.choice([0.2, 0.9]))
        total = M.sum(axis=1) + stop
        stop[total == 0] = total[total == 0] = 1.0
        start = rng.random(n) * (rng.random(n) < 0.4) + 1e-300
        start /= start.sum()
        chain = Chain.from_matrix(M / total[:, None], start={str(i): p for i, p in enumerate(start)}, stop=stop / total)
        try:
            found = loops(chain, cycles=0)
        except AnalysisError:
            continue
        json.dumps(found.to_dict(), allow_nan=False)
        for loop in found.loops:
            seen += 1
            numbers = [value for value in vars(loop).values() if isinstance(value, float)]
            assert all(value >= 0 for value in numbers)
            inside = [chain.index[name] for name in loop.nodes]
            radius = np.abs(np.linalg.eigvals(chain.P.toarray()[np.ix_(inside, inside)])).max()
            assert abs(loop.gain - radius) <= loop.gain_bound + 1e-6
            assert not loop.exits or sum(exits(loop).values()) == pytest.approx(1, rel=1e-9)
            assert loop_sentence(loop)
    assert seen > 100
