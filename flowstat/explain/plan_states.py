"""What the messages of planned runs can be in, and what each way on covers: arrows, or pairs of them."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from flowstat.errors import AnalysisError
from flowstat.explain.plan_steps import Step, Ways

__all__ = ["States", "states_of"]

LARGEST = 400_000
"""How many ways on there may be in all: of more pairs no plan is made."""


@dataclass(frozen=True)
class States:
    """What a message can be in, and the ways on: nodes or, to cover pairs, nodes with the arrow that led there.

    Attributes
    ----------
    node : (n,)
    begins
        The states in which runs may begin.
    source, step, lands
        Of each way on: its state, the step, and the states of its copies.
    covers
        What each way covers.
    missing
        What is to be covered and can't be.
    """

    node: list[int]
    begins: list[int]
    source: list[int]
    step: list[Step]
    lands: list[tuple[int, ...]]
    covers: list[tuple[Hashable, ...]]
    missing: list[Any]


def states_of(ways: Ways, *, pairs: bool) -> States:
    """Return the states that runs can come to, from where they start."""
    place: dict[tuple[int, tuple[int, ...]], int] = {}
    node: list[int] = []
    came: list[tuple[int, ...]] = []

    def at(i: int, by: tuple[int, ...]) -> int:
        key = (i, by if pairs else ())
        if key not in place:
            place[key] = len(node)
            node.append(i)
            came.append(key[1])
        return place[key]

    begins = [at(i, ()) for i in ways.starts]
    found = States(node, begins, [], [], [], [], [])
    s = 0
    while s < len(node):
        for step in ways.steps[node[s]]:
            lands = []
            for j in step.targets:
                by = tuple(k for k in step.arrows if ways.arrows[k].target == ways.names[j])
                lands.append(at(j, by))
            found.source.append(s)
            found.step.append(step)
            found.lands.append(tuple(lands))
            both = [(a, b) for a in came[s] for b in step.arrows]
            found.covers.append((*step.arrows, *both))
        if len(found.source) > LARGEST:
            raise AnalysisError(f"more than {LARGEST:,} pairs of arrows: plan the arrows instead")
        s += 1
    able = {item for covers in found.covers for item in covers}
    found.missing.extend(k for k in range(len(ways.arrows)) if k not in able)
    if pairs:
        out: dict[str, list[int]] = {}
        for k, arrow in enumerate(ways.arrows):
            out.setdefault(arrow.source, []).append(k)
        for a, arrow in enumerate(ways.arrows):
            found.missing.extend((a, b) for b in out.get(arrow.target, ()) if (a, b) not in able)
    return found
