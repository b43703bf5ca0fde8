"""Counts of simulated runs, drawn as counts: all runs together, step by step."""

from collections import Counter

import numpy as np

from flowstat.estimate.counts import Counts
from flowstat.estimate.posterior import pattern_weights
from flowstat.read.patterns import format_pattern

__all__ = ["Truth"]


class Truth:
    """A law of send patterns: that which a chain was estimated with, its means taken to be true."""

    def __init__(self, chain):
        self.chain = chain
        self.laws = {}
        for i, (weights, total) in pattern_weights(chain, set(chain.index), 1.0).items():
            patterns = list(weights)
            sent = [
                format_pattern([chain.names[j] for j, times in p for _ in range(times)]) if p else "" for p in patterns
            ]
            self.laws[i] = patterns, sent, np.array([weights[p] / total for p in patterns])

    def counts(self, runs, rng, most=10_000):
        """Return the counts of so many runs."""
        chain = self.chain
        begun = rng.multinomial(runs, chain.start)
        table = Counter()
        waiting = {i: int(n) for i, n in enumerate(begun) if n}
        for _ in range(most):
            if not waiting:
                break
            after = Counter()
            for i, n in waiting.items():
                patterns, sent, law = self.laws[i]
                for pattern, text, k in zip(patterns, sent, rng.multinomial(n, law).tolist(), strict=True):
                    if k:
                        table[chain.names[i], text] += k
                        for j, times in pattern:
                            after[j] += times * k
            waiting = after
        else:
            raise AssertionError("these runs do not end")
        return Counts(dict(table), {chain.names[i]: int(n) for i, n in enumerate(begun) if n})
