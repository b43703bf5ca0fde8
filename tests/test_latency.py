import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowstat.estimate.latency import Latency, bucket

times = st.lists(st.integers(0, 2**62), min_size=1, max_size=30)


@given(times, times)
def test_two_add_up_to_that_of_all(a, b):
    assert Latency.of(a) + Latency.of(b) == Latency.of(a + b)


@given(times)
def test_moments_are_exact(values):
    known = Latency.of(values)
    assert known.mean == pytest.approx(statistics.fmean(values))
    assert known.variance == pytest.approx(float(statistics.pvariance(values)), rel=1e-9, abs=1e-6)


@given(times, st.floats(0, 1))
def test_quantiles_are_within_a_hundredth(values, share):
    exact = sorted(values)[int(share * (len(values) - 1))]
    assert Latency.of(values).quantile(share) == pytest.approx(exact, rel=0.0101, abs=1)


def test_buckets_begin_at_one_nanosecond_and_grow():
    assert [bucket(n) for n in (0, 1, 2, 100)] == [0, 0, 36, 233]
