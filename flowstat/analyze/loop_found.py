"""Loops as they are found, one within the other, and how many of them are kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Found"]

Index = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

NESTED = 200
"""How many loops are described at most below the outermost ones of classes of more than `DENSE` nodes."""

LARGE = 300_000
"""How many nodes these loops have together, at most."""

SMALL = 2_000_000
"""How many nodes the nested loops of smaller classes have together, at most."""

EACH = 10
"""To describe a loop takes as long as this many nodes more."""


class Found:
    """Loops as they are found: numbered, with what they carry, and some of them dropped again."""

    def __init__(self) -> None:
        self.columns: dict[str, list[npt.NDArray[Any]]] = {}
        self.number = 0
        self.gone: Mask = np.zeros(0, bool)
        self.left_out = 0
        self.line = {False: -np.inf, True: -np.inf}

    def add(self, **columns: npt.NDArray[Any]) -> Index:
        """Add some loops; return their numbers."""
        for name, values in columns.items():
            self.columns.setdefault(name, []).append(values)
        added = len(columns["header"])
        self.number += added
        self.gone = np.concatenate([self.gone, np.zeros(added, bool)])
        return np.arange(self.number - added, self.number)

    def column(self, name: str) -> npt.NDArray[Any]:
        """Return one column of all of them."""
        parts = self.columns[name]
        if len(parts) > 1:
            self.columns[name] = [np.concatenate(parts)]
        return self.columns[name][0]

    def cut(self) -> None:
        """Drop the nested loops with the fewest events, if together they are too many.

        A loop has no more events than the one around it, which comes before it: so that what is left is whole.
        """
        for large, room in ((False, SMALL), (True, LARGE)):
            nested = (self.column("depth") > 0) & (self.column("large") == large) & ~self.gone
            some = np.flatnonzero(nested)
            key = self.column("key")[some]
            cost = self.column("size")[some] + (max(EACH, room // NESTED) if large else EACH)
            out = key <= self.line[large]
            if cost[~out].sum() > room:
                order = np.argsort(-key, kind="stable")
                taken = np.cumsum(np.where(out, 0, cost)[order])
                out[order[taken > room]] = True
            if out.any():
                self.line[large] = max(self.line[large], float(key[out].max()))
                # Of equals all are dropped, whenever they are found.
                out |= key <= self.line[large]
            self.gone[some[out]] = True
            self.left_out += int(out.sum())
