"""Reading a graph, against networkx reading the same edges."""

import io
from collections.abc import Iterator

import networkx as nx
import numpy as np

from flowstat.read.files import parse_graph
from tests.benchmarks.harness import Row, alternate, median_ratio

ARROWS = 1_000_000
NODES = 100_000


def benchmarks() -> Iterator[Row]:
    chance = np.random.default_rng(1)
    # Distinct pairs, so that both hold a million edges.
    codes = chance.choice(NODES * NODES, ARROWS, replace=False)
    edges = [(f"n{a}", f"n{b}") for a, b in zip(*divmod(codes, NODES), strict=True)]
    ours = "".join(f"{a} -> {b};\n" for a, b in edges)
    theirs = "".join(f"{a} {b}\n" for a, b in edges).encode()

    def flowstat_reads() -> None:
        assert len(parse_graph(ours).arrows) == ARROWS

    def networkx_reads() -> None:
        assert nx.read_edgelist(io.BytesIO(theirs), create_using=nx.DiGraph).number_of_edges() == ARROWS

    over, under = alternate(flowstat_reads, networkx_reads, repetitions=3)
    detail = f"{ARROWS:,} arrows in {min(over):.1f} s, networkx.read_edgelist {min(under):.1f} s"
    yield Row("parse a graph / networkx edge list", median_ratio(over, under), 1.5, "at most", detail)
