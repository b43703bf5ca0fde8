"""Chains on which plain arithmetic fails, each with a question and its answer in fractions.

`exact` is derived for the shares as they are stated, not as they are stored: that changes no answer by more than about
as many units in the last place as the question has states.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np

from flowstat.estimate.chain import END, Chain

Table = dict[str, dict[str, Fraction]]

ONE = Fraction(1)


@dataclass(frozen=True)
class Hard:
    """A chain and a question: the chance from `start` to end at `goal`, ... and so on, by `question`."""

    name: str
    table: Table
    question: Literal["chance", "events", "steps", "visits", "law"]
    start: str
    goal: str
    exact: Fraction

    def chain(self) -> Chain:
        """Return it as flowstat takes it: what ends a run is stated, not what is left of 1."""
        names = list(self.table)
        P = np.array([[float(row.get(j, 0)) for j in names] for row in self.table.values()])
        stop = np.array([float(row.get(END, 0)) for row in self.table.values()])
        return Chain.from_matrix(P, names, self.start, stop=stop)


def power(base: int) -> Fraction:
    return Fraction(10) ** base


def pair(a: Fraction, b: Fraction) -> Table:
    """Two states that hand each other the flow, but for chances a and b to end."""
    return {"a": {"b": 1 - a, END: a}, "b": {"a": 1 - b, END: b}}


def loop(a: Fraction, b: Fraction) -> Table:
    """A state that keeps the flow, but for chances a and b to go to the one or the other end."""
    return {"loop": {"loop": 1 - a - b, "one": a, "other": b}, "one": {END: ONE}, "other": {END: ONE}}


def walk(n: int, up: Fraction, *, down: Fraction | None = None, ends: bool = False) -> Table:
    """A walk on 0..n, held at 0; at n it is held too, or ends (at 0, too, with `ends`)."""
    down = 1 - up if down is None else down
    rows: Table = {}
    for k in range(n + 1):
        row: dict[str, Fraction] = {}
        if ends and k in (0, n):
            row[END] = ONE
        else:
            for j, share in ((k + 1, up), (k - 1, down)):
                to = str(min(max(j, 0), n))
                row[to] = row.get(to, Fraction(0)) + share
            if up + down < 1:
                row[str(k)] = row.get(str(k), Fraction(0)) + 1 - up - down
        rows[str(k)] = row
    return rows


def climb(n: int, up: Fraction) -> Fraction:
    """Mean steps of a walk that is held at 0, from 0 to n: from k to k + 1 it takes d_k = (1 + (1-up) d_k-1) / up."""
    step = total = 1 / up
    for _ in range(n - 1):
        step = (1 + (1 - up) * step) / up
        total += step
    return total


def birth_death(n: int, up: Fraction, down: Fraction, at: int) -> Fraction:
    """Stationary chance of a walk on 0..n that is held at both: a geometric series."""
    ratio = up / down
    return ratio**at * (1 - ratio) / (1 - ratio ** (n + 1))


def nested(depth: int, out: Fraction) -> Table:
    """Loops within loops: forward through all, and each is gone round again but for a chance to come out."""
    rows: Table = {f"in{k}": {f"in{k + 1}" if k + 1 < depth else f"out{depth - 1}": ONE} for k in range(depth)}
    for k in range(depth):
        rows[f"out{k}"] = {f"in{k}": 1 - out, (f"out{k - 1}" if k else END): out}
    return rows


def ring(period: int) -> Table:
    return {str(k): {str((k + 1) % period): ONE} for k in range(period)}


TWO_TRAPS: Table = {
    "start": {"a": Fraction(3, 10), "c": Fraction(7, 10)},
    "a": {"b": ONE},
    "b": {"a": ONE},
    "c": {"c": Fraction(1, 2), "d": Fraction(1, 2)},
    "d": {"c": ONE},
}

HARD = [
    Hard(
        "exits 3e-13 and 1e-13",
        pair(3 * power(-13), power(-13)),
        "chance",
        "a",
        "a",
        3 * power(-13) / (4 * power(-13) - 3 * power(-26)),
    ),
    Hard(
        "exits 3e-17 and 1e-17",
        pair(3 * power(-17), power(-17)),
        "chance",
        "a",
        "a",
        3 * power(-17) / (4 * power(-17) - 3 * power(-34)),
    ),
    Hard("self-loop, exits 3e-16 and 1e-16", loop(3 * power(-16), power(-16)), "chance", "loop", "one", Fraction(3, 4)),
    Hard("self-loop, exit 4e-9", {"a": {"a": 1 - 4 * power(-9), END: 4 * power(-9)}}, "events", "a", "a", power(9) / 4),
    Hard("reflecting walk, up 0.1", walk(20, Fraction(1, 10)), "steps", "0", "20", climb(20, Fraction(1, 10))),
    Hard("gambler's ruin, 2e-29", walk(31, Fraction(1, 10), ends=True), "chance", "1", "31", Fraction(8, 9**31 - 1)),
    Hard(
        "stationary tail 5e-38",
        walk(19, Fraction(1, 100)),
        "law",
        "0",
        "19",
        birth_death(19, Fraction(1, 100), Fraction(99, 100), 19),
    ),
    Hard(
        "stationary, 300 orders",
        walk(1999, Fraction(17, 41)),
        "law",
        "0",
        "1999",
        birth_death(1999, Fraction(17, 41), Fraction(24, 41), 1999),
    ),
    Hard("40 nested loops", nested(40, Fraction(1, 2**20)), "visits", "in0", "in39", Fraction(2) ** (20 * 40)),
    *(Hard(f"period {d}", ring(d), "law", "0", "1", Fraction(1, d)) for d in range(2, 13)),
    Hard("two closed classes", TWO_TRAPS, "chance", "start", "c", Fraction(7, 10)),
    Hard("unreachable", {"a": {END: ONE}, "far": {"a": ONE}}, "chance", "a", "far", Fraction(0)),
]


def relative(found: float | None, exact: Fraction) -> float:
    """Return how far an answer is off, relatively."""
    if found is None or not np.isfinite(found):
        return float("inf")
    return float(abs(Fraction(found) - exact) / exact) if exact else abs(found)


def rows_of(table: Mapping[str, Mapping[str, Fraction]]) -> tuple[list[str], np.ndarray]:
    """Return a chain as other tools take it: with one absorbing state more where runs end, and in floats."""
    names = [*table, END] if any(END in row for row in table.values()) else list(table)
    whole = {**table, END: {END: ONE}} if END in names else table
    return names, np.array([[float(whole[i].get(j, 0)) for j in names] for i in names])
