import json
from collections import Counter
from fractions import Fraction
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowstat.analyze.variants import Variants, variants
from flowstat.analyze.walks import ranked
from flowstat.errors import AnalysisError, ChainError, TraceError
from flowstat.estimate import observed as module
from flowstat.estimate.chain import Chain
from flowstat.estimate.counts import Counts
from flowstat.estimate.counts_file import write_counts
from flowstat.estimate.observed import observed_variants
from flowstat.read.traces import read_traces
from tests.oracles import LETTERS, chain_of, chains, relabelled, share_agrees, shop, shop_runs
from tests.strategies import event, forests, line, write_json_lines, write_parquet


def brute(chain, least):
    """Return every walk with at least this probability, in fractions, by playing out all prefixes."""
    P = {i: {} for i in chain.names}
    for i, j, p in zip(*chain.arrows(), strict=True):
        P[chain.names[i]][chain.names[j]] = Fraction(float(p))
    stop = {name: Fraction(float(p)) for name, p in zip(chain.names, chain.stop, strict=True)}
    found = {}
    work = [((n,), Fraction(float(p))) for n, p in zip(chain.names, chain.start, strict=True) if p > 0]
    while work:
        walk, p = work.pop()
        if p < least:
            continue
        if p * stop[walk[-1]] >= least:
            found[walk] = p * stop[walk[-1]]
        if len(walk) < 60:
            work += [((*walk, j), p * share) for j, share in P[walk[-1]].items()]
    return found


@settings(max_examples=150)
@given(chains(traps=True), st.integers(1, 12))
def test_walks_equal_brute_force(chain, top):
    found = variants(chain, top)
    expected = brute(chain, Fraction(1, 400))
    best = sorted(expected.values(), reverse=True)[:top]
    known = [v for v in found.variants if v.probability >= 1 / 399]
    assert [v.probability for v in known] == pytest.approx([float(p) for p in best[: len(known)]], rel=1e-12)
    assert len(known) >= min(top, sum(p > 1 / 398 for p in best))
    for v in known:
        assert abs(Fraction(v.probability) - expected[v.nodes]) <= Fraction(v.error_bound)
    assert len({v.nodes for v in found.variants}) == len(found.variants)
    ranks = [(ranked(v.probability), len(v.nodes), v.nodes) for v in found.variants if v.probability > 1e-300]
    assert ranks == sorted(ranks)
    json.dumps(found.to_dict(), allow_nan=False)


@settings(max_examples=100)
@given(chains(), st.integers(1, 8), st.randoms(use_true_random=False))
def test_order_and_names_change_nothing(chain, top, random):
    """Names keep their alphabetical order here: it decides between equals."""
    order = list(range(len(chain.names)))
    random.shuffle(order)
    names = dict(zip(sorted(LETTERS), "UVWXYZ", strict=True))
    expected, other = variants(chain, top), variants(relabelled(chain, order, names), top)
    assert [v.nodes for v in other.variants] == [tuple(names[i] for i in v.nodes) for v in expected.variants]


def test_a_retry_in_rationals():
    chain = chain_of({"try": {"try": Fraction(1, 4), "ok": Fraction(1, 2)}, "ok": {}}, "try")
    found = variants(chain, 4)
    assert [(v.name, v.probability) for v in found.variants] == [
        ("try -> ok", 1 / 2),
        ("try", 1 / 4),
        ("try -> try -> ok", 1 / 8),
        ("try -> try", 1 / 16),
    ]
    assert (found.covered, found.more, found.runs) == (15 / 16, True, None)
    assert found.printed() == ("variant", "length", "probability", "covered")


def test_what_can_be_said_where_little_is():
    endless = chain_of({"a": {"b": 1}, "b": {"a": 1}})
    assert variants(endless).variants == ()
    assert "0%" in str(variants(endless))
    alone = variants(chain_of({"a": {}}))
    assert [(v.nodes, v.probability) for v in alone.variants] == [(("a",), 1)]
    assert not alone.more
    assert "1 walk in all" in str(alone)
    tiny = chain_of({"a": {"b": 1e-200, "(end)": 1.0}, "b": {"c": 1e-200, "(end)": 1.0}, "c": {}}, "a")
    assert [v.nodes for v in variants(tiny).variants] == [("a",), ("a", "b"), ("a", "b", "c")]
    with pytest.raises(ChainError, match="no node is called"):
        variants(endless, start="nobody")


