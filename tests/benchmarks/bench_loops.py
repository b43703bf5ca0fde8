"""How fast the loop forest is found, beside the dominators that rustworkx finds; and what describing loops takes."""

import tempfile
from pathlib import Path

import numpy as np
import rustworkx
from scipy import sparse

from flowstat.analyze.loop_forest import loop_forest
from tests.benchmarks.harness import Row, alternate, median_ratio, run
from tests.benchmarks.made_chains import complete, giant, program_like, save

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


def nests(seed=1):
    """Return 2,000 classes of fifty nodes, of four arrows to anywhere in the class or the next: half as many loops as
    nodes, up to forty deep."""
    rng = np.random.default_rng(seed)
    rows = np.repeat(np.arange(NODES), 4)
    begin = rows // 50 * 50
    near = rng.random(len(rows)) < 0.8
    columns = np.where(near, begin, np.minimum(begin + 50, NODES - 50)) + rng.integers(0, 50, len(rows))
    weights = rng.random(len(rows)) + 0.01
    weights *= 0.98 / np.bincount(rows, weights)[rows]
    return complete(sparse.csr_array((weights, (rows, columns)), shape=(NODES, NODES)))


PREPARE = """
import numpy as np
from flowstat.analyze.loops import loops
from flowstat.estimate.chain import Chain
from tests.benchmarks.made_chains import load
P, stop, _ = load(path)
chain = Chain.from_matrix(P, start="0", stop=stop)
loops(Chain.from_matrix([[0.5]], stop=[0.5]))
"""

WORK = """
found = loops(chain)
result = [len(found.loops), found.left_out]
"""


def described():
    """Yield seconds and memory of describing all loops."""
    with tempfile.TemporaryDirectory() as folder:
        for name, made in (
            ("1,700 classes", program_like(NODES)),
            ("2,000 nests", nests()),
            ("one giant class", giant(NODES)),
        ):
            path = Path(folder) / "chain.npz"
            save(path, *made)
            # What was compiled is kept, and so is not compiled in the second turn.
            run(PREPARE, WORK, path)
            taken, peak, (number, left_out) = run(PREPARE, WORK, path)
            what = f"loops of {NODES:,} nodes in {name}"
            detail = f"{number:,} loops, {left_out:,} left out"
            yield Row(f"{what}: seconds", taken, 20, "at most", detail)
            yield Row(f"{what}: MB", peak, 600, "at most", detail)


def benchmarks():
    yield from described()
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
