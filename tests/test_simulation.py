from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from flowstat.analyze import alias as alias_module
from flowstat.analyze import simulation
from flowstat.analyze.absorption import absorption
from flowstat.analyze.alias import alias
from flowstat.analyze.simulation import simulate
from flowstat.analyze.visits import visits
from flowstat.errors import AnalysisError, ChainError
from flowstat.estimate.chain import Chain
from tests.oracles import chain_of, chains, pit, shop


def laws(table, n):
    """Return the law that each row of an alias table draws by, summed up from its cells."""
    for row in range(n):
        width, begin = int(table.width[row]), int(table.begin[row])
        law = {}
        for cell in range(begin, begin + width):
            for target, chance in (
                (table.targets[2 * cell], table.keep[cell]),
                (table.targets[2 * cell + 1], 1 - table.keep[cell]),
            ):
                law[int(target)] = law.get(int(target), 0.0) + chance / width
        yield law


weights = st.lists(st.sampled_from([1e-300, 1e-17, 1e-9, 0.1, 0.3, 1.0, 3.0, 1e9]), min_size=1, max_size=9)


@pytest.mark.parametrize("widest", [16, 0])
@given(st.lists(weights, min_size=1, max_size=5))
def test_an_alias_table_draws_by_the_weights(widest, rows):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alias_module, "WIDEST", widest)
        source = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
        target = np.concatenate([np.arange(len(row)) for row in rows])
        table = alias(source, target, np.concatenate(rows), len(rows))
    for law, row in zip(laws(table, len(rows)), rows, strict=True):
        for k, weight in enumerate(row):
            assert law.get(k, 0.0) == pytest.approx(weight / sum(row), abs=1e-14 * len(row))
        assert set(law) <= set(range(len(row)))


def test_light_ways_keep_their_chance_to_the_last_digit():
    table = alias(np.zeros(3, np.int64), np.arange(3), np.array([1e-17, 0.5, 0.5]), 1)
    assert min(table.keep) == pytest.approx(3e-17, rel=1e-12)


def test_a_long_row():
    rng = np.random.default_rng(0)
    shares = rng.random(2000) ** 9
    table = alias(np.zeros(2000, np.int64), np.arange(2000), shares, 1)
    (law,) = laws(table, 1)
    assert [law[k] for k in range(2000)] == pytest.approx(shares / shares.sum(), abs=1e-14)


def fits(counts, expected):
    """Return the p-value of counts against expected numbers; those of less than 5 are put together."""
    counts, expected = np.asarray(counts, float), np.asarray(expected, float)
    rare = expected < 5
    if rare.any():
        counts = np.append(counts[~rare], counts[rare].sum())
        expected = np.append(expected[~rare], expected[rare].sum())
    return stats.chisquare(counts, expected * counts.sum() / expected.sum()).pvalue


@pytest.mark.parametrize(("chain", "seed"), [(pit(), 1), (shop(), 2)])
def test_outcomes_lengths_and_visits_fit_the_exact_ones(chain, seed):
    runs = 200_000
    found = simulate(chain, runs, seed)
    exact = absorption(chain)
    seen = {o.outcome: o.runs for o in found.outcomes}
    assert sum(seen.values()) == runs == found.runs
    assert set(seen) == {o.outcome for o in exact.outcomes}
    assert fits([seen[o.outcome] for o in exact.outcomes], [runs * o.probability for o in exact.outcomes]) > 0.01
    # The law of the number of events of the runs that stop, by powers.
    law, expected = chain.start, []
    for _ in range(200):
        expected.append(runs * float(law @ chain.stop))
        law = law @ chain.P
    assert fits(np.resize(np.append(found.lengths[1:], np.zeros(200)), 200), expected) > 0.01
    for v, n in zip(visits(chain).nodes, found.visits.tolist(), strict=True):
        if np.isfinite(v.visits):
            # A run's visits have a variance of no more than twice its second moment's bound: v (2 / gap - 1).
            gap = 1 - v.again
            assert abs(n / runs - v.visits) <= 4 * np.sqrt(v.visits * (2 / gap - 1) / runs)


@pytest.mark.parametrize("widest", [16, 0])
def test_next_nodes_fit_the_shares(monkeypatch, widest):
    monkeypatch.setattr(alias_module, "WIDEST", widest)
    chain = shop()
    found = simulate(chain, 20_000, 5, paths=20_000)
    n = len(chain.names)
    pairs = np.zeros((n, n + 1))
    for path in found.paths:
        at = [chain.index[name] for name in path]
        np.add.at(pairs, (at, [*at[1:], n]), 1)
    for i in range(n):
        shares = np.append(chain.P.toarray()[i], chain.stop[i])
        assert not pairs[i][shares == 0].any()
        if (shares > 0).sum() > 1:
            assert fits(pairs[i][shares > 0], pairs[i].sum() * shares[shares > 0]) > 0.01
    starts = np.bincount([chain.index[path[0]] for path in found.paths], minlength=n)
    assert fits(starts[chain.start > 0], 20_000 * chain.start[chain.start > 0]) > 0.01


