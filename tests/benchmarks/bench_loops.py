"""How fast the loop forest is found, beside the dominators that rustworkx finds; and what describing loops takes."""

import numpy as np
import rustworkx
from scipy import sparse

from flowstat.analyze.loop_forest import loop_forest
from tests.benchmarks.harness import Row, alternate, median_ratio

NODES, ARROWS = 100_000, 250_000


def call_graph(seed=1):
    """Return arrows between nodes: a tree, near jumps on, and back arrows that close loops in loops."""
    rng = np.random.default_rng(seed)
    own = np.arange(1, NODES)
    tree = np.stack([np.maximum(own - rng.integers(1, 40, NODES - 1), 0), own])
    number = ARROWS - NODES + 1
    sources = rng.integers(0, NODES, number)
    back = rng.random(number) < 0.3
    steps = np.where(back, -rng.integers(0, 60, number), rng.integers(1, 400, number))
    return np.concatenate([tree, np.stack([sources, np.clip(sources + steps, 0, NODES - 1)])], axis=1)


def anywhere(seed=1):
    """Return arrows at random: one giant class, irreducible throughout."""
    rng = np.random.default_rng(seed)
    own = np.arange(1, NODES)
    tree = np.stack([rng.integers(0, own), own])
    return np.concatenate([tree, rng.integers(0, NODES, (2, ARROWS - NODES + 1))], axis=1)


def benchmarks():
    for name, arrows in (("a call graph", call_graph()), ("arrows at random", anywhere())):
        P = sparse.csr_array((np.ones(arrows.shape[1]), tuple(arrows)), shape=(NODES, NODES))
        P.sum_duplicates()
        graph = rustworkx.PyDiGraph()
        graph.add_nodes_from(range(NODES))
        graph.add_edges_from_no_data(list(zip(*arrows.tolist(), strict=True)))
        root = np.array([0])
        loop_forest(P, root)
        times = alternate(
            lambda P=P, root=root: loop_forest(P, root),
            lambda graph=graph: rustworkx.immediate_dominators(graph, 0),
        )
        yield Row(
            f"loop forest of {name}, {NODES:,} nodes: flowstat / rustworkx's dominators",
            median_ratio(times[0], times[1]),
            2,
            "at most",
            f"{1e3 * sorted(times[0])[3]:.0f} ms",
        )
