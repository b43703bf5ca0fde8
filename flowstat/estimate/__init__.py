"""Graph and traces become counts, and counts a chain with its uncertainty.

`flowstat.estimate(counts, graph)` is this package called: it is `flowstat.estimate.chain.estimate`. Folder
and function share a name, and importing anything from the folder would otherwise hide the function.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowstat.estimate.chain import Chain
    from flowstat.estimate.counts import Counts
    from flowstat.read.graph import Graph


class _Estimate(ModuleType):
    def __call__(self, counts: Counts, graph: Graph | None = None, prior: float = 1.0) -> Chain:
        """Estimate the chain; see `flowstat.estimate.chain.estimate`."""
        from flowstat.estimate.chain import estimate

        return estimate(counts, graph, prior)


sys.modules[__name__].__class__ = _Estimate
