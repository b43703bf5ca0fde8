"""What the analyses are held against: definitions played out by brute force, and a simulator.

Nothing here shares a formula with the package. Loop-erasure is a Markov chain on simple paths, and its visits
are solved for; the rounds of a loop are counted on states that remember where a run has been since.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import networkx as nx
import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from flowstat.analyze.loops import Loop
from flowstat.estimate.chain import END, Chain

Vector = npt.NDArray[np.float64]
Table = Mapping[str, Mapping[str, float | Fraction]]
Path = tuple[str, ...]

RUNS = 200_000
ERASED = 20_000
LETTERS = "fbdace"


def chain_of(table: Table, start: str | Mapping[str, float] | None = None) -> Chain:
    """Return the chain whose row of each node is given; what is missing from 1 is the chance to stop.

    A share to `(end)` states that chance where 1 minus a sum would lose it.
    """
    names = list(table)
    P = [[float(table[i].get(j, 0)) for j in names] for i in names]
    stop = [float(row[END] if END in row else 1 - sum(map(Fraction, row.values()))) for row in table.values()]
    return Chain.from_matrix(P, names, start, stop=stop)


def exact(share: float) -> Fraction:
    """Return the fraction with a small denominator that a share stands for."""
    return Fraction(share).limit_denominator(1000)


@st.composite
def chains(draw: st.DrawFn, largest: int = 5, traps: bool = False) -> Chain:
    """Draw a chain with shares of small denominators, often tied, and names in no order.

    Without traps every run ends, though some nodes may never be reached.
    """
    n = draw(st.integers(1, largest))
    weights = np.array(
        draw(st.lists(st.sampled_from([0, 0, 0, 1, 1, 2, 4]), min_size=n * (n + 1), max_size=n * (n + 1)))
    )
    weights = weights.reshape(n, n + 1)
    reach = np.linalg.matrix_power((weights[:, :n] > 0) + np.eye(n, dtype=np.int64), n)
    for i in range(n):
        leads_out = (reach[i] > 0) @ weights[:, n] > 0
        if not weights[i].any() or not (traps or leads_out):
            weights[i, n] = 1
    rows = weights / weights.sum(axis=1, keepdims=True)
    names = draw(st.permutations(LETTERS[:n]))
    law = np.array(draw(st.lists(st.sampled_from([0, 0, 1, 2]), min_size=n, max_size=n).filter(any)))
    return Chain.from_matrix(rows[:, :n], names, dict(zip(names, law / law.sum(), strict=True)), stop=rows[:, n])


def relabelled(chain: Chain, order: Sequence[int], names: Mapping[str, str]) -> Chain:
    """Return the same chain with its states in another order and under other names."""
    p = np.asarray(order)
    labels = [names[chain.names[i]] for i in order]
    law = dict(zip(labels, chain.start[p].tolist(), strict=True))
    return Chain.from_matrix(chain.P.toarray()[np.ix_(p, p)], labels, law, stop=chain.stop[p])


def traps_of(chain: Chain) -> list[frozenset[str]]:
    """Return the closed classes, by networkx."""
    graph = chain.to_networkx()
    return [
        frozenset(c)
        for c in nx.strongly_connected_components(graph)
        if all(graph.nodes[i]["stop"] == 0 and set(graph[i]) <= c for i in c)
    ]


def fundamental(chain: Chain) -> tuple[list[str], Vector, Vector]:
    """Return the transient names, N = (I - Q)^-1 among them, and the start law on them."""
    trapped = frozenset().union(*traps_of(chain))
    keep = [k for k, name in enumerate(chain.names) if name not in trapped]
    Q = chain.P.toarray()[np.ix_(keep, keep)]
    return [chain.names[k] for k in keep], np.linalg.inv(np.eye(len(keep)) - Q), chain.start[keep]


@dataclass(frozen=True)
class Erasure:
    """All flows and all cycles of a chain: (path, trap or None) -> chance, canonical cycle -> traversals."""

    flows: dict[tuple[Path, frozenset[str] | None], float]
    cycles: dict[Path, float]


def rotated(cycle: Sequence[str]) -> Path:
    """Return a cycle from its alphabetically first node."""
    at = min(range(len(cycle)), key=lambda k: cycle[k])
    return (*cycle[at:], *cycle[:at])


def erasure(chain: Chain) -> Erasure:
    """Play out loop-erasure on all simple paths at once: append a new node, or cut back to an old one."""
    graph = chain.to_networkx()
    trap = {name: t for t in traps_of(chain) for name in t}
    law = {n: float(p) for n, p in zip(chain.names, chain.start, strict=True) if p > 0}
    flows: Counter[tuple[Path, frozenset[str] | None]] = Counter()
    for name, p in law.items():
        if name in trap:
            flows[(), trap[name]] += p
    paths: list[Path] = [(name,) for name in law if name not in trap]
    index = {path: k for k, path in enumerate(paths)}
    moves: list[tuple[int, int, float]] = []
    closing: list[tuple[int, Path, float]] = []
    for at, path in enumerate(paths):
        for target, data in graph[path[-1]].items():
            if target in trap:
                continue
            if target in path:
                cut = path.index(target)
                onward = path[: cut + 1]
                closing.append((at, rotated(path[cut:]), data["share"]))
            else:
                onward = (*path, target)
            if onward not in index:
                index[onward] = len(paths)
                paths.append(onward)
            moves.append((at, index[onward], data["share"]))
    T = np.eye(len(paths))
    for i, j, p in moves:
        T[i, j] -= p
    begin = np.array([law[path[0]] if len(path) == 1 and path[0] in law else 0.0 for path in paths])
    visits = np.linalg.solve(T.T, begin) if paths else np.zeros(0)
    for path, v in zip(paths, visits.tolist(), strict=True):
        last = path[-1]
        if graph.nodes[last]["stop"] > 0:
            flows[path, None] += v * graph.nodes[last]["stop"]
        for target, data in graph[last].items():
            if target in trap:
                flows[path, trap[target]] += v * data["share"]
    cycles: Counter[Path] = Counter()
    for at, cycle, p in closing:
        cycles[cycle] += visits[at] * p
    return Erasure(dict(flows), dict(cycles))


def rounds(chain: Chain, loop: Iterable[str], header: str) -> tuple[float, float]:
    """Return the chance that a run goes round a loop at all, and its expected rounds.

    A state is a node and whether the run has stayed in the loop since the header; coming to the header
    in that state is a round. The chain must not have traps that a run can come to.
    """
    members, n = set(loop), len(chain.names)
    P = chain.P.toarray()
    T = np.zeros((2 * n, 2 * n))
    goes_round = np.zeros(2 * n)
    for i, j in zip(*np.nonzero(P), strict=True):
        for stayed in (0, 1):
            closes = stayed == 1 and chain.names[j] == header
            onward = chain.names[j] == header or (stayed == 1 and chain.names[j] in members)
            T[i + n * stayed, j + n * onward] += P[i, j]
            goes_round[i + n * stayed] += P[i, j] * closes
    law = np.zeros(2 * n)
    for k, name in enumerate(chain.names):
        law[k + n * (name == header)] = chain.start[k]
    first = T.copy()
    first[n:, n + chain.index[header]] = 0.0
    live = _reached(T, law)
    keep = np.ix_(live, live)
    eye = np.eye(live.sum())
    total = np.linalg.solve((eye - T[keep]).T, law[live]) @ goes_round[live]
    ever = np.linalg.solve((eye - first[keep]).T, law[live]) @ goes_round[live]
    return float(ever), float(total)


def hit(chain: Chain, targets: Iterable[str]) -> float:
    """Return the chance that a run comes to any of some nodes."""
    inside = np.isin(chain.names, list(targets))
    P = chain.P.toarray()
    gain = np.where(inside, 0.0, P[:, inside].sum(axis=1))
    P[:, inside] = 0.0
    P[inside] = 0.0
    live = _reached(P, chain.start)
    for trap in traps_of(chain):
        # What is trapped elsewhere adds nothing; its rows would make the system singular.
        if trap.isdisjoint(targets):
            live &= ~np.isin(chain.names, list(trap))
    keep = np.ix_(live, live)
    x = np.linalg.solve(np.eye(live.sum()) - P[keep], gain[live])
    return float(chain.start[inside].sum() + chain.start[live & ~inside] @ x[~inside[live]])


def _reached(P: Vector, law: Vector) -> npt.NDArray[np.bool_]:
    live: npt.NDArray[np.bool_] = law > 0
    for _ in range(len(law)):
        live = live | ((live @ P) > 0)
    return live


@dataclass(frozen=True)
class Simulated:
    """Runs of a chain: `steps[t, r]` is the node of run r after t messages, -1 once it has ended.

    A run that comes to a trap ends with its first node there.
    """

    chain: Chain
    steps: npt.NDArray[np.int8]

    @property
    def runs(self) -> int:
        return self.steps.shape[1]

    def last(self) -> npt.NDArray[np.int8]:
        """Return the last node of each run."""
        length = (self.steps >= 0).sum(axis=0)
        return self.steps[length - 1, np.arange(self.runs)]

    def rounds(self, loop: Loop) -> npt.NDArray[np.int64]:
        """Return how often each run comes back to the header of a loop without having left the loop."""
        inside = np.isin((*self.chain.names, END), loop.nodes)
        header = self.chain.index[loop.header]
        count = np.zeros(self.runs, np.int64)
        stayed = np.zeros(self.runs, bool)
        for now in self.steps:
            count += stayed & (now == header)
            stayed = (now == header) | (stayed & inside[now])
        return count

    def exits(self, loop: Loop) -> Counter[tuple[str, str]]:
        """Count how runs leave a loop: by (source, target)."""
        names = (*self.chain.names, END)
        inside = np.isin(names, loop.nodes)
        found: Counter[tuple[str, str]] = Counter()
        for now, then in zip(self.steps[:-1], self.steps[1:], strict=True):
            crossing = inside[now] & ~inside[then]
            pairs, times = np.unique(np.stack([now[crossing], then[crossing]]), axis=1, return_counts=True)
            for (i, j), k in zip(pairs.T.tolist(), times.tolist(), strict=True):
                found[names[i], names[j]] += k
        return found

    def erased(self) -> Iterator[tuple[Path, Counter[Path]]]:
        """Yield what is left of each of the first runs when loops are erased as they close, and these loops."""
        for column in self.steps[:, :ERASED].T.tolist():
            path: list[str] = []
            closed: Counter[Path] = Counter()
            for i in column:
                if i < 0:
                    break
                name = self.chain.names[i]
                if name in path:
                    cut = path.index(name)
                    closed[rotated(path[cut:])] += 1
                    del path[cut + 1 :]
                else:
                    path.append(name)
            yield tuple(path), closed


def simulate(chain: Chain, seed: int, runs: int = RUNS) -> Simulated:
    """Play runs of a chain, all at once."""
    n = len(chain.names)
    draw = np.random.default_rng(seed)
    trapped = np.isin(chain.names, list(frozenset().union(*traps_of(chain))))
    cumulated = np.cumsum(np.where(trapped[:, None], 0.0, chain.P.toarray()), axis=1)
    now = draw.choice(n, size=runs, p=chain.start)
    steps = [now.astype(np.int8)]
    while (now >= 0).any():
        alive = np.flatnonzero(now >= 0)
        onward = (draw.random(len(alive))[:, None] >= cumulated[now[alive]]).sum(axis=1)
        now[alive] = np.where(onward == n, -1, onward)
        steps.append(now.astype(np.int8))
    return Simulated(chain, np.stack(steps))


@cache
def shop() -> Chain:
    """Return a chain with a self-loop in an inner loop in an outer one, with two entries; runs always end."""
    return chain_of(
        {
            "order": {"check": Fraction(7, 10), "wait": Fraction(2, 10)},
            "check": {"check": Fraction(1, 20), "pay": Fraction(17, 20)},
            "pay": {"pay": Fraction(1, 5), "ship": Fraction(11, 20), "wait": Fraction(3, 20)},
            "wait": {"pay": Fraction(2, 5), "check": Fraction(3, 10)},
            "ship": {"check": Fraction(1, 10), "done": Fraction(9, 10)},
            "done": {},
        },
        {"order": 0.8, "pay": 0.15, "done": 0.05},
    )


@cache
def pit() -> Chain:
    """Return a chain with a loop, two ends and two traps, one of two nodes."""
    return chain_of(
        {
            "a": {"b": Fraction(1, 2), "c": Fraction(3, 10), "stuck": Fraction(1, 10)},
            "b": {"a": Fraction(1, 4), "b": Fraction(1, 4), "ping": Fraction(1, 8), "pong": Fraction(1, 8)},
            "c": {"a": Fraction(1, 3), "b": Fraction(1, 3)},
            "ping": {"pong": 1},
            "pong": {"ping": Fraction(1, 2), "pong": Fraction(1, 2)},
            "stuck": {"stuck": 1},
        },
        {"a": 0.75, "c": 0.125, "pong": 0.125},
    )


@cache
def shop_runs() -> Simulated:
    """Return simulated runs of the shop."""
    return simulate(shop(), 20260501)


@cache
def pit_runs() -> Simulated:
    """Return simulated runs of the pit."""
    return simulate(pit(), 20260502)


def agrees(mean: float, expected: float, error: float, times: float = 4.0) -> bool:
    """Return whether a simulated mean is within so many standard errors of what it should be."""
    return abs(mean - expected) <= times * error + 1e-15


def share_agrees(count: float, total: float, expected: float) -> bool:
    """Return whether a simulated frequency agrees with a chance."""
    return agrees(count / total, expected, float(np.sqrt(expected * (1 - expected) / total)))


def mean_agrees(values: npt.ArrayLike, expected: float) -> bool:
    """Return whether the mean of simulated values agrees with an expectation."""
    sample = np.asarray(values, np.float64)
    return agrees(float(sample.mean()), expected, float(sample.std() / np.sqrt(len(sample))))
