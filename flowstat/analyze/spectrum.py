"""Leading eigenvalues of a chain: how fast it forgets, what it repeats, and how long it stays where it is."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import atan2, pi
from typing import ClassVar, Literal

import numpy as np

from flowstat.analyze.absorption import trap_name
from flowstat.analyze.eigen import WHOLE, Leading, leading
from flowstat.analyze.eigenvalue import Eigenvalue, eigenvalue
from flowstat.analyze.elimination import UNIT
from flowstat.analyze.perron import Part, part_of
from flowstat.analyze.roots import by_root
from flowstat.analyze.solve import Solver
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import Chain
from flowstat.results import LINEAGES, Result, Row, number

__all__ = ["ClassSpectrum", "Eigenvalue", "Spectrum", "class_name", "spectrum"]

TIED = 1e-11
"""Classes are not told apart by less than that, relative to how far their roots are from 1."""


@dataclass(frozen=True)
class ClassSpectrum:
    """A class that has some of the listed eigenvalues.

    `root` is its largest eigenvalue: 1 if it is closed; else a run in it leaves with the chance `leaves = 1 - root`
    each step, once it has been there for long. `law` is where it is then: the stationary law, or the quasi-stationary
    one, with its `law_residual` (1-norm of `law P - root law`). `gap` is `root - |second|`: 0 for a periodic class,
    None for one state, and where the second eigenvalue was not looked for or does not stand out from the others. How
    far they may be off is in `leaves_bound` and `gap_bound`. Of a large class the eigenvalues that are not found are
    below a modulus of nearly `below`, an estimate, if some were sought in vain (the root where that is not known);
    `withheld` are found, but so sensitive to rounding that they are not known.
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
    below: float | None = None
    withheld: tuple[tuple[float, float], ...] = ()


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
        "error_estimate",
    )
    beside: ClassVar[tuple[str, ...]] = columns[-6:]
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
            name = class_name(part.nodes)
            if part.kind == "transient" and part.root > 0:
                notes.append(f"From {name} a run that is still there leaves with {number(part.leaves)} each step.")
            elif part.period > 1:
                notes.append(f"{name} is periodic ({part.period}): it has no gap, and never forgets its phase.")
            elif part.gap is not None:
                notes.append(f"{name} has the gap {number(part.gap)}.")
        unsure = sum(e.may_be_0 for e in self.eigenvalues)
        if unsure:
            notes.append(f"{unsure} of them can't be told from 0: their bounds are as large as they are.")
        rough = [e.error_estimate for e in self.eigenvalues if e.error_estimate is not None and not e.may_be_0]
        if rough:
            notes.append(
                f"{len(rough)} of them have no proven bound of use, and a small residual alone proves nothing: by "
                f"their left and right vectors they are off by up to about {number(max(rough))}, an estimate."
            )
        for part in self.classes:
            name = class_name(part.nodes)
            if part.withheld:
                notes.append(
                    f"Of {name} {len(part.withheld)} near {number(abs(complex(*part.withheld[0])))} in modulus are not "
                    "listed, nor others like them: rounding may have moved them far, since their left and right "
                    "vectors are nearly orthogonal, or by as much as they are from 1."
                )
            elif part.below is not None and part.below >= part.root:
                notes.append(f"Of {name} others were sought in vain: they lie too close together next to the root.")
            elif part.below is not None:
                notes.append(
                    f"Of {name} the other eigenvalues don't stand out: they crowd below a modulus of about "
                    f"{number(part.below)}, by how fast products grow (an estimate)."
                )
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
        If `top` is less than 1, or the Perron vectors of a class can't be told from rounding.

    Notes
    -----
    The eigenvalues of P are those of its classes. On its Perron circle a class of period d has the d eigenvalues
    `root exp(2 pi i k / d)`, exactly (Seneta, Non-negative Matrices and Markov Chains (2006), theorem 1.7); a closed
    class has the root 1. The relaxation time is `-1 / log |lambda|` (Levin and Peres, Markov Chains and Mixing Times
    (2017), section 12.2, where it is 1 / gap: the same to first order). Eigenvalues near 1 are worked out as distances
    from 1 by sums of differences along arrows, so that a gap of 1e-17 is not lost. Only classes that may have one of
    the leading eigenvalues are decomposed: some enclosures of all Perron roots at once, linear in the arrows, tell
    which; of classes whose roots are equal but for 1e-11 of their distance from 1, those that come first. Cost of each:
    n^3 up to 1,000 states, above see `flowstat.analyze.eigen`: there, eigenvalues that do not stand out from the others
    are given up after some seconds, and only the Perron root and those that do are listed (`more` tells).

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
    for c, leave in by_root(solver, top):
        found.sort(key=lambda e: e.decay)
        if len(found) >= top and found[top - 1].decay <= leave * (1 + TIED):
            more = True
            break
        part = part_of(solver, c)
        nodes = tuple(chain.names[i] for i in part.states)
        if part.root <= 0:
            continue
        circle = part.period // 2 + 1
        # Of a pair one line is listed; of a large class so many vectors would be costly.
        wanted = max(0, top - circle)
        rest = leading(part, 2 * top if len(nodes) <= WHOLE else min(2 * wanted, wanted + 2))
        listed, described = _described(part, nodes, rest, top)
        found += listed
        parts.append(described)
        if rest.nearest:
            nearest.append(class_name(nodes))
        more = more or circle > top
        if len(rest.apart) < rest.others:
            # What is not known of this class is below the last that is, or where its crowd begins.
            crowd = 1 - rest.below if rest.below is not None and not rest.withheld else 0.0
            more, least = True, min(least, max(listed[-1].decay, crowd))
    found.sort(key=lambda e: e.decay)
    kept = [e for e in found if e.decay <= least][:top]
    names = {e.of for e in kept}
    return Spectrum(
        tuple(kept),
        tuple(p for p in parts if class_name(p.nodes) in names),
        more or len(found) > len(kept),
        tuple(name for name in nearest if name in names),
        chain.fans_out,
    )


