"""What a drawing shows: nodes, arrows, boxes and components, and of many nodes the foremost ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from flowstat.show.nesting import Box

__all__ = ["DrawnArrow", "DrawnComponent", "DrawnNode", "Picture"]


class DrawnNode(NamedTuple):
    """A node, or several that are rare.

    `start` is the share of runs that start here, `stop` that of events after which they stop; `events` how many a run
    has here on average, or None; `share` that of all events; `rare` how many nodes it stands for, 0 for itself, and
    `whole` whether these are all rare ones of its box.
    """

    name: str
    start: float
    stop: float
    events: float | None
    share: float
    box: int | None
    endless: bool = False
    rare: int = 0
    whole: bool = False


class DrawnArrow(NamedTuple):
    """All arrows from one drawn node to another, by their positions.

    `keys` are what to write; with `apart`, each has its own share in it already. `share` is None where it is not known
    or not one number, `messages` the mean number in a run, `width` that relative to the largest, None if not known.
    """

    source: int
    target: int
    keys: tuple[str, ...]
    share: float | None
    messages: float | None
    width: float | None
    apart: bool = False
    undeclared: bool = False

    @property
    def pair(self) -> tuple[int, int]:
        """The positions of both ends."""
        return self.source, self.target


class DrawnComponent(NamedTuple):
    """A component: its command line, the position of its node, and its routes' targets and keys."""

    command: str
    owner: int | None
    routes: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class Picture:
    """What to draw.

    Attributes
    ----------
    nodes, arrows, components
        What is shown; arrows and components name nodes by their positions.
    boxes
        The loops, every one before those within; one of one node has no box, but a colour.
    index
        Position of each node that is shown by its name.
    by
        What nodes were chosen by.
    unit
        What the width of an arrow is about; empty where all are even.
    rare
        How many nodes are not shown by their names, and which share of all events they have.
    left_out
        How many arrows are not shown, and which share of all messages they have, None if that is not known.
    deep
        How many loops are nested too deep for a box.
    """

    nodes: tuple[DrawnNode, ...]
    arrows: tuple[DrawnArrow, ...]
    components: tuple[DrawnComponent, ...]
    boxes: tuple[Box, ...]
    index: Mapping[str, int]
    by: str
    unit: str = ""
    rare: tuple[int, float] = (0, 0.0)
    left_out: tuple[int, float | None] = (0, None)
    deep: int = 0
