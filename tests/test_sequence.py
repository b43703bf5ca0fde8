from collections import Counter
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowstat.estimate import sequence
from flowstat.estimate.sequence import Follows, OutOfOrder, follow

events = st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from("abc"), st.none() | st.integers(0, 9)), max_size=40)
rows_together = st.sampled_from([1, 2, 7, 1 << 20])


def batches(log, size, kind="string"):
    for start in range(0, len(log), size):
        case, name, time = zip(*log[start : start + size], strict=True)
        case = pa.array(case).dictionary_encode() if kind == "dictionary" else pa.array(case).cast(kind)
        times = pa.array(time, pa.int64()).cast(pa.timestamp("ns", "UTC"))
        yield pa.RecordBatch.from_arrays(
            [case, pa.array(name).dictionary_encode(), times], names=["trace_id", "name", "started_at"]
        )


def by_hand(log, cut=None):
    """Count successors within each case, in the order of time (unknown last), then of the file."""
    cases = {}
    for place, (case, name, time) in enumerate(log):
        cases.setdefault(case, []).append((time is None, time or 0, place, name, time))
    latest = max((time for _, _, time in log if time is not None), default=None)
    found = Follows()
    for case in cases.values():
        case.sort()
        names = [event[3] for event in case]
        found.pairs.update(pairwise(names))
        last = case[-1][4]
        if cut is not None and last is not None and last > latest - cut:
            found.cut[names[-1]] += 1
            if len(names) == 1:
                continue
        else:
            found.ends[names[-1]] += 1
        found.starts[names[0]] += 1
    return found


def in_order(log):
    last = {}
    for case, _, time in log:
        time = 99 if time is None else time
        if time < last.get(case, 0):
            return False
        last[case] = time
    return True


@given(
    events,
    rows_together,
    st.integers(1, 9),
    st.sampled_from(["string", "dictionary"]),
    st.none() | st.integers(0, 9),
)
def test_successors_equal_a_count_by_hand(log, together, size, kind, cut):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sequence, "ROWS", together)
        if not in_order(log):
            with pytest.raises(OutOfOrder):
                follow(batches(log, size, kind), cut)
            log = sorted(log, key=lambda event: (event[2] is None, event[2] or 0))
        assert follow(batches(log, size, kind), cut) == by_hand(log, cut)


def test_cases_may_be_integers_or_texts():
    log = [("7", "a", 1), ("8", "b", 2), ("7", "c", 3)]
    assert follow(batches(log, 2, "int64")) == follow(batches(log, 2)) == by_hand(log)


def test_an_empty_log_has_no_successors():
    assert follow(iter(())) == Follows()


def test_many_cases_are_sorted_as_few_are():
    """More cases than 16 bits can number: they are sorted in two halves."""
    rng = np.random.default_rng(5)
    case = rng.integers(0, 90_000, 300_000)
    name = rng.integers(0, 5, 300_000)
    log = [(f"c{c}", f"n{n}", k) for k, (c, n) in enumerate(zip(case.tolist(), name.tolist(), strict=True))]
    found = follow(batches(log, 50_000))
    assert found == by_hand(log)
    assert sum(found.starts.values()) == len(set(case.tolist()))
    assert sum(found.ends.values()) + sum(found.pairs.values()) == len(log)
    assert isinstance(found.pairs, Counter)
