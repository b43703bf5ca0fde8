"""The same run in every format gives the same counts: through each writer, and back through its reader."""

from dataclasses import replace

import pytest
from hypothesis import given, settings

from flowstat.estimate.counting import count
from flowstat.read.notices import Notices
from flowstat.read.resolve import canonical_batches
from flowstat.read.traces import read_traces
from flowstat.read.writers import open_trace_writer
from tests.strategies import forests, write_parquet

WRITTEN = {
    "parquet": "t.parquet",
    "jsonl": "t.jsonl",
    "otlp": "t.otlp.json",
    "jaeger": "t.jaeger.json",
    "xes": "t.xes",
    "packed xes": "t.xes.gz",
}


def convert(source, target):
    (file,) = read_traces(source).files
    with open_trace_writer(target, overwrite=True) as writer:
        for batch in canonical_batches(file, Notices()):
            writer.write(batch)
    return target


def numbers(counts):
    return replace(counts, files=(), problems=())


@settings(max_examples=20)
@pytest.mark.parametrize("format", WRITTEN)
@given(rows=forests().filter(bool))
def test_counts_stay_the_same_through_every_format(tmp_path, format, rows):
    source = write_parquet(tmp_path / "source", rows)
    before = count(read_traces(source))
    after = count(read_traces(convert(source, tmp_path / WRITTEN[format])))
    assert numbers(after) == numbers(before)
    orphans = [[p.number for p in counts.problems if "parent was not recorded" in p.what] for counts in (before, after)]
    assert orphans[0] == orphans[1]


@settings(max_examples=10)
@given(rows=forests().filter(bool))
def test_a_chain_of_conversions_changes_nothing(tmp_path, rows):
    path = write_parquet(tmp_path / "source", rows)
    before = numbers(count(read_traces(path)))
    for k, name in enumerate(WRITTEN.values()):
        path = convert(path, tmp_path / f"{k}-{name}")
    assert numbers(count(read_traces(path))) == before


def test_converted_parquet_is_marked_and_scanned(tmp_path):
    source = convert("data/orders.parquet", tmp_path / "a.jsonl")
    (file,) = read_traces(convert(source, tmp_path / "b.parquet")).files
    assert file.is_marked
    assert numbers(count(read_traces(tmp_path / "b.parquet"))) == numbers(count(read_traces("data/orders.parquet")))
