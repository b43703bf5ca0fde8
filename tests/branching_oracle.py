"""What branching is held against: runs played by generation, plain iteration, dense eigenvalues; and tables to ask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from flowstat.estimate.counts import Counts
from flowstat.read.patterns import format_pattern, parse_pattern, sorted_pattern

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Table:
    """Send patterns of every node in whole numbers, without anything of the package but how patterns are written."""

    names: tuple[str, ...]
    chance: list[Vector]
    sent: list[npt.NDArray[np.int64]]
    """Of each node: (patterns, n)."""

    @property
    def mean(self) -> Vector:
        return np.array([p @ m for p, m in zip(self.chance, self.sent, strict=True)], float)

    def f(self, x: Vector) -> Vector:
        """Return the generating functions."""
        return np.array([p @ np.prod(x**m, axis=1) for p, m in zip(self.chance, self.sent, strict=True)])


def table_of(counts: Counts) -> Table:
    """Return what counts say, without a prior."""
    names = counts.nodes
    chance, sent = [], []
    for name in names:
        rows = [(pattern, n) for (node, pattern), n in counts.table.items() if node == name] or [("", 1)]
        total = sum(n for _, n in rows)
        chance.append(np.array([n / total for _, n in rows]))
        sent.append(np.array([[dict(parse_pattern(p)).get(j, 0) for j in names] for p, _ in rows], np.int64))
    return Table(names, chance, sent)


def exact_mean(counts: Counts) -> list[list[Fraction]]:
    """Return the mean matrix in fractions."""
    names = counts.nodes
    M = {(i, j): Fraction(0) for i in names for j in names}
    for (node, pattern), n in counts.table.items():
        for j, times in parse_pattern(pattern):
            M[node, j] += Fraction(n * times, counts.events[node])
    return [[M[i, j] for j in names] for i in names]


def iterated(table: Table, x: Vector, fixed: npt.NDArray[np.bool_] | None = None, rounds: int = 20_000) -> Vector:
    """Iterate the generating functions, some values staying as they are."""
    start = x
    for _ in range(rounds):
        new = table.f(x)
        if fixed is not None:
            new = np.where(fixed, start, new)
        if np.abs(new - x).max() < 1e-16:
            break
        x = new
    return x


@dataclass(frozen=True)
class Played:
    """Runs played by generation: `ended` tells which did, `total` the events, `reached` which nodes, by run."""

    ended: npt.NDArray[np.bool_]
    total: npt.NDArray[np.int64]
    reached: npt.NDArray[np.bool_]
    sizes: list[npt.NDArray[np.int64]]


def play(table: Table, start: str, runs: int, seed: int, crowd: int = 400, most: int = 400, horizon: int = 4) -> Played:
    """Play runs; one with more than `crowd` messages at once, or `most` generations, is taken never to end."""
    rng = np.random.default_rng(seed)
    n = len(table.names)
    alive = np.arange(runs)
    now = np.zeros((runs, n), np.int64)
    now[:, table.names.index(start)] = 1
    ended, total = np.zeros(runs, bool), np.ones(runs, np.int64)
    reached = now > 0
    sizes = [np.ones(runs, np.int64)]
    for k in range(most):
        new = np.zeros_like(now)
        for i in range(n):
            some = np.flatnonzero(now[:, i])
            if len(some):
                drawn = rng.multinomial(now[some, i], table.chance[i])
                new[some] += drawn @ table.sent[i]
        size = new.sum(axis=1)
        total[alive] += size
        reached[alive] |= new > 0
        if k < horizon:
            whole = np.zeros(runs, np.int64)
            whole[alive] = size
            sizes.append(whole)
        ended[alive[size == 0]] = True
        go = (size > 0) & ((size <= crowd) | (k < horizon))
        alive, now = alive[go], new[go]
        if not len(alive):
            break
    return Played(ended, total, reached, sizes)


def counts_of(rows: Mapping[str, Mapping[str, int]], start: str | None = None) -> Counts:
    """Return counts from node -> pattern -> events."""
    table = {(node, sorted_pattern(p)): n for node, row in rows.items() for p, n in row.items()}
    return Counts(table, {start or next(iter(rows)): 1})


@st.composite
def tables(draw: st.DrawFn, largest: int = 4, dyadic: bool = False) -> Counts:
    """Draw counts of a few nodes whose events send up to three messages; with `dyadic`, chances are dyadic."""
    n = draw(st.integers(1, largest))
    names = draw(st.permutations("bdac"[:n]))
    table: dict[tuple[str, str], int] = {}
    for name in names:
        pattern = st.lists(st.sampled_from(names), max_size=3).map(format_pattern)
        patterns = draw(st.lists(pattern, min_size=1, max_size=4, unique=True))
        weights = draw(st.lists(st.sampled_from([1, 1, 2, 3, 5]), min_size=len(patterns), max_size=len(patterns)))
        if dyadic:
            whole = 16
            while whole < sum(weights):
                whole *= 2
            weights[0] += whole - sum(weights)
        for pattern, weight in zip(patterns, weights, strict=True):
            table[name, pattern] = weight
    return Counts(table, {names[0]: 1})
