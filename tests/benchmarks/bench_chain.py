"""How fast and how right a chain's answers are, beside Storm, PyDTMC, QuantEcon, deeptime and scipy.

Each contender runs in a process of its own on the same made chain, already read in (Storm: its model built), in turn.
`FLOWSTAT_STATES` (1e6 by default) says how many states the large ones have.
"""

import os
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np

from tests.benchmarks.accuracy import table
from tests.benchmarks.harness import Row, contest, median_ratio
from tests.benchmarks.made_chains import band, giant, program_like, save

STATES = int(float(os.environ.get("FLOWSTAT_STATES", "1e6")))

CERTIFIED = 1e-12

FLOWSTAT = """
import numpy as np
from tests.benchmarks.made_chains import load, program_like
from flowstat.estimate.chain import Chain
from flowstat.analyze.absorption import absorption
from flowstat.analyze.visits import visits
from flowstat.analyze.hitting import hitting
from flowstat.analyze.solve import Solver
from flowstat.analyze.stationary import stationary
from flowstat.analyze.steps import within
small, ends = program_like(20_000)
few = Chain.from_matrix(small, stop=ends)
warm = Solver(few.P, few.stop)
within(few, None, 2000)
warm.backward(np.ones(20_000)); warm.visits(np.ones(20_000)); warm.return_gaps()
P, stop, outcome = load(path)
chain = Chain.from_matrix(P, start="0", stop=stop)
del P, stop, small, ends, few, warm
n = len(chain.names)
def certified(found):
    worst = float((found.bound.max(axis=0) / np.abs(found.values).max(axis=0)).max())
    assert worst <= 1e-12, worst
    return found.values
"""

STORM = """
from tests.benchmarks.made_chains import load
from tests.benchmarks.peers import Storm, closed, restarted
P, stop, outcome = load(path)
labels = {{f"ended{{k}}": len(stop) + k for k in range(5)}} if {ends} else {{}}
storm = Storm({matrix}, labels, sound={sound}, ends={ends})
"""

ENDED = "closed(P, stop, outcome)"

# The chance of each of some outcomes, and the number of events.
BOTH = """
gain = np.zeros((n, {many} + 1))
gain[:, 0] = 1
for k in range({many}):
    gain[outcome == k, k + 1] = chain.stop[outcome == k]
found = Solver(chain.P, chain.stop).backward(gain)
result = {numbers}[0].tolist()
"""
STORM_EVENTS = """storm.ask('R{"steps"}=? [F "end"]')"""


def both(many=1, numbers="certified(found)"):
    return BOTH.format(many=many, numbers=numbers)


def storm(matrix=ENDED, sound=True, ends=5):
    return STORM.format(matrix=matrix, sound=sound, ends=ends)


def storm_chances(many):
    return [f"""storm.ask('P=? [F "ended{k}"]')""" for k in range(many)]


def told(found):
    return ", ".join(
        f"{name} {statistics.median(seconds):.3g} s {peak:.0f} MB" for name, (seconds, peak, _) in found.items()
    )


def versus(name, path, bound, ours, theirs, *, prepare=FLOWSTAT, peer, repetitions=3, close=1e-5):
    found = contest(path, repetitions, flowstat=(prepare, ours), peer=(peer, theirs))
    a, b = (np.atleast_1d(np.asarray(found[who][2], float)) for who in ("flowstat", "peer"))
    off = float(np.max(np.abs(a - b) / np.maximum(np.abs(a), 1e-300)))
    if off > close:
        print(f"        {name}: the answers differ by {off:.2g} relatively", file=sys.stderr)
    yield Row(name, median_ratio(found["peer"][0], found["flowstat"][0]), bound, "at least", told(found))


