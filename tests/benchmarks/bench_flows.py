"""How fast likely flows, walks and cycles by flux are found, walks beside igraph's shortest simple paths."""

import time

import igraph
import numpy as np
from scipy import sparse

from flowstat.analyze.cycles import cycles
from flowstat.analyze.flows import flows
from flowstat.analyze.variants import variants
from flowstat.estimate.chain import Chain
from tests.benchmarks.bench_simulate import program
from tests.benchmarks.harness import Row, alternate, median_ratio

NODES, ARROWS, CLASS = 10_000, 4, 60


def staged(length=50, everywhere=True, seed=1):
    """Return a chain of classes of sixty nodes, one after the other, of about `length` events a run.

    Runs may end `everywhere`, or at every twentieth node only.
    """
    rng = np.random.default_rng(seed)
    rows = np.repeat(np.arange(NODES), ARROWS)
    first = rows // CLASS * CLASS
    near = first + rng.integers(0, CLASS, len(rows))
    far = first + CLASS + rng.integers(0, 5 * CLASS, len(rows))
    columns = np.where(rng.random(len(rows)) < 0.9, near, far)
    ends = np.full(NODES, 1 / length) if everywhere else np.where(np.arange(NODES) % 20 == 19, 0.5, 0.0)
    shares = (rng.dirichlet(np.ones(ARROWS), NODES) * (1 - ends)[:, None]).ravel()
    kept = columns < NODES
    P = sparse.csr_array((shares[kept], (rows[kept], columns[kept])), shape=(NODES, NODES))
    P.sum_duplicates()
    return Chain.from_matrix(P, start="0", stop=np.maximum(1 - P.sum(axis=1), 0.0))


def spread(nodes, stop=0.05, seed=1):
    """Return a chain of one class in which every node leads to four at random."""
    rng = np.random.default_rng(seed)
    rows, columns = np.repeat(np.arange(nodes), ARROWS), rng.integers(0, nodes, ARROWS * nodes)
    P = sparse.csr_array((rng.random(len(rows)) + 0.01, (rows, columns)), shape=(nodes, nodes))
    P.sum_duplicates()
    P = sparse.csr_array(sparse.diags_array((1 - stop) / P.sum(axis=1)) @ P)
    return Chain.from_matrix(P, start="0", stop=1 - P.sum(axis=1))


def one_end(chain):
    """Return the chain's arrows with one more node, where runs end, and their -log shares: what igraph takes."""
    rows, columns, shares = chain.arrows()
    ending = np.flatnonzero(chain.stop > 0)
    sources, targets = np.concatenate([rows, ending]), np.concatenate([columns, np.full(len(ending), NODES)])
    weights = -np.log(np.concatenate([shares, chain.stop[ending]]))
    graph = igraph.Graph(n=NODES + 1, edges=list(zip(sources.tolist(), targets.tolist(), strict=True)), directed=True)
    return graph, np.maximum(weights, 0.0).tolist()


def benchmarks():
    chain = staged()
    for where, made in (("anywhere", chain), ("at some nodes", staged(everywhere=False))):
        graph, weights = one_end(made)
        times = alternate(
            lambda made=made: variants(made, 1000),
            lambda graph=graph, weights=weights: graph.get_k_shortest_paths(
                0, NODES, k=1000, weights=weights, output="vpath"
            ),
            repetitions=5,
        )
        yield Row(
            f"1,000 best walks of {NODES:,} nodes, ends {where}: igraph's simple paths / flowstat",
            median_ratio(times[1], times[0]),
            40,
            "at least",
            f"{1e3 * sorted(times[0])[2]:.0f} ms",
        )
    for name, made, bound in (
        (f"classes of {CLASS}", chain, 5),
        ("one class", program(NODES, 50), 20),
    ):
        started = time.perf_counter()
        found = flows(made, 100)
        taken = time.perf_counter() - started
        assert found.complete
        assert len(found.flows) == 100
        yield Row(f"100 best flows of {NODES:,} nodes in {name}, seconds", taken, bound, "at most", f"{taken:.1f} s")
    for nodes, bound in ((300, 5), (10_000, 20)):
        made = spread(nodes)
        started = time.perf_counter()
        often = cycles(made, 20, by="flux")
        taken = time.perf_counter() - started
        assert often.complete
        yield Row(
            f"20 cycles by flux of one class of {nodes:,} nodes, seconds", taken, bound, "at most", f"{taken:.1f} s"
        )