def class_name(nodes: tuple[str, ...]) -> str:
    """Return what a class is called: its nodes, or of many the first ones and how many they are."""
    return trap_name(nodes) if len(nodes) <= 6 else "{" + ", ".join(nodes[:3]) + f", ...: {len(nodes):,} nodes}}"


def _described(part: Part, nodes: tuple[str, ...], rest: Leading, top: int) -> tuple[list[Eigenvalue], ClassSpectrum]:
    name, kind = class_name(nodes), part.closed
    listed = []
    law_residual = float(np.abs(part.off.T @ part.left - (part.moving - part.leave) * part.left).sum())
    for k in range(min(part.period // 2 + 1, top)):
        angle = 2 * pi * k / part.period
        value = part.root * complex(np.cos(angle), np.sin(angle) if 2 * k < part.period and k else 0.0)
        exact = part.closed and 2 * k % part.period == 0
        turned = part.leave_bound + 8 * UNIT * (not exact)
        listed.append(eigenvalue(value, part.leave, angle, kind, name, turned, part.leave_bound, law_residual))
    bounds = (each.tolist() for each in (rest.bound, rest.apart_bound, rest.residual, rest.estimate))
    for apart, bound, apart_bound, residual, estimate in zip(rest.apart, *bounds, strict=True):
        if apart.imag <= 0:
            value = complex(1 - apart)
            decay = float((2 * apart.real - abs(apart) ** 2) / (1 + abs(value)))
            decay = max(decay, part.leave)
            angle = atan2(value.imag, value.real)
            apart_bound += 8 * UNIT * decay
            each = eigenvalue(value, decay, angle, kind, name, bound + 4 * UNIT, apart_bound, residual)
            listed.append(replace(each, error_estimate=estimate) if estimate < bound else each)
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
        rest.below,
        tuple((v.real, v.imag) for v in rest.withheld if v.imag >= 0),
    )
    return listed, described