def large(place):
    for shuffled in (False, True):
        path = place / "program.npz"
        made = program_like(STATES, shuffled)
        save(path, *made)
        kind = f"{STATES:,} program-like states" + (", shuffled" if shuffled else "")
        yield from versus(
            f"{kind}: chance and events, Storm sound",
            path,
            4 if shuffled else 5,
            both(),
            f"result = [{STORM_EVENTS}, {storm_chances(1)[0]}]",
            peer=storm(),
        )
        if shuffled:
            continue
        yield from versus(
            f"{kind}: five outcomes, Storm sound",
            path,
            10,
            both(5),
            f"result = [{', '.join([STORM_EVENTS, *storm_chances(5)])}]",
            peer=storm(),
        )
        yield from versus(
            f"{kind}: expected visits, Storm sound",
            path,
            50,
            "result = certified(Solver(chain.P, chain.stop).visits(chain.start)[0])[:100].tolist()[-1]",
            "result = storm.visits(99)",
            peer=storm(),
            repetitions=1,
        )
        yield from versus(
            f"{kind}: in a hundred steps, Storm",
            path,
            5,
            "result = within(chain, None, 100).start.probability",
            """result = storm.ask('P=? [F<=100 "end"]')""",
            peer=storm(sound=False),
        )
        yield from versus(
            f"{kind}: stationary law, Storm's default",
            path,
            5,
            "result = float(stationary(chain, restarted=True).law[0])",
            "result = storm.stationary(0)",
            peer=storm("restarted(P, stop)", sound=False, ends=0),
            repetitions=1,
            close=1e-2,
        )


def giants(place):
    path = place / "giant.npz"
    for n, bound, sound in ((STATES, 3, False), (STATES // 5, 50, True)):
        made = giant(n)
        save(path, *made)
        yield from versus(
            f"one giant class of {n:,}: chance and events, Storm {'sound' if sound else 'default'}",
            path,
            bound,
            both(numbers="found.values"),
            f"result = [{STORM_EVENTS}, {storm_chances(1)[0]}]",
            peer=storm(sound=sound),
            repetitions=1 if sound else 3,
            close=1e-2,
        )
    save(path, *band(STATES))
    yield from versus(
        f"one slow band of {STATES:,}: events, Storm's default",
        path,
        10,
        "result = float(Solver(chain.P, chain.stop).backward(np.ones(n)).values[0])",
        f"result = {STORM_EVENTS}",
        peer=storm(sound=False),
        repetitions=1,
        close=1e-2,
    )


def small(place):
    path = place / "small.npz"
    made = program_like(2000)
    save(path, *made)
    whole = "from tests.benchmarks.peers import closed; from tests.benchmarks.made_chains import load\n"
    yield from versus(
        "2,000 states: chain, outcomes and events, PyDTMC",
        path,
        500,
        "chain = Chain.from_matrix(chain.P, chain.names, '0', stop=chain.stop); result = absorption(chain).events",
        "mc = pydtmc.MarkovChain(M, names); mc.absorption_probabilities(); result = mc.mean_absorption_times()[0]",
        peer=whole + "import pydtmc; P, stop, _ = load(path); M = closed(P, stop).toarray(); "
        "names = [str(k) for k in range(len(M))]",
    )
    made = program_like(20_000)
    save(path, *made)
    yield from versus(
        "20,000 program-like states: chance to come to a node, deeptime",
        path,
        500,
        "last = int(np.flatnonzero(chain.stop)[0]); result = hitting(chain, chain.names[last]).start.probability",
        "result = float(hitting_probability(M, [last])[0])",
        peer=whole + "from scipy import sparse; from deeptime.markov.tools.analysis import hitting_probability; "
        "P, stop, _ = load(path); M = sparse.csr_matrix(closed(P, stop)); last = int(stop.nonzero()[0][0])",
        repetitions=1,
        close=1e-3,
    )


def growth(place):
    """From ten thousand states to a million: time for each state, and memory."""
    path = place / "growth.npz"
    found = {}
    for n in (10_000, 100_000, STATES):
        made = program_like(n)
        save(path, *made)
        found[n] = contest(path, 5 if n < STATES else 3, flowstat=(FLOWSTAT, both(numbers="found.values")))["flowstat"]
    first, last = (statistics.median(found[n][0]) / n for n in (10_000, STATES))
    detail = ", ".join(f"{n:,}: {statistics.median(seconds):.3g} s" for n, (seconds, _, _) in found.items())
    yield Row("program-like, from 10,000 states: time / linear", last / first, 1.3, "at most", detail)
    yield Row(f"{STATES:,} program-like states: memory, MB", found[STATES][1], 600, "at most", "chance and events")


def hard(place):
    yield Row("hard chains: largest relative error", table(), 1e-13, "at most", "see the table above")


def benchmarks():
    with tempfile.TemporaryDirectory(prefix="flowstat-bench-") as name:
        place = Path(name)
        for part in (hard, small, growth, large, giants):
            yield from part(place)
