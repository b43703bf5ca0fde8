"""Traces of a chain's own runs, made by chance: what a check of the chain must not complain about."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flowstat.analyze.simulation import simulate
from flowstat.estimate.chain import Chain
from flowstat.read.canonical import open_writer, schema
from flowstat.read.patterns import format_pattern
from flowstat.read.traces import Traces, read_traces

Walk = Sequence[str]


def walks_of(chain: Chain, runs: int, seed: int) -> list[Walk]:
    """Play runs of a chain: their nodes."""
    return list(simulate(chain, runs, seed, paths=runs).paths)


def table_of(
    walks: Iterable[Walk], random: np.random.Generator | None = None, workers: int = 0, first: int = 1
) -> pa.RecordBatch:
    """Return runs as canonical rows; with `random`, with times at which they overlap, and workers by chance."""
    walks = list(walks)
    lengths = np.array([len(walk) for walk in walks], np.int64)
    name = [node for walk in walks for node in walk]
    n = len(name)
    run = np.repeat(np.arange(len(walks)), lengths)
    place = np.arange(n) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    parent = [None if k == 0 else name[i - 1] for i, k in enumerate(place.tolist())]
    last = np.append(place[1:] == 0, True)
    sent = ["" if end else format_pattern([name[i + 1]]) for i, end in enumerate(last.tolist())]
    columns: dict[str, object] = {
        "trace_id": pa.array(run + first, pa.uint64()),
        "span_id": pa.array(place + 1, pa.uint64()),
        "parent_id": pa.array(place, pa.uint64(), mask=place == 0),
        "parent": parent,
        "name": name,
        "sent": sent,
        "status": ["ok"] * n,
        "key": [None] * n,
    }
    times: npt.NDArray[np.int64] | None = None
    if random is not None:
        times = 10**18 + run * 10**9 + np.cumsum(random.exponential(10**9, n)).astype(np.int64)
    columns["started_at"] = pa.array(times if times is not None else [None] * n, pa.timestamp("ns", tz="UTC"))
    columns["worker"] = (
        [f"w{k}" for k in random.integers(0, workers, n)] if random is not None and workers else [None] * n
    )
    want = schema()
    made = [
        columns[f.name]
        if isinstance(columns.get(f.name), pa.Array)
        else pa.array(columns.get(f.name, [None] * n), pa.string())
        if pa.types.is_dictionary(f.type)
        else pa.nulls(n, f.type)
        for f in want
    ]
    arrays = [
        column.dictionary_encode().cast(f.type) if pa.types.is_dictionary(f.type) else column.cast(f.type)
        for f, column in zip(want, made, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=want)


def recorded(path: Path, batch: pa.RecordBatch) -> Traces:
    """Write rows as a trace, and find it."""
    with open_writer(path) as writer:
        writer.write(batch)
    return read_traces(path)
