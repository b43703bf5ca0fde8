"""How fast it is told whether a program storms, beside the plain way: dense eigenvalues, an inverse, and iteration."""

import numpy as np

from flowstat.analyze.amplification import amplification
from flowstat.analyze.extinction import survival
from flowstat.analyze.offspring import offspring
from flowstat.analyze.radius import radii
from flowstat.estimate.chain import estimate
from flowstat.estimate.counts import Counts
from flowstat.read.patterns import format_pattern
from tests.benchmarks.harness import Row, alternate, median_ratio

BLOCK = 60


def program(nodes, stop, seed=1):
    """Return the chain of a program of classes of up to sixty nodes, of which some events send two messages."""
    rng = np.random.default_rng(seed)
    table = {}
    for i in range(nodes):
        near = [min(nodes - 1, i // BLOCK * BLOCK + int(x)) for x in rng.integers(0, BLOCK, 3)]
        far = min(nodes - 1, i + int(rng.integers(1, 10 * BLOCK)))
        for targets, events in (((near[0],), 30), ((near[1], near[2]), 12), ((near[0], far), 5), ((), stop)):
            key = (f"n{i}", format_pattern(f"n{j}" for j in targets))
            table[key] = table.get(key, 0) + events
    return estimate(Counts(table, {"n0": 1}))


def plain(chain):
    """Answer as one writes it first: the radius, the expected events, and extinction by iteration."""
    law = offspring(chain)
    M, n = law.mean.toarray(), len(law.stop)
    rho = np.abs(np.linalg.eigvals(M)).max()
    events = np.linalg.solve(np.eye(n) - M, np.ones(n))
    return rho, events, iterated(law)


def iterated(law):
    """Iterate the generating functions from 0 until they change by less than 1e-14."""
    x = np.zeros(len(law.stop))
    while True:
        with np.errstate(divide="ignore"):
            terms = law.chance * np.exp(law.sent @ np.log(x))
        new = law.stop + np.bincount(law.node, weights=terms, minlength=len(x))
        if np.abs(new - x).max() < 1e-14:
            return new
        x = new


def benchmarks():
    chain = program(1500, 40)
    times = alternate(lambda: plain(chain), lambda: amplification(chain), repetitions=3)
    rho = amplification(chain).rho
    yield Row("1,500 nodes, all of it: dense / flowstat", median_ratio(*times), 5, "at least", f"rho {rho:.3f}")
    # Next to critical the iteration creeps.
    law = offspring(estimate(Counts({("a", "a a"): 50_010, ("a", ""): 49_990}, {"a": 1})))
    found = radii(law)
    times = alternate(lambda: iterated(law), lambda: survival(law, found), repetitions=3)
    rho = found[0].rho
    yield Row("extinction next to critical: iteration / Newton", median_ratio(*times), 20, "at least", f"rho {rho:.4f}")