def test_walks_that_are_less_probable_than_any_number():
    """Nothing is left out, and nobody says that there are no more."""
    alone = Chain.from_matrix([[1e-200]], ["a"], "a", stop=[1.0])
    found = variants(alone, 5)
    assert [len(v.nodes) for v in found.variants] == [1, 2, 3, 4, 5]
    assert [v.probability for v in found.variants] == [1.0, 1e-200, 0.0, 0.0, 0.0]
    assert all(v.error_bound > 0 for v in found.variants)
    assert found.more
    assert "no more" not in str(found)
    rare = Chain.from_matrix([[0, 1e-300, 0.5], [0, 0, 0], [0, 0, 0]], ["a", "b", "c"], "a", stop=[0.5, 1, 1])
    found = variants(rare)
    assert [(v.name, v.probability) for v in found.variants] == [("a", 0.5), ("a -> c", 0.5), ("a -> b", 1e-300)]
    assert not found.more
    # Products of the least number itself.
    least = Chain.from_matrix([[0, 5e-324, 5e-324], [5e-324, 0, 1], [0, 0, 0]], list("abc"), "a", stop=[1, 5e-324, 1])
    names = [v.name for v in variants(least, 5).variants]
    assert names == ["a", "a -> c", "a -> b -> c", "a -> b", "a -> b -> a"]
    assert ranked(0.75, -5000) < ranked(0.5, -5000) < ranked(0.75, -5001)


def test_long_walks_in_rationals():
    """A walk of 5,000 rounds, of 1/2 each, has 2^-5001; a shorter one comes before it."""
    chain = chain_of({"try": {"try": Fraction(1, 2), "ok": Fraction(1, 2)}, "ok": {}}, "try")
    found = variants(chain, 3000)
    assert [len(v.nodes) for v in found.variants] == list(range(2, 3002))
    assert [v.probability for v in found.variants] == [2.0**-k if k < 1075 else 0.0 for k in range(1, 3001)]


@pytest.mark.parametrize("top", [0, -1, 2.5, True, "3", None, float("nan"), float("inf")])
def test_how_many_is_a_whole_number(top):
    with pytest.raises(AnalysisError, match="whole number of at least 1"):
        variants(shop(), top)


def test_simulated_runs_are_these_walks():
    runs = shop_runs()
    seen = Counter()
    for column in runs.steps.T[:50_000].tolist():
        seen[tuple(runs.chain.names[i] for i in column if i >= 0)] += 1
    for v in variants(shop(), 40).variants:
        assert share_agrees(seen[v.nodes], 50_000, v.probability)


def by_lineage(rows):
    """Play out every lineage of recorded runs, row by row."""
    rows = [row for row in rows if row["status"] in ("ok", "error")]
    rows = list({(row["trace_id"], row["span_id"]): row for row in rows}.values())
    table, unfinished = Counter(), 0.0
    work = [(row, (row["name"],), 1.0) for row in rows if row["parent_id"] is None]
    while work:
        row, nodes, weight = work.pop()
        kids = [other for other in rows if (other["trace_id"], other["parent_id"]) == (row["trace_id"], row["span_id"])]
        sent = sum(1 if "*" not in word else int(word.split("*")[1]) for word in row["sent"].split())
        size = max(sent, len(kids))
        if not size:
            table[nodes] += weight
            continue
        unfinished += weight * (size - len(kids)) / size
        work += [(kid, (*nodes, kid["name"]), weight / size) for kid in kids]
    return table, unfinished


