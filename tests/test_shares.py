import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from flowstat.analyze.shares import Share, Shares, shares
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import END, Chain, estimate
from flowstat.estimate.counts import Counts
from flowstat.read.files import parse_graph
from tests.oracles import chains, shop

GRAPH = parse_graph("pay/retry -> pay; pay/ok -> ship @0.75; ship -> notify, audit;")


def by_pair(found: Shares) -> dict[tuple[str, str], Share]:
    return {(s.source, s.target): s for s in found.shares}


@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
def test_without_fan_out_the_interval_is_the_beta_marginal(level: float) -> None:
    """30 of 100 events retry, prior 1 with 1/4 on that arrow: Beta(30.25, 70.75), of mean 30.25/101."""
    counts = Counts({("pay", "pay"): 30, ("pay", "ship"): 70, ("ship", ""): 70}, {"pay": 100})
    found = by_pair(shares(estimate(counts, GRAPH), level))
    retry, ok = found["pay", "pay"], found["pay", "ship"]
    law = stats.beta(30.25, 70.75)
    assert retry.share == pytest.approx(law.mean())
    assert (retry.low, retry.high) == pytest.approx(law.interval(level))
    assert (ok.low, ok.high) == pytest.approx((1 - retry.high, 1 - retry.low))
    assert (retry.key, retry.messages, retry.declared) == (("retry",), 30, True)
    # The end was not declared, and half of the prior is on each arrow of `ship`.
    end = stats.beta(70, 1).interval(level)
    assert (found["ship", END].low, found["ship", END].high) == pytest.approx(end)
    assert found["ship", END].messages == 70
    assert (found["ship", "audit"].low, found["ship", "audit"].high) == pytest.approx(
        stats.beta(0.5, 70.5).interval(level)
    )
    assert found["notify", END].low is None


def test_with_fan_out_the_moments_are_those_of_the_dirichlet_law() -> None:
    """Patterns b*2 c (8 times), b (3), nothing (4) and a prior of 2 on b and c: a lineage goes to b with
    p_1 2/3 + p_2 + p_b. Mean and variance, of the drawn posterior, are matched by the interval's beta law."""
    counts = Counts({("a", "b*2 c"): 8, ("a", "b"): 3, ("a", ""): 4}, {"a": 15})
    share = by_pair(shares(estimate(counts, parse_graph("a -> b, c"), prior=2), 0.9))["a", "b"]
    p = np.random.default_rng(5).dirichlet([8, 3, 4, 1, 1], 400_000)
    drawn = p @ [2 / 3, 1, 0, 1, 0]
    assert share.share == pytest.approx((8 * 2 / 3 + 3 + 1) / 17)
    weight = share.share * (1 - share.share) / drawn.var() - 1
    expected = stats.beta(share.share * weight, (1 - share.share) * weight).interval(0.9)
    assert (share.low, share.high) == pytest.approx(expected, abs=2e-3)
    assert (share.low, share.high) == pytest.approx(np.quantile(drawn, [0.05, 0.95]), abs=0.01)
    assert share.messages == 19


def test_undeclared_pairs_are_told() -> None:
    counts = Counts({("pay", "audit"): 2, ("pay", "ship"): 2}, {"pay": 4})
    found = shares(estimate(counts, GRAPH))
    assert not by_pair(found)["pay", "audit"].declared
    assert by_pair(found)["pay", "ship"].declared
    assert found.notes()[1] == "1 pairs are not in the graph."


def test_without_traces_there_is_no_interval() -> None:
    for chain in (estimate(Counts(), GRAPH), shop()):
        found = shares(chain)
        assert {(s.low, s.high, s.messages) for s in found.shares} == {(None, None, None)}
        assert "No traces" in str(found)


def test_a_share_that_cannot_vary_has_no_width() -> None:
    """All 16,448 events sent two to a and one to c: whatever the data, a lineage goes to c with 1/3."""
    share = by_pair(shares(estimate(Counts({("a", "a*2 c"): 16448}), prior=0)))["a", "c"]
    assert (share.low, share.high) == pytest.approx((1 / 3, 1 / 3), rel=1e-8)


def test_intervals_of_very_many_events() -> None:
    """The beta law is handed over to the normal law without a step."""
    for n in (10**7, 10**10, 10**14):
        share = by_pair(shares(estimate(Counts({("a", "a"): n, ("a", "b"): 3 * n}), prior=0)))["a", "a"]
        width = 2 * stats.norm.ppf(0.975) * np.sqrt(0.25 * 0.75 / (4 * n + 1))
        assert share.low is not None
        assert share.high is not None
        assert share.high - share.low == pytest.approx(width, rel=1e-3)
        assert share.low < share.share < share.high


@pytest.mark.parametrize("level", [0, 1, -1, 2, float("nan")])
def test_a_level_is_a_chance(level: float) -> None:
    with pytest.raises(AnalysisError, match="between 0 and 1"):
        shares(shop(), level)


patterns = st.sampled_from(["", "a", "b", "a b", "a*2 c", "c", "b*3", "z"])


@settings(max_examples=200)
@given(
    st.dictionaries(st.tuples(st.sampled_from("abc"), patterns), st.integers(1, 10**6), min_size=1),
    st.sampled_from([0, 0.5, 1, 1000]),
)
def test_intervals_hold_their_shares_and_rows_sum_to_one(table: dict[tuple[str, str], int], prior: float) -> None:
    chain = estimate(Counts(table, {"a": 1}), parse_graph("a -> b -> c; a -> a @0.25"), prior)
    found = shares(chain)
    for name in chain.names:
        assert sum(s.share for s in found.shares if s.source == name) == pytest.approx(1)
    for s in found.shares:
        assert s.low is None or s.high is None or 0 <= s.low <= s.high <= 1
        assert (s.low is None) == (s.high is None) == (s.source not in chain.counts.events)
    json.dumps(found.to_dict(), allow_nan=False)


@settings(max_examples=200)
@given(chains(traps=True))
def test_shares_are_the_chain(chain: Chain) -> None:
    found = {(s.source, s.target): s.share for s in shares(chain).shares}
    for i, name in enumerate(chain.names):
        assert found.get((name, END), 0) == chain.stop[i]
        for j, target in enumerate(chain.names):
            assert found.get((name, target), 0) == chain.P[i, j]


def test_results_show_themselves() -> None:
    counts = Counts({("pay", "audit"): 2, ("pay", "ship"): 2}, {"pay": 4})
    for result in (shares(shop()), shares(estimate(counts, GRAPH)), Shares((), 0.95, True)):
        assert str(result).startswith("Shares")
        assert list(result.frame().columns) == list(result.columns)
        assert len(result.frame()) == len(result.shares)
        assert "<table>" in result._repr_html_()
        json.dumps(result.to_dict(), allow_nan=False)
