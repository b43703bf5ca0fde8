"""A run that goes on, as a table for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

__all__ = ["status_table"]

MOST = 15
"""How many nodes, and loops, the table has; the rest is summed up."""


class Line(Protocol):
    """What is told of one node."""

    @property
    def node(self) -> str:
        """Its name."""

    @property
    def events(self) -> int:
        """Events so far."""

    @property
    def errors(self) -> int:
        """Those that failed."""

    @property
    def waiting(self) -> int:
        """Messages that wait."""

    @property
    def rate(self) -> float:
        """Events a second."""


class Look(Protocol):
    """A look at a run."""

    @property
    def seconds(self) -> float:
        """How long it has gone on."""

    @property
    def events(self) -> int:
        """Events so far."""

    @property
    def runs(self) -> int:
        """Runs so far."""

    @property
    def waiting(self) -> int:
        """Messages that wait."""

    @property
    def rate(self) -> float:
        """Events a second."""

    @property
    def nodes(self) -> Sequence[Line]:
        """Its nodes."""

    @property
    def loops(self) -> Sequence[tuple[Sequence[str], int]]:
        """The nodes of loops, and how many messages are in each."""


def status_table(status: Look | None) -> RenderableType:
    """Return how a run is doing: events, rate, queue and errors of each node, and where messages go round."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    if status is None:
        return Text("starting ...")
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("node", no_wrap=True, max_width=40, overflow="ellipsis")
    for name in ("events", "a second", "waiting", "errors"):
        table.add_column(name, justify="right")
    for line in status.nodes[:MOST]:
        _row(table, Text(line.node), line.events, line.rate, line.waiting, line.errors)
    rest = status.nodes[MOST:]
    if rest:
        sums = [sum(getattr(line, name) for line in rest) for name in ("events", "rate", "waiting", "errors")]
        _row(table, Text(f"{len(rest):,} more nodes", style="dim"), *sums)
    errors = sum(line.errors for line in status.nodes)
    _row(table, Text("all", style="bold"), status.events, status.rate, status.waiting, errors)
    said = [Text(f"{status.seconds:,.0f} s, {status.runs:,} runs", style="dim")]
    for members, number in sorted(status.loops, key=lambda loop: -loop[1])[:MOST]:
        names = ", ".join(members[:4]) + (f" and {len(members) - 4:,} more" if len(members) > 4 else "")
        said.append(Text(f"loop of {names}: {number:,} in it", no_wrap=True, overflow="ellipsis"))
    return Group(table, *said)


def _row(table: object, name: object, events: int, rate: float, waiting: int, errors: int) -> None:
    from rich.text import Text

    failed = Text(f"{errors:,}", style="red") if errors else ""
    table.add_row(name, f"{events:,}", f"{rate:,.0f}", f"{waiting:,}" if waiting else "", failed)  # type: ignore[attr-defined]
