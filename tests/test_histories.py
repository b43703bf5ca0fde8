"""What was before each event, and which part of the data it is in, against plain loops over the rows."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings

from flowstat.errors import TraceError
from flowstat.estimate.counting import count
from flowstat.estimate.counts import Counts
from flowstat.estimate.counts_file import write_counts
from flowstat.estimate.histories import FOLDS, START, folds_of, read_histories
from flowstat.estimate.time_slices import TimeSlices
from flowstat.read.traces import Traces, read_traces
from tests.strategies import event, forests, line, write_json_lines, write_parquet


@settings(max_examples=6)
@given(forests())
def test_they_add_up_to_counts_in_every_format(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("histories")
    if not rows:
        return
    written = write_parquet(path / "t.parquet", rows), write_json_lines(path / "t.jsonl", rows)
    one, other = (read_histories(read_traces(p), seed=3) for p in written)
    counted = count(read_traces(written[0]))
    assert one.counts().table == counted.table
    assert one.counts().starts == counted.starts
    assert one.events == other.events
    assert (one.folds == other.folds).all()
    assert one.times == other.times
    per_file = Counter()
    for (_, node, sent), n in one.files.items():
        if node != START:
            per_file[node, sent] += n
    assert per_file == counted.table


def test_events_are_told_apart_by_what_sent_them(tmp_path):
    rows = [
        *line(1, "a", "c"),
        *line(2, "b", "c"),
        event(3, 7, "c", parent_id=6),
        event(4, 7, "c", parent_id=6, parent="b"),
    ]
    found = read_histories(read_traces(write_parquet(tmp_path / "t.parquet", rows)))
    seen = {tuple(e): int(n) for e, n in zip(found.events, found.folds.sum(axis=1), strict=True)}
    assert seen == {
        (None, "a", "c", True): 1,
        (None, "b", "c", True): 1,
        ("a", "c", "", False): 1,
        ("b", "c", "", False): 2,
        (None, "c", "", False): 1,
    }


def test_groups_are_files_workers_and_times(tmp_path):
    one = [event(k, 1, "a", worker=f"w{k % 2}", started_at=10**9 * k) for k in range(16)]
    traces = Traces(())
    for name, rows in (("x", one), ("y", [event(1, 1, "b")])):
        traces = Traces(traces.files + read_traces(write_parquet(tmp_path / f"{name}.parquet", rows)).files)
    found = read_histories(traces)
    x, y = (file.origin for file in traces.files)
    assert found.files == {(x, "a", ""): 16, (y, "b", ""): 1, (x, START, "a"): 16, (y, START, "b"): 1}
    assert found.workers == {("w0", "a", ""): 8, ("w1", "a", ""): 8}
    assert found.times == {(str(k), node, sent): 2 for k in range(1, 9) for node, sent in (("a", ""), (START, "a"))}
    assert found.slices[0] <= 0
    assert list(found.slices) == sorted(found.slices)


def test_runs_keep_their_fold_whatever_the_batch(tmp_path):
    ids = np.arange(5000, dtype=np.uint64)
    whole = folds_of(pa.array(ids), 1)
    assert (whole[::-1] == folds_of(pa.array(ids[::-1].copy()), 1)).all()
    assert np.bincount(whole, minlength=FOLDS).min() > 400
    assert (whole != folds_of(pa.array(ids), 2)).mean() > 0.8
    texts = folds_of(pa.array([f"run {k}" for k in range(5000)]), 1)
    assert np.bincount(texts, minlength=FOLDS).min() > 400


@pytest.mark.parametrize("scale", [1, 10**6, 10**15])
def test_time_is_sliced_evenly_in_any_order(scale):
    random = np.random.default_rng(3)
    times = np.sort(random.integers(0, 1000, 4000)) * scale - 10**17
    kinds = random.integers(0, 3, 4000)
    parts = TimeSlices()
    for some in np.array_split(random.permutation(4000), 7):
        parts.add(times[some], kinds[some])
    edges = parts.edges()
    grouped = parts.grouped(edges)
    sizes = np.bincount([key >> 31 for key in grouped], weights=list(grouped.values()))
    assert len(edges) == 8
    assert sizes.sum() == 4000
    assert abs(sizes - 500).max() <= 50
    place = np.searchsorted(edges, times, side="right") - 1
    assert grouped == Counter((place << 31 | kinds).tolist())


def test_counts_can_not_tell(tmp_path):
    write_counts(Counts({("a", ""): 1}, {"a": 1}), tmp_path / "c.json")
    with pytest.raises(TraceError, match="holds counts"):
        read_histories(read_traces(tmp_path / "c.json"))
