"""Intervals of what runs do with a loop: whether they take it, how often they go round, and whether it grows."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from math import isfinite

import numpy as np
from scipy import sparse

from flowstat.analyze.gradients import Return, collected, gain_gradient, perron_root, returned
from flowstat.analyze.interval import Asked, Gradient
from flowstat.analyze.intervals import how_many
from flowstat.analyze.loop import Loop
from flowstat.analyze.search import Index, Vector
from flowstat.analyze.solve import Solver
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
    With v the visits to the header h, r the chance to come back to it within the loop and R within its class, a run
    comes to h with the chance `v (1 - R)`, goes round at all with `v (1 - R) r / (1 - R + r)`, and then
    `1 + r / (1 - R)` times: see `flowstat.loops`.
    """
    label = Classes(chain.P).label
    asked = {}
    some = [loop for loop in loops[: how_many(chain)] if loop.entered > 0]
    gains = np.zeros((len(chain.names), len(some)))
    gains[[chain.index[loop.header] for loop in some], range(len(some))] = 1.0
    visits = collected(chain, start, gains, np.zeros_like(gains))
    for loop, visited in zip(some, visits, strict=True):
        around = _Around(chain, loop, start, np.flatnonzero(label == label[chain.index[loop.header]]), visited)
        if isfinite(loop.rounds):
            asked[f"entered:{loop.name}"] = Asked(loop.entered, around.of_entered, around.entered, most=1.0)
            asked[f"rounds:{loop.name}"] = Asked(loop.rounds, around.of_rounds, around.rounds, least=1.0)
        if loop.gain and mean is not None:
            gradient = partial(gain_gradient, chain, mean, around.states)
            asked[f"gain:{loop.name}"] = Asked(loop.gain, gradient, around.gain)
    return asked


class _Around:
    """A loop and the class that it is in, to be solved for any shares."""

    def __init__(self, chain: Chain, loop: Loop, start: Start, whole: Index, visited: Callable[[], Gradient]) -> None:
        self.chain, self.start, self.whole, self.visited = chain, start, whole, visited
        self.loop = loop
        self.header = chain.index[loop.header]
        self.states = np.sort(np.array([chain.index[name] for name in loop.nodes], np.int64))

    def parts(self, chain: Chain) -> tuple[Return, Return]:
        """Return the chance to come back to the header within the loop, and within its class."""
        within = returned(chain, self.states, self.header)
        same = len(self.whole) == len(self.states)
        return within, within if same else returned(chain, self.whole, self.header)

    @cached_property
    def own(self) -> tuple[Return, Return]:
        """The parts of the chain itself."""
        return self.parts(self.chain)

    @cached_property
    def visits(self) -> float:
        """The visits to the header."""
        return self.loop.entered * (self.own[1].never + self.own[0].again) / (self.own[1].never * self.own[0].again)

    def entered(self, chain: Chain) -> float:
        """Return the chance to go round at least once."""
        within, around = self.parts(chain)
        law = chain.start if self.start is None else start_law(self.chain, self.start)
        visits = float(Solver(chain.P, chain.stop).visits(law)[0].values[self.header])
        return visits * around.never * within.again / (around.never + within.again)

    def rounds(self, chain: Chain) -> float:
        """Return the mean rounds of runs that go round."""
        within, around = self.parts(chain)
        return 1 + within.again / around.never

    def gain(self, chain: Chain) -> float:
        """Return the spectral radius of the mean numbers of messages within the loop."""
        mean = chain.mean if isinstance(chain, Drawn) and chain.mean is not None else chain.P
        return perron_root(sparse.csr_array(mean[self.states][:, self.states]))

    def of_entered(self) -> Gradient:
        """Return the gradient of `entered`."""
        within, around = self.own
        r, g = within.again, around.never
        each, visits = g * r / (g + r), self.visits
        first = self.visited()
        # `g r / (g + r)` grows by `(g / (g + r))^2` with r, and falls by `(r / (g + r))^2` with R.
        arrows = each * first.arrows
        arrows += visits * (g * g * within.gradient.arrows - r * r * around.gradient.arrows) / (g + r) ** 2
        return Gradient(arrows, each * first.ends, each * first.starts)

    def of_rounds(self) -> Gradient:
        """Return the gradient of `rounds`."""
        within, around = self.own
        r, g = within.again, around.never
        nothing = np.zeros(len(self.chain.names))
        return Gradient(within.gradient.arrows / g + around.gradient.arrows * (r / g / g), nothing, nothing)
