"""Leading eigenvalues of a chain: how fast it forgets, what it repeats, and how long it stays where it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import atan2, inf, log1p, pi
from typing import ClassVar, Literal

import numpy as np

from flowstat.analyze.absorption import trap_name
from flowstat.analyze.eigen import WHOLE, Leading, leading
from flowstat.analyze.elimination import UNIT
from flowstat.analyze.perron import Part, by_root, part_of
from flowstat.analyze.solve import Solver
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import Chain
from flowstat.results import LINEAGES, Result, Row, number

__all__ = ["ClassSpectrum", "Eigenvalue", "Spectrum", "spectrum"]


@dataclass(frozen=True)
class Eigenvalue:
    """An eigenvalue of P, or a pair of conjugates (`imaginary` > 0 stands for both).

    `decay` is 1 - modulus, also where that is too small to be told from the modulus; `relaxation` the steps in which
    what it stands for shrinks to 1/e, `-1 / log modulus`, and `period` the steps of a turn, `2 pi / |arg|`: None for a
    positive one. `turns` is how often it turns before it has shrunk so. `error_bound` is how far the eigenvalue may be
    off, proven (`inf`: nothing is proven), and `residual` that of its vector.
    """

    real: float
    imaginary: float
    modulus: float
    decay: float
    relaxation: float
    period: float | None
    turns: float | None
    kind: Literal["closed", "transient"]
    of: str
    error_bound: float
    decay_bound: float
    relaxation_bound: float
    residual: float


@dataclass(frozen=True)
class ClassSpectrum:
    """A class that has some of the listed eigenvalues.

    `root` is its largest eigenvalue: 1 if it is closed; else a run in it leaves with the chance `leaves = 1 - root`
    each step, once it has been there for long. `law` is where it is then: the stationary law, or the quasi-stationary
    one, with its `law_residual` (1-norm of `law P - root law`). `gap` is `root - |second|`: 0 for a periodic class,
    None for one state. How far they may be off is in `leaves_bound` and `gap_bound`.
    """

    nodes: tuple[str, ...]
    kind: Literal["closed", "transient"]
    period: int
    reversible: bool
    root: float
    leaves: float
    leaves_bound: float
    gap: float | None
    gap_bound: float
    law: tuple[float, ...]
    law_residual: float


@dataclass(frozen=True)
class Spectrum(Result):
    """The leading eigenvalues, largest modulus first, and the classes that they are of.

    `more` tells whether there are others but 0; `nearest` lists classes of which those nearest to 1 were sought, since
    those of largest modulus did not converge.
    """

    title: ClassVar[str] = "Spectrum: how fast the chain forgets, and what it repeats"
    columns: ClassVar[tuple[str, ...]] = (
        "real",
        "imaginary",
        "modulus",
        "relaxation",
        "period",
        "turns",
        "kind",
        "class",
        "decay",
        "error_bound",
        "decay_bound",
        "relaxation_bound",
        "residual",
    )
    beside: ClassVar[tuple[str, ...]] = ("decay", "error_bound", "decay_bound", "relaxation_bound", "residual")
    eigenvalues: tuple[Eigenvalue, ...]
    classes: tuple[ClassSpectrum, ...]
    more: bool
    nearest: tuple[str, ...] = ()
    fans_out: bool = field(default=False)

    @property
    def error_bound(self) -> float:
        """How far any of the eigenvalues may be off, proven; `inf` if that of some is not known."""
        return max((e.error_bound for e in self.eigenvalues), default=0.0)

    @property
    def values(self) -> tuple[complex, ...]:
        """The eigenvalues as complex numbers, both of each pair."""
        each = [complex(e.real, e.imaginary) for e in self.eigenvalues]
        return tuple(v for value in each for v in ((value, value.conjugate()) if value.imag else (value,)))

    def rows(self) -> list[Row]:
        """Return one row an eigenvalue or pair."""
        return [{c: getattr(e, "of" if c == "class" else c) for c in self.columns} for e in self.eigenvalues]

    def notes(self) -> tuple[str, ...]:
        """Say what the classes do, and what is not known."""
        if not self.eigenvalues:
            return ("There is no cycle: all eigenvalues are 0.",)
        notes = ["relaxation and period in steps; a line with an imaginary part stands for a pair of conjugates."]
        for part in self.classes[:5]:
            name = _named(part.nodes)
            if part.kind == "transient" and part.root > 0:
                notes.append(f"From {name} a run that is still there leaves with {number(part.leaves)} each step.")
            elif part.period > 1:
                notes.append(f"{name} is periodic ({part.period}): it has no gap, and never forgets its phase.")
            elif part.gap is not None:
                notes.append(f"{name} has the gap {number(part.gap)}.")
        unsure = sum(e.modulus <= e.error_bound < inf for e in self.eigenvalues)
        if unsure:
            notes.append(f"{unsure} of them can't be told from 0: their bounds are as large as they are.")
        if any(e.error_bound == inf for e in self.eigenvalues):
            notes.append(
                "Large classes that are not reversible: their eigenvalues have residuals, but no proven bound."
            )
        worst = max((e.residual for e in self.eigenvalues if e.error_bound == inf), default=0.0)
        if worst > 1e-9:
            notes.append(f"They come close together, and are only as good as their residuals, up to {number(worst)}.")
        for name in self.nearest:
            notes.append(f"Of {name} those nearest to 1 were sought: others of large modulus may be missing.")
        return (*notes, LINEAGES) if self.fans_out else tuple(notes)


def spectrum(chain: Chain, top: int = 10) -> Spectrum:
    """Find the leading eigenvalues of P, class by class.

    Parameters
    ----------
    chain
        A chain.
    top
        How many at most (a pair of conjugates counts once); at least 1.

    Returns
    -------
    Spectrum
        Eigenvalues with relaxation times (in steps), periods and bounds, and the classes that they are of.

    Raises
    ------
    AnalysisError
        If `top` is less than 1, or the eigenvalues of a large class do not converge.

    Notes
    -----
    The eigenvalues of P are those of its classes. On its Perron circle a class of period d has the d eigenvalues
    `root exp(2 pi i k / d)`, exactly (Seneta, Non-negative Matrices and Markov Chains (2006), theorem 1.7); a closed
    class has the root 1. The relaxation time is `-1 / log |lambda|` (Levin and Peres, Markov Chains and Mixing Times
    (2017), section 12.2, where it is 1 / gap: the same to first order). Eigenvalues near 1 are worked out as distances
    from 1 by sums of differences along arrows, so that a gap of 1e-17 is not lost. Only classes that may have one of
    the leading eigenvalues are decomposed: some enclosures of all Perron roots at once, linear in the arrows, tell
    which. Cost of each: n^3 up to 300 states, above see `flowstat.analyze.eigen`.

    Examples
    --------
    >>> ring = Chain.from_matrix([[0, 1, 0], [0, 0, 1], [1, 0, 0]])
    >>> [(round(e.real, 3), round(e.imaginary, 3), e.period) for e in spectrum(ring).eigenvalues]
    [(1.0, 0.0, None), (-0.5, 0.866, 3.0)]
    """
    if top < 1:
        raise AnalysisError("ask for at least one eigenvalue")
    solver = Solver(chain.P, chain.stop)
    found: list[Eigenvalue] = []
    parts: list[ClassSpectrum] = []
    nearest: list[str] = []
    more, least = False, 1.0
    for c, largest in by_root(solver):
        found.sort(key=lambda e: e.decay)
        if len(found) >= top and found[top - 1].decay <= 1 - largest:
            more = True
            break
        part = part_of(solver, c)
        nodes = tuple(chain.names[i] for i in part.states)
        if part.root <= 0:
            continue
        # Of a pair one line is listed; of a large class so many vectors would be costly.
        rest = leading(part, 2 * top if len(nodes) <= WHOLE else top + 1)
        listed, described = _described(part, nodes, rest, top)
        found += listed
        parts.append(described)
        if rest.nearest:
            nearest.append(_named(nodes))
        if len(rest.apart) < rest.others:
            # What is not known of this class is below the last that is.
            more, least = True, min(least, listed[-1].decay)
    found.sort(key=lambda e: e.decay)
    kept = [e for e in found if e.decay <= least][:top]
    names = {e.of for e in kept}
    return Spectrum(
        tuple(kept),
        tuple(p for p in parts if _named(p.nodes) in names),
        more or len(found) > len(kept),
        tuple(name for name in nearest if name in names),
        chain.fans_out,
    )


def _named(nodes: tuple[str, ...]) -> str:
    """Return what a class is called: its nodes, or of many the first ones and how many they are."""
    return trap_name(nodes) if len(nodes) <= 6 else "{" + ", ".join(nodes[:3]) + f", ...: {len(nodes):,} nodes}}"


def _described(part: Part, nodes: tuple[str, ...], rest: Leading, top: int) -> tuple[list[Eigenvalue], ClassSpectrum]:
    name, kind = _named(nodes), part.closed
    listed = []
    law_residual = float(np.abs(part.off.T @ part.left - (part.moving - part.leave) * part.left).sum())
    for k in range(min(part.period // 2 + 1, top)):
        angle = 2 * pi * k / part.period
        value = part.root * complex(np.cos(angle), np.sin(angle) if 2 * k < part.period and k else 0.0)
        exact = part.closed and 2 * k % part.period == 0
        turned = part.leave_bound + 8 * UNIT * (not exact)
        listed.append(_eigenvalue(value, part.leave, angle, kind, name, turned, part.leave_bound, law_residual))
    bounds = (each.tolist() for each in (rest.bound, rest.apart_bound, rest.residual))
    for apart, bound, apart_bound, residual in zip(rest.apart, *bounds, strict=True):
        if apart.imag <= 0:
            value = complex(1 - apart)
            decay = float((2 * apart.real - abs(apart) ** 2) / (1 + abs(value)))
            decay = max(decay, part.leave)
            angle = atan2(value.imag, value.real)
            apart_bound += 8 * UNIT * decay
            listed.append(_eigenvalue(value, decay, angle, kind, name, bound + 4 * UNIT, apart_bound, residual))
    gap, gap_bound = None, 0.0
    if part.period > 1:
        gap = 0.0
    elif len(rest.apart):
        second = listed[1]
        gap, gap_bound = second.decay - part.leave, second.decay_bound + part.leave_bound
    described = ClassSpectrum(
        nodes,
        "closed" if part.closed else "transient",
        part.period,
        rest.reversible,
        part.root,
        part.leave,
        part.leave_bound,
        gap,
        gap_bound,
        tuple(part.left.tolist()),
        law_residual,
    )
    return listed, described


def _eigenvalue(
    value: complex, decay: float, angle: float, closed: bool, name: str, bound: float, apart: float, residual: float
) -> Eigenvalue:
    """Return an eigenvalue with what follows from it; `apart` is the bound of its decay."""
    modulus = 1 - decay
    turning = abs(angle) > 0 and modulus > (bound if bound < inf else residual)
    relaxation = _relaxation(decay)
    # The relaxation time grows as the decay shrinks.
    doubt = 0.0
    if apart and relaxation < inf:
        doubt = max(_relaxation(decay - apart) - relaxation, relaxation - _relaxation(decay + apart))
        doubt = 1.01 * doubt + 4 * UNIT * relaxation
    return Eigenvalue(
        value.real + 0.0,
        abs(value.imag),
        modulus,
        decay,
        relaxation,
        2 * pi / abs(angle) if turning else None,
        abs(angle) * relaxation / (2 * pi) if turning else None,
        "closed" if closed else "transient",
        name,
        bound,
        apart,
        doubt,
        residual,
    )


def _relaxation(decay: float) -> float:
    """Return the steps in which what decays by so much each step shrinks to 1/e."""
    if decay <= 0:
        return inf
    return -1 / log1p(-decay) if decay < 1 else 0.0
