"""Critical settings: by hand, and by setting them and looking at the root."""

import numpy as np
import pytest
from hypothesis import given, settings

from flowstat.analyze.critical import critical
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import Chain
from flowstat.estimate.counts import Counts
from flowstat.read.files import parse_graph
from tests.branching_oracle import counts_of, table_of, tables


@pytest.mark.parametrize("doubled", [12, 13])
def test_a_fan_out_loop(doubled):
    # Two messages to b with p, each of which sends one back: critical at 1/2. Half of b's then: at a p of 12/25 (13/25)
    # its share is to be 25/24 (25/26), and the first is none.
    counts = counts_of({"a": {"b b": doubled, "": 25 - doubled}, "b": {"a": 1}})
    found = {s.source: s for s in critical(counts, ["a -> b", "b -> a"]).settings}
    at = found["a"]
    assert abs(at.critical - 0.5) <= at.error_bound < 1e-14
    assert at.multiplies == "above"
    assert abs(at.returns - 2 * doubled / 25) <= at.returns_bound + 1e-16
    other = found["b"]
    if doubled == 12:
        assert other.critical is None
        assert "dampen at any share" in other.reason
    else:
        assert abs(other.critical - 25 / 26) <= other.error_bound + 1e-16


def test_the_end_is_a_way_and_a_new_arrow_too():
    counts = counts_of({"a": {"a a": 3, "": 1}, "b": {"c c": 1}, "c": {"": 1}})
    end, new = critical(counts, ["a -> (end)", ("c", "b")]).settings
    # With x of it nothing is sent: 2 (1 - x) = 1. A message back to b of each of two c: 2 x = 1.
    assert abs(end.critical - 0.5) <= end.error_bound + 1e-16
    assert end.multiplies == "below"
    assert (new.share, new.multiplies) == (0.0, "above")
    assert abs(new.critical - 0.5) <= new.error_bound + 1e-16


def test_a_loop_beside_decides():
    counts = counts_of({"a": {"b b": 3, "c": 1, "": 1}, "b": {"a": 1}, "c": {"a": 1, "": 9}})
    (one,) = critical(counts, "c -> a").settings
    assert one.critical is None
    assert "other loops" in one.reason
    (one,) = critical(counts_of({"a": {"b": 1}, "b": {"": 1}}), "a -> b").settings
    assert (one.critical, one.reason) == (None, "it is on no loop")
    graph = parse_graph("a/retry -> a; a/ok -> b")
    (one,) = critical(counts_of({"a": {"a a": 1, "b": 2}, "b": {"": 1}}), "a/retry", graph, prior=0).settings
    assert (one.key, one.target, round(one.critical, 12)) == (("retry",), "a", 0.5)


def with_share(counts, source, target, share):
    """Return the mean matrix with another share of one arrow, written down again."""
    table = table_of(counts)
    i, j = table.names.index(source), table.names.index(target)
    hits = table.sent[i][:, j] > 0
    p = table.chance[i].copy()
    q = p[hits].sum()
    p[hits] *= share / q
    if q < 1 - 1e-12:
        p[~hits] *= (1 - share) / (1 - q)
    M = table.mean
    M[i] = p @ table.sent[i]
    return M, table


def root_of_class(M, table, source):
    n = len(M)
    R = np.linalg.matrix_power((table.mean > 0) + np.eye(n), n) > 0
    i = table.names.index(source)
    some = np.flatnonzero(R[i] & R[:, i])
    return max(abs(np.linalg.eigvals(M[np.ix_(some, some)])))


@settings(deadline=None, max_examples=150)
@given(counts=tables())
def test_the_root_is_one_there(counts):
    found = critical(counts, top=1000)
    for s in found.settings:
        M, table = with_share(counts, s.source, s.target, s.critical)
        assert abs(root_of_class(M, table, s.source) - 1) < 1e-6
        assert s.error_bound < 1e-6
        if s.multiplies == "never":
            assert s.critical in (0.0, 1.0) or min(s.critical, 1 - s.critical) <= s.error_bound
            continue
        side = s.critical + (0.01 if s.multiplies == "above" else -0.01)
        M, table = with_share(counts, s.source, s.target, side)
        assert root_of_class(M, table, s.source) > 1
    asked = {(s.source, s.target) for s in found.settings}
    # Where none is given, the root stays on one side of 1.
    table = table_of(counts)
    n = len(table.names)
    R = np.linalg.matrix_power((table.mean > 0) + np.eye(n), n) > 0
    for i, j in np.argwhere(table.mean > 0):
        if R[j, i] and (table.names[i], table.names[j]) not in asked:
            a, b = table.names[i], table.names[j]
            roots = [root_of_class(*with_share(counts, a, b, x), a) for x in (0, 0.5, 1)]
            assert min(roots) > 1 - 1e-6 or max(roots) < 1 + 1e-6


def test_hostile_input():
    counts = counts_of({"a": {"a a": 1, "": 3}})
    for top in (0, 2.5, "many", float("nan"), float("inf"), None):
        with pytest.raises(AnalysisError, match="a whole number of at least 1"):
            critical(counts, top=top)
    with pytest.raises(AnalysisError, match="at least one arrow"):
        critical(counts, [])
    with pytest.raises(AnalysisError, match="no pair"):
        critical(counts, "a to b")
    assert critical(Counts({("a", ""): 1})).settings == ()
    closed = critical(Chain.from_matrix([[1.0]])).settings[0]
    assert (closed.share, closed.critical, closed.multiplies) == (1.0, 1.0, "never")
    assert "nan" not in str(critical(counts))
