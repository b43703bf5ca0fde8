"""Intervals of what runs do with a loop: whether they take it, how often they go round, and whether it grows."""

from __future__ import annotations

from functools import cached_property, partial
from math import isfinite

import numpy as np
from scipy import sparse

from flowstat.analyze.answers import Answer, adjoint
from flowstat.analyze.gradients import Return, gain_gradient, gradient_of, perron_root, returned
from flowstat.analyze.interval import Asked, Gradient
from flowstat.analyze.intervals import how_many
from flowstat.analyze.loop import Loop
from flowstat.analyze.search import Index, Vector
from flowstat.analyze.strong import Classes
from flowstat.estimate.chain import Chain, Start, start_law
from flowstat.estimate.posterior import Drawn

__all__ = ["asked_loops"]


def asked_loops(chain: Chain, loops: tuple[Loop, ...], start: Start, mean: Vector | None) -> dict[str, Asked]:
    """Return of loops how likely they are entered, the rounds and the gain, each with its gradient.

    Parameters
    ----------
    mean
        Messages along each arrow of the chain per event, (m,), if they are known.

    Notes
    -----
    With A the chance to come to the header h, r that to come back to it within the loop and R within its class, a run
    goes round at all with the chance `A r / (1 - R + r)`, and then `1 + r / (1 - R)` times: see `flowstat.loops`. All
    three are chances to come to a node, with the gradients of those.
    """
    label = Classes(chain.P).label
    asked = {}
    for loop in loops[: how_many(chain)]:
        around = _Around(chain, loop, start, np.flatnonzero(label == label[chain.index[loop.header]]))
        if isfinite(loop.rounds) and loop.entered > 0:
            asked[f"entered:{loop.name}"] = Asked(loop.entered, around.of_entered, around.entered, most=1.0)
            asked[f"rounds:{loop.name}"] = Asked(loop.rounds, around.of_rounds, around.rounds, least=1.0)
        if loop.gain and mean is not None:
            gradient = partial(gain_gradient, chain, mean, around.states)
            asked[f"gain:{loop.name}"] = Asked(loop.gain, gradient, around.gain)
    return asked


class _Around:
    """A loop and the class that it is in, to be solved for any shares."""

    def __init__(self, chain: Chain, loop: Loop, start: Start, whole: Index) -> None:
        self.chain, self.start, self.whole = chain, start, whole
        self.header = chain.index[loop.header]
        self.states = np.sort(np.array([chain.index[name] for name in loop.nodes], np.int64))
        self.hit = Answer("hit", (loop.header,))

    def parts(self, chain: Chain) -> tuple[float, Return, Return]:
        """Return the chance to come to the header, and to come back to it within the loop and within its class."""
        law = chain.start if self.start is None else start_law(self.chain, self.start)
        within = returned(chain, self.states, self.header)
        around = within if len(self.whole) == len(self.states) else returned(chain, self.whole, self.header)
        return float(adjoint(chain, self.hit, law).value.values), within, around

    @cached_property
    def own(self) -> tuple[float, Return, Return]:
        """The parts of the chain itself."""
        return self.parts(self.chain)

    def entered(self, chain: Chain) -> float:
        """Return the chance to go round at least once."""
        came, within, around = self.parts(chain)
        return came * within.again / (around.never + within.again)

    def rounds(self, chain: Chain) -> float:
        """Return the mean rounds of runs that go round."""
        _, within, around = self.parts(chain)
        return 1 + within.again / around.never

    def gain(self, chain: Chain) -> float:
        """Return the spectral radius of the mean numbers of messages within the loop."""
        mean = chain.mean if isinstance(chain, Drawn) and chain.mean is not None else chain.P
        return perron_root(sparse.csr_array(mean[self.states][:, self.states]))

    def of_entered(self) -> Gradient:
        """Return the gradient of `entered`."""
        came, within, around = self.own
        law = start_law(self.chain, self.start)
        r, g = within.again, around.never
        first = gradient_of(self.chain, adjoint(self.chain, self.hit, law))
        starts = first.starts if self.start is None else np.zeros(len(law))
        arrows = first.arrows * (r / (g + r))
        arrows += came / (g + r) ** 2 * (g * within.gradient.arrows + r * around.gradient.arrows)
        return Gradient(arrows, first.ends * (r / (g + r)), starts * (r / (g + r)))

    def of_rounds(self) -> Gradient:
        """Return the gradient of `rounds`."""
        _, within, around = self.own
        r, g = within.again, around.never
        nothing = np.zeros(len(self.chain.names))
        return Gradient(within.gradient.arrows / g + around.gradient.arrows * (r / g / g), nothing, nothing)