@settings(max_examples=15, deadline=None)
@given(forests(st.sampled_from("abcd")))
def test_what_was_recorded_is_counted(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("variants")
    if not rows:
        return
    kept = {}
    for row in rows:
        kept.setdefault((row["trace_id"], row["span_id"]), row)
    rows = list(kept.values())
    parquet, lines = write_parquet(path / "t.parquet", rows), write_json_lines(path / "t.jsonl", rows)
    expected, unfinished = by_lineage(rows)
    for file in (parquet, lines):
        found = observed_variants(read_traces(file))
        assert found.table == pytest.approx(dict(expected))
        assert found.unfinished == pytest.approx(unfinished)


def test_expected_and_observed_stand_together(tmp_path, monkeypatch):
    rows = [row for k in range(30) for row in line(k, *("ab" if k % 3 else "aab"))]
    rows += line(99, "a", "b", "x")[:2]
    traces = read_traces(write_parquet(tmp_path / "t.parquet", rows))
    chain = chain_of({"a": {"a": Fraction(1, 4), "b": Fraction(3, 4)}, "b": {}}, "a")
    found = variants(chain, 3, observed=traces)
    assert [(v.name, v.observed, v.share) for v in found.variants] == [
        ("a -> b", 20, 2 / 3),
        ("a -> a -> b", 10, 1 / 3),
        ("a -> a -> a -> b", 0, 0),
    ]
    assert found.variants[0].deviation == pytest.approx((2 / 3 - 3 / 4) / np.sqrt(3 / 16 / 30))
    assert (found.runs, found.unfinished, found.covered_observed) == (30, 1, 1)
    assert "observed" in str(found)
    seen = observed_variants(traces)
    assert variants(chain, 3, observed=seen) == found
    assert "2 variants of 30 complete runs" in str(seen)
    assert [row["runs"] for row in seen.rows()] == [20, 10]
    json.dumps(seen.to_dict(), allow_nan=False)
    monkeypatch.setattr(module, "ROWS", 4)
    assert observed_variants(traces) == seen


def test_lineages_of_fan_out(tmp_path):
    """a sends to b and c, c to d: half a run is a -> b, half a -> c -> d."""
    rows = [event(1, 1, "a", sent="b c")]
    rows += [event(1, 2, "b", parent_id=1, parent="a"), event(1, 3, "c", parent_id=1, parent="a", sent="d")]
    rows += [event(1, 4, "d", parent_id=3, parent="c")]
    seen = observed_variants(read_traces(write_parquet(tmp_path / "t.parquet", rows)))
    assert seen.table == {("a", "b"): 0.5, ("a", "c", "d"): 0.5}
    assert seen.fans_out
    assert "one lineage of a run" in str(seen)


def test_counts_have_no_runs(tmp_path):
    write_counts(Counts({("a", ""): 1}, {"a": 1}), tmp_path / "c.json")
    with pytest.raises(TraceError, match="holds counts"):
        variants(chain_of({"a": {}}), observed=read_traces(tmp_path / "c.json"))


def test_nothing_recorded(tmp_path):
    rows = line(1, "a", "b")[:1]
    found = variants(chain_of({"a": {}}), observed=read_traces(write_parquet(tmp_path / "t.parquet", rows)))
    assert (found.runs, found.covered_observed, found.variants[0].share) == (0, None, None)
    assert "no complete run" in str(found)


def test_a_thousand_walks_of_many_nodes():
    n = 20_000
    rng = Random(1)
    P = {i: {(i + 1) % n: 0.5, rng.randrange(n): 0.3} for i in range(n)}
    rows, columns, values = zip(*((i, j, p) for i, row in P.items() for j, p in row.items()), strict=True)
    from scipy import sparse

    matrix = sparse.csr_array((values, (rows, columns)), shape=(n, n))
    found = variants(Chain.from_matrix(matrix, start="0", stop=1 - matrix.sum(axis=1)), 1000)
    assert len(found.variants) == 1000
    assert isinstance(found, Variants)


def test_any_number_of_walks_may_be_asked_for() -> None:
    assert not variants(chain_of({"a": {"b": 0.5}, "b": {}}, "a"), 10**30).more
