"""What a chain says of whole events: the chance of each send pattern, and so of a run with all its messages."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cached_property
from math import inf, log

from flowstat.estimate.chain import Chain
from flowstat.estimate.remembering import Remembering
from flowstat.read.patterns import format_pattern, parse_pattern, pattern_of

__all__ = ["PatternLaw"]


@dataclass(frozen=True, eq=False)
class PatternLaw:
    """The chances of send patterns, state by state.

    They are the posterior means behind the chain: `(n_s + prior w_s) / (n + prior)`, the prior's patterns being one
    message along an arrow, or none. A chain from a matrix sends one message or none.

    Examples
    --------
    >>> law = PatternLaw(Chain.from_matrix([[0.5, 0.25], [0, 0]], ["a", "b"], stop=[0.25, 1]))
    >>> law.patterns["a"]
    {'a': 0.5, 'b': 0.25, '': 0.25}
    >>> law.log_chance(None, "b", "a")
    -inf
    """

    chain: Chain

    @cached_property
    def patterns(self) -> dict[str, dict[str, float]]:
        """State -> send pattern -> chance, of those that are possible; each row sums to 1."""
        chain = self.chain
        counts = chain.counts
        found: dict[str, dict[str, float]] = {name: {} for name in chain.names}
        weight = dict.fromkeys(chain.names, 1.0)
        sole: defaultdict[tuple[str, str], float] = defaultdict(float)
        if counts is not None:
            known = set(chain.graph.nodes) if chain.graph is not None else set()
            for name, n in counts.events.items():
                weight[name] = n + (chain.prior if name in known else 0.0)
            for (name, sent), n in counts.table.items():
                targets = parse_pattern(sent)
                size = sum(times for _, times in targets)
                for target, times in targets:
                    sole[name, target] += n * times / size
                if not targets:
                    sole[name, ""] += n
                found[name][sent] = found[name].get(sent, 0.0) + n
        rows, columns, values = chain.arrows()
        ways = [(chain.names[i], chain.names[j], p) for i, j, p in zip(rows, columns, values.tolist(), strict=True)]
        ways += [(name, "", p) for name, p in zip(chain.names, chain.stop.tolist(), strict=True)]
        for name, target, p in ways:
            # What a share has beside the events that were seen is the prior's.
            prior = p * weight[name] - sole[name, target]
            if prior > ROUNDED * p * weight[name]:
                sent = format_pattern([target]) if target else ""
                found[name][sent] = found[name].get(sent, 0.0) + prior
        made = {}
        for name, row in found.items():
            total = sum(row.values())
            made[name] = {sent: n / total for sent, n in row.items()}
        return made

    @cached_property
    def learnt(self) -> dict[str, tuple[float, float]]:
        """State -> its events and prior together, and the chance that its next event sends what none has sent yet.

        The latter is about the share of events whose pattern is there once: `(once + 1/2) / (events + 1)` (Good,
        Biometrika 40 (1953)). Empty for a chain that no traces stand behind: its chances are as they are stated.
        """
        counts = self.chain.counts
        if counts is None or not counts.events:
            return {}
        once = Counter(node for (node, _), n in counts.table.items() if n == 1)
        known = set(self.chain.graph.nodes) if self.chain.graph is not None else set()
        found = {}
        for name in self.chain.names:
            n = counts.events.get(name, 0)
            weight = n + (self.chain.prior if name in known else 0.0)
            found[name] = (weight if n else 1.0), (once[name] + 0.5) / (n + 1)
        return found

    @property
    def begun(self) -> tuple[float, float]:
        """How many runs are behind the start law, and the chance that the next one starts where none has yet."""
        counts = self.chain.counts
        if counts is None or not counts.runs:
            return 0.0, 0.0
        once = sum(n == 1 for n in counts.starts.values())
        return float(counts.runs), (once + 0.5) / (counts.runs + 1)

    def log_chance(self, before: str | None, node: str, sent: str) -> float:
        """Return the logarithm of the chance that an event at a node after another sends this."""
        chain, state = self.chain, node
        if isinstance(chain, Remembering):
            state = chain.walk([node] if before is None else [before, node])[-1]
            sent = pattern_of({chain.walk([node, target])[-1]: times for target, times in parse_pattern(sent)})
        p = self.patterns.get(state, {}).get(sent, 0.0)
        return log(p) if p > 0 else -inf

    def log_start(self, node: str) -> float:
        """Return the logarithm of the chance that a run begins at a node."""
        chain = self.chain
        state = chain.walk([node])[0] if isinstance(chain, Remembering) else node
        at = chain.index.get(state)
        p = 0.0 if at is None else float(chain.start[at])
        return log(p) if p > 0 else -inf


ROUNDED = 1e-12
"""A share is no more than what was seen, up to this, relatively."""
