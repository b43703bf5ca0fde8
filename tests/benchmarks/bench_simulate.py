"""How fast runs of a chain are simulated, beside the plain loop that draws one arrow after the other."""

import random
from itertools import accumulate

import numpy as np
from scipy import sparse

from flowstat.analyze.simulation import simulate
from flowstat.estimate.chain import Chain
from tests.benchmarks.harness import Row, alternate, median_ratio

EVENTS = 10_000_000
LOOPED = 500_000
"""Events that the plain loop plays: its rate is the same for any number."""

ARROWS = 4


def program(nodes, length, seed=1):
    """Return a chain of about `length` events a run: classes of up to sixty nodes, of about four arrows each."""
    rng = np.random.default_rng(seed)
    rows = np.repeat(np.arange(nodes), ARROWS)
    near = rows // 60 * 60 + rng.integers(0, 60, nodes * ARROWS)
    far = rows + rng.integers(1, 600, nodes * ARROWS)
    columns = np.where(rng.random(nodes * ARROWS) < 0.9, near, far) % nodes
    shares = rng.dirichlet(np.ones(ARROWS), nodes) * (1 - 1 / length)
    P = sparse.csr_array((shares.ravel(), (rows, columns)), shape=(nodes, nodes))
    P.sum_duplicates()
    return Chain.from_matrix(P, start="0", stop=1 - P.sum(axis=1))


def looper(chain):
    """Return a function that plays so many events as one writes it first, with all weights added up before."""
    n = len(chain.names)
    indptr, indices, data = chain.P.indptr.tolist(), chain.P.indices.tolist(), chain.P.data.tolist()
    ways = [[*indices[indptr[i] : indptr[i + 1]], n] for i in range(n)]
    weights = [[*data[indptr[i] : indptr[i + 1]], stop] for i, stop in enumerate(chain.stop.tolist())]
    added = [list(accumulate(each)) for each in weights]

    def play(events):
        choices = random.Random(1).choices
        visits, ended, lengths = [0] * n, [0] * n, {}
        while events > 0:
            node, length = 0, 0
            while node != n:
                visits[node] += 1
                length += 1
                last = node
                node = choices(ways[node], cum_weights=added[node])[0]
            ended[last] += 1
            lengths[length] = lengths.get(length, 0) + 1
            events -= length
        return sum(visits)

    return play


def benchmarks():
    for nodes, length in ((50, 5), (50, 50), (1000, 50), (100_000, 50)):
        chain = program(nodes, length)
        play = looper(chain)
        ours = simulate(chain, EVENTS // length, 1)
        times = alternate(
            lambda chain=chain, length=length: simulate(chain, EVENTS // length, 1),
            lambda play=play: play(LOOPED),
            repetitions=3,
        )
        scaled = [t * ours.total / LOOPED for t in times[1]]
        rate = ours.total / sorted(times[0])[1] / 1e6
        yield Row(
            f"{nodes:,} nodes, {length} events a run: plain loop / flowstat",
            median_ratio(scaled, times[0]),
            20,
            "at least",
            f"{rate:.0f} million events a second",
        )
