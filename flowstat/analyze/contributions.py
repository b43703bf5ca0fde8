"""Which arrows make a class multiply: the derivatives of its Perron root."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from flowstat.analyze.offspring import Offspring
from flowstat.analyze.radius import Radius
from flowstat.results import Result, Row, counted

__all__ = ["Contribution", "Contributions", "contributions"]


@dataclass(frozen=True)
class Contribution:
    """One arrow's part in the growth of its class.

    `mean` is how many messages go along it per event of its source; `derivative` the change of rho per such message;
    `elasticity` the percentage by which rho grows with one percent more of them: those of a class sum to 1.
    `contribution`, rho times that, is the part of rho that the arrow carries. `residual` is the largest of `|A x / (rho
    x) - 1|` of the Perron vectors that the three are made of: they have no proven bound.
    """

    source: str
    key: tuple[str, ...]
    target: str
    mean: float
    derivative: float
    elasticity: float
    contribution: float
    rho: float
    residual: float


@dataclass(frozen=True)
class Contributions(Result):
    """The arrows that carry most of the growth of their class, largest first."""

    title: ClassVar[str] = "Contributions: the arrows that multiply messages"
    columns: ClassVar[tuple[str, ...]] = (
        "source",
        "key",
        "target",
        "mean",
        "derivative",
        "elasticity",
        "contribution",
        "rho",
        "residual",
    )
    beside: ClassVar[tuple[str, ...]] = ("rho", "residual")
    arrows: tuple[Contribution, ...]
    left_out: int = 0

    def rows(self) -> list[Row]:
        """Return one row an arrow."""
        return [{c: list(a.key) if c == "key" else getattr(a, c) for c in self.columns} for a in self.arrows]

    def notes(self) -> tuple[str, ...]:
        """Say what the columns are, and what is left out."""
        if not self.arrows:
            return ("No arrow is on a loop: nothing can multiply for ever.",)
        said = [
            "mean: messages along the arrow per event of its source; contribution: the part of its class's rho that it "
            "carries."
        ]
        if self.left_out:
            said.append(f"{counted(self.left_out, 'arrow')} of less weight left out.")
        return tuple(said)


def contributions(law: Offspring, found: list[Radius], top: int) -> Contributions:
    """Rank the arrows of all classes by what they contribute to the root of theirs.

    Notes
    -----
    With u and v the left and right Perron vectors, `d rho / d M_ij = u_i v_j / (u v)` (Horn and Johnson, Matrix
    Analysis (2nd ed., 2013), section 6.3; Caswell, Matrix Population Models (2nd ed., 2001), section 9.1).
    """
    names = law.chain.names
    parts = []
    for radius in found:
        block = radius.block.tocoo()
        u, v = radius.left / radius.left.max(), radius.right / radius.right.max()
        derivative = u[block.row] * v[block.col] / float(u @ v)
        # What the vectors make of the root: so that elasticities sum to 1.
        whole = float((block.data * derivative).sum())
        elasticity = block.data * derivative / whole
        parts.append((radius, block, derivative, elasticity, radius.rho * elasticity))
    if not parts:
        return Contributions(())
    weights = np.concatenate([part[4] for part in parts])
    ends = np.cumsum([len(part[4]) for part in parts])
    arrows = []
    for at in np.argsort(-weights, kind="stable")[:top].tolist():
        k = int(np.searchsorted(ends, at, side="right"))
        radius, block, derivative, elasticity, weight = parts[k]
        e = at - (int(ends[k - 1]) if k else 0)
        source, target = (names[radius.states[int(each[e])]] for each in (block.row, block.col))
        arrows.append(
            Contribution(
                source,
                law.chain.keys(source, target),
                target,
                float(block.data[e]),
                float(derivative[e]),
                float(elasticity[e]),
                float(weight[e]),
                radius.rho,
                radius.residual,
            )
        )
    return Contributions(tuple(arrows), len(weights) - len(arrows))
