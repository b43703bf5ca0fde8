"""How fast it is told whether a program storms, beside the plain way: dense eigenvalues, an inverse, and iteration."""

from functools import partial

import numpy as np

from flowstat.analyze.amplification import amplification
from flowstat.analyze.extinction import survival
from flowstat.analyze.offspring import offspring
from flowstat.analyze.radius import radii
from flowstat.analyze.reach import reach
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


def giant(nodes, whole=10**6, by=1, seed=1):
    """Return the chain of one class that spans the program, next to critical: rho is 1 + 2 by / whole."""
    rng = np.random.default_rng(seed)
    table = {}
    for i in range(nodes):
        a, b = rng.integers(0, nodes, 2).tolist()
        table[f"n{i}", format_pattern([f"n{a}", f"n{b if b != a else (a + 1) % nodes}"])] = whole // 2 + by
        table[f"n{i}", ""] = whole // 2 - by
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
    # One class of all nodes whose rho is 1 + 2e-6: time by arrows, and what is known in the end.
    sizes = (10**3, 10**4, 10**5)
    made = [giant(n) for n in sizes]
    for what, ask in (("storms", amplification), ("reach", lambda chain: reach(chain, "n7"))):
        times = alternate(*(partial(ask, chain) for chain in made), repetitions=3)
        for k in (1, 2):
            name = f"{what} next to critical: {sizes[k]:,} / {sizes[k - 1]:,} nodes"
            yield Row(name, median_ratio(times[k], times[k - 1]), 25, "at most", f"{np.median(times[k]):.2f} s")
    for n, chain in zip(sizes, made, strict=True):
        found = amplification(chain)
        bound = max(found.dies_out_bound, reach(chain, "n7").error_bound)
        yield Row(f"bound of a chance at {n:,} nodes, in 1e-12", bound / 1e-12, 1, "at most", f"rho {found.rho:.6f}")
    slow = amplification(giant(10**5, by=-1))
    ratio = slow.events_bound / slow.events / 1e-8
    yield Row("bound of the events at 100,000 nodes, in 1e-8 of them", ratio, 1, "at most", f"{slow.events:.0f} events")