@settings(max_examples=30)
@given(chains(traps=True), st.integers(0, 99))
def test_what_is_told_agrees(chain, seed):
    found = simulate(chain, 300, seed, paths=300)
    assert sum(o.runs for o in found.outcomes) == found.runs == 300
    assert sum(o.probability for o in found.outcomes) == pytest.approx(1)
    assert found.visits.sum() == found.total == sum(map(len, found.paths))
    stops = {o.outcome for o in found.outcomes if o.kind == "stop"}
    lengths = [len(path) for path in found.paths if path[-1] in stops]
    assert sorted(np.repeat(np.arange(len(found.lengths)), found.lengths)) == sorted(lengths)
    if lengths:
        assert found.events == pytest.approx(np.mean(lengths))
        assert found.quantile(0.5) == np.quantile(lengths, 0.5, method="inverted_cdf")
    for path in found.paths:
        for a, b in pairwise(path):
            assert chain.P[chain.index[a], chain.index[b]] > 0


def test_the_same_seed_gives_the_same_runs_and_another_others():
    one, again, other = (simulate(pit(), 5000, seed, paths=3) for seed in (1, 1, 2))
    assert one.to_dict() == again.to_dict()
    assert (one.visits == again.visits).all()
    assert one.to_dict() != other.to_dict()


@pytest.mark.parametrize("most", [1, 50, 1000, 20_000, 10**6])
def test_paths_that_are_not_kept_change_no_run(monkeypatch, most):
    """However few events are kept, all runs come to their end, and what is kept are the first of them."""
    slow = chain_of({"a": {"b": 0.6, "a": 0.37}, "b": {"a": 1}})
    whole = simulate(slow, 2000, 4, paths=700)
    assert not whole.paths_left_out
    monkeypatch.setattr(simulation, "RECORDED", most)
    found = simulate(slow, 2000, 4, paths=700)
    assert (found.lengths == whole.lengths).all()
    assert (found.visits == whole.visits).all()
    assert found.outcomes == whole.outcomes
    assert found.paths == whole.paths[: len(found.paths)]
    assert len(found.paths) + found.paths_left_out == 700
    kept = sum(map(len, found.paths))
    assert kept <= most
    if found.paths_left_out:
        assert kept >= most / 4 or len(whole.paths[len(found.paths)]) > most / 4
        assert any("of the 700 runs are kept" in note for note in found.notes())
    else:
        assert most == 10**6


def test_runs_may_go_on_in_traps():
    chain = pit()
    found = simulate(chain, 1000, 3, into_traps=True, max_length=500)
    trapped = {o.outcome: o.runs for o in found.outcomes if o.kind == "trap"}
    assert set(trapped) == {"stuck", "{ping, pong}"}
    # Within {ping, pong} the law is (1/3, 2/3).
    ping, pong = (int(found.visits[chain.index[name]]) for name in ("ping", "pong"))
    assert pong / (ping + pong) == pytest.approx(2 / 3, abs=0.01)
    assert not any(o.kind == "unfinished" for o in found.outcomes)


def test_what_is_cut_off_is_told():
    slow = chain_of({"a": {"a": 0.999}})
    found = simulate(slow, 1000, 1, max_length=100)
    kinds = {o.kind: o for o in found.outcomes}
    cut = kinds["unfinished"]
    assert cut.runs / 1000 == pytest.approx(0.999**100, abs=0.05)
    assert len(found.lengths) <= 101
    assert any("cut off" in note for note in found.notes())
    few = simulate(slow, 10**9, 1, max_events=10**5)
    assert 10**5 <= few.total < 3 * 10**5
    assert few.runs < 10**6
    assert sum(o.runs for o in few.outcomes) == few.runs


def test_chains_that_never_stop_and_of_one_node():
    ring = Chain.from_matrix(np.roll(np.eye(3), 1, axis=1))
    found = simulate(ring, 100)
    assert [(o.outcome, o.kind, o.probability) for o in found.outcomes] == [("{0, 1, 2}", "trap", 1.0)]
    assert found.events is None
    assert simulate(ring, 10, into_traps=True, max_length=7).total == 70
    with pytest.raises(AnalysisError, match="no run stopped"):
        found.quantile(0.5)
    one = simulate(Chain.from_matrix([[0]], ["a"], stop=[1]), 100)
    assert (one.events, one.events_standard_error, one.total, one.quantile(1)) == (1, 0, 100, 1)
    rare = simulate(Chain.from_matrix([[1 - 1e-300, 1e-300], [0, 0]], stop=[0, 1]), 10, max_length=50)
    assert [o.kind for o in rare.outcomes] == ["unfinished"]


def test_starts():
    assert simulate(shop(), 10, start="done").total == 10
    found = simulate(shop(), 1000, start={"done": 0.5, "order": 0.5}, paths=1000)
    assert {path[0] for path in found.paths} == {"done", "order"}


@pytest.mark.parametrize(
    "wrong", [{"runs": 0}, {"seed": -1}, {"paths": -1}, {"max_length": 0}, {"max_events": 0}, {"runs": 1.5}], ids=str
)
def test_refusals(wrong):
    with pytest.raises(AnalysisError, match=f"{next(iter(wrong))} is a whole number of at least"):
        simulate(shop(), **wrong)
    with pytest.raises(ChainError, match="no node is called"):
        simulate(shop(), start="x")
    assert simulate(shop(), 1e3).runs == 1000
    with pytest.raises(AnalysisError, match="between 0 and 1"):
        simulate(shop(), 10).quantile(2)
