"""How often each step is taken by the fewest runs that cover all: an integer program."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp

from flowstat.errors import AnalysisError
from flowstat.explain.plan_states import States
from flowstat.explain.plan_steps import Ways

__all__ = ["Program"]

NODES = 20_000
"""How many parts of the integer program are looked at before what was found is taken."""

LARGE = 100_000.0
"""More than any step is taken in a plan that covers each thing once."""


class Program:
    """The integer program: columns are begins (by state), ways on, ends (by state that may)."""

    def __init__(self, ways: Ways, states: States) -> None:
        self.states = states
        n, m = len(states.node), len(states.source)
        self.ending = [s for s, i in enumerate(states.node) if i in ways.ends or i in ways.open]
        self.first, self.last = len(states.begins), len(states.begins) + m
        self.width = self.last + len(self.ending)
        source = np.array(states.source)
        lands = [(s, self.first + w) for w, where in enumerate(states.lands) for s in where]
        rows = np.concatenate([states.begins, [s for s, _ in lands], source, self.ending]).astype(np.int64)
        columns = np.concatenate(
            [
                np.arange(self.first),
                [c for _, c in lands],
                np.arange(self.first, self.last),
                np.arange(self.last, self.width),
            ]
        ).astype(np.int64)
        signs = np.concatenate([np.ones(self.first + len(lands)), -np.ones(m + len(self.ending))])
        self.balance = sparse.csr_array((signs, (rows, columns)), shape=(n, self.width))
        self.by: dict[Hashable, list[int]] = {}
        for w, items in enumerate(states.covers):
            for item in items:
                self.by.setdefault(item, []).append(w)
        sets = dict.fromkeys(tuple(of) for of in self.by.values())
        line = [k for k, of in enumerate(sets) for _ in of]
        column = [self.first + w for of in sets for w in of]
        self.covering = sparse.csr_array((np.ones(len(line)), (line, column)), shape=(len(sets), self.width))
        self.cuts: list[tuple[dict[int, float], float]] = []
        self.copies = np.array([len(where) for where in states.lands], np.float64)

    def solved(self) -> tuple[list[int], list[int], list[int], int, int | None]:
        """Return how many runs begin, steps are taken and messages end, and how many runs and events are needed."""
        objective = np.zeros(self.width)
        objective[: self.first] = 1.0
        found, least = self._solve(objective, None)
        runs = int(found[: self.first].sum())
        events = np.zeros(self.width)
        events[self.first : self.last] = self.copies
        better, fewest = self._solve(events, runs)
        if (self.copies @ better[self.first : self.last]) <= (self.copies @ found[self.first : self.last]):
            found = better
        # Every message is an event: those that begin runs, and all copies.
        least_events = None if least < runs or fewest is None else fewest + runs
        end = [0] * len(self.states.node)
        for s, k in zip(self.ending, found[self.last :].tolist(), strict=True):
            end[s] = k
        return found[: self.first].tolist(), found[self.first : self.last].tolist(), end, least, least_events

    def _solve(self, objective: Any, runs: int | None) -> tuple[Any, int]:
        """Return the best integers that were found, and what no others can be below."""
        rules = [LinearConstraint(self.balance, 0, 0), LinearConstraint(self.covering, 1, np.inf)]
        for terms, low in self.cuts:
            row = sparse.csr_array((list(terms.values()), ([0] * len(terms), list(terms))), shape=(1, self.width))
            rules.append(LinearConstraint(row, low, np.inf))
        if runs is not None:
            row = sparse.csr_array((np.ones(self.first), ([0] * self.first, range(self.first))), shape=(1, self.width))
            rules.append(LinearConstraint(row, runs, runs))
        options: Any = {"mip_rel_gap": 0.0, "node_limit": NODES}
        made: Any = milp(
            objective,
            integrality=np.ones(self.width, np.int64),
            bounds=Bounds(0, np.inf),
            constraints=rules,
            options=options,
        )
        if made.x is None:
            raise AnalysisError(f"no plan was found, plan from one start at a time: {made.message}")
        whole = np.rint(made.x).astype(np.int64)
        if (self.balance @ whole).any() or (self.covering @ whole < 1).any() or (whole < 0).any():
            raise AnalysisError("no plan was found: the numbers of the integer program are too large")
        bound = made.mip_dual_bound if made.mip_dual_bound is not None else made.fun
        return whole, int(np.ceil(bound - 1e-6))

    def cut(self, rest: set[int], taken: list[int]) -> bool:
        """Cut off what nothing comes to, if something is covered by it only; return whether."""
        alone = {item for item, of in self.by.items() if not any(taken[w] and w not in rest for w in of)}
        found = False
        for part in _parts(self.states, rest):
            own = [w for w in part if not alone.isdisjoint(self.states.covers[w])]
            if not own:
                continue
            found = True
            inside = {self.states.source[w] for w in part} | {s for w in part for s in self.states.lands[w]}
            terms = {c: 1.0 for c, s in enumerate(self.states.begins) if s in inside}
            for w, where in enumerate(self.states.lands):
                if self.states.source[w] not in inside and not inside.isdisjoint(where):
                    terms[self.first + w] = 1.0
            items = alone & {item for w in own for item in self.states.covers[w]}
            if any(all(self.states.source[w] in inside for w in self.by[item]) for item in items):
                self.cuts.append((terms, 1.0))
            else:
                # It may be covered elsewhere: something has to come only if a step is taken here.
                for w in part:
                    self.cuts.append((terms | {self.first + w: -1.0 / LARGE}, 0.0))
        return found


def _parts(states: States, rest: set[int]) -> list[list[int]]:
    """Return the ways that are left over in connected parts."""
    at: dict[int, list[int]] = {}
    for w in rest:
        for s in (states.source[w], *states.lands[w]):
            at.setdefault(s, []).append(w)
    parts, seen = [], set()
    for first in sorted(rest):
        if first in seen:
            continue
        part, queue = [], [first]
        seen.add(first)
        while queue:
            w = queue.pop()
            part.append(w)
            for s in (states.source[w], *states.lands[w]):
                for other in at.pop(s, ()):
                    if other not in seen:
                        seen.add(other)
                        queue.append(other)
        parts.append(sorted(part))
    return parts
