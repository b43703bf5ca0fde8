from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowstat.estimate.counts import Counts
from flowstat.estimate.discover import discover, format_discovered
from flowstat.read.files import parse_graph
from flowstat.read.patterns import format_pattern
from tests.strategies import names

tables = st.dictionaries(
    st.tuples(names, st.lists(names, max_size=3).map(format_pattern)), st.integers(1, 10**6), max_size=8
)


@given(tables)
def test_shares_are_those_of_the_pairs_and_stops_stay(table):
    counts = Counts(table, {"a": 1})
    graph = discover(counts)
    assert set(graph.nodes) == set(counts.nodes)
    pairs = counts.pairs()
    exact = {(s, t): share for s, t, share in zip(pairs["source"], pairs["target"], pairs["share"], strict=True)}
    assert {(a.source, a.target) for a in graph.arrows} == set(exact)
    for arrow in graph.arrows:
        assert arrow.share == pytest.approx(exact[arrow.source, arrow.target], abs=1e-4)
        assert arrow.share > 0
    for node in counts.events:
        stop = Fraction(counts.stops.get(node, 0), counts.events[node])
        assert graph.expected_stop(node) == pytest.approx(float(stop), abs=1e-4)
        assert (graph.expected_stop(node) == 0) == (stop == 0)
    assert parse_graph(format_discovered(graph, counts)) == graph


def test_rare_arrows_are_left_out_by_share_or_number():
    counts = Counts({("a", "b"): 97, ("a", "c"): 3, ("b", ""): 97, ("c", ""): 3}, {"a": 100})
    assert [arrow.target for arrow in discover(counts).arrows] == ["b", "c"]
    assert [arrow.target for arrow in discover(counts, min_share=0.05).arrows] == ["b"]
    assert [arrow.target for arrow in discover(counts, min_count=4).arrows] == ["b"]
    text = format_discovered(discover(counts, min_count=4), counts, min_count=4)
    assert "// runs start at: a 100" in text
    assert "1 arrow left out" in text
    assert "c;" in text


def test_a_share_too_small_for_four_decimals_is_kept():
    counts = Counts({("a", "b"): 10**9 - 1, ("a", "c"): 1, ("b", ""): 1, ("c", ""): 1})
    shares = {arrow.target: arrow.share for arrow in discover(counts).arrows}
    assert shares == {"b": 0.999999999, "c": 1e-9}
    assert discover(counts).expected_stop("a") == 0
