"""The law of how likely runs are: runs with all their messages played by chance, each with its log-likelihood."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf

import numpy as np

from flowstat.analyze.alias import Alias, alias
from flowstat.analyze.solve import Index, Vector
from flowstat.estimate.pattern_law import PatternLaw
from flowstat.read.patterns import parse_pattern

__all__ = ["PlayedScores", "play_scores"]

LANES = 1 << 15
"""Runs played at once."""

WIDEST = 1 << 22
"""Messages under way at once: where there are more, the runs with the most of them are cut off."""


@dataclass(frozen=True, eq=False)
class PlayedScores:
    """Runs that were played.

    Attributes
    ----------
    scores : (runs,)
        Their log-likelihoods, sorted; minus infinity for those that were cut off.
    events : (runs,)
        How many events each has, in the same order.
    cut
        How many were cut off.
    unheard
        The chance, at most, that a run starts or sends as none did in the traces behind the law: an estimate.
    """

    scores: Vector
    events: Index
    cut: int
    unheard: float = 0.0

    def p_values(self, scores: Vector) -> Vector:
        """Return for each log-likelihood the chance of one as low or lower: `(lower + 1) / (runs + 1)`.

        Sums in another order differ by rounding: what differs by less than 1e-9, relatively, counts as equal. Runs with
        something that the law knows nothing of (minus infinity) have the chance of that; where there are any, all
        p-values are twice as large, for there are two ways to be odd.
        """
        known = np.isfinite(scores)
        near = np.where(known, scores, 0.0)
        near += TIE * (1 + np.abs(near))
        lower = np.searchsorted(self.scores, near, side="right")
        found = np.where(known, (lower + 1) / (len(self.scores) + 1), self.unheard)
        return np.minimum(found if known.all() else 2 * found, 1.0)


TIE = 1e-9

OFTEN, FEWEST = 200, 10
"""How often chances are drawn anew, at most and at least."""

CELLS = 4_000_000
"""Patterns drawn anew in all, about."""

MESSAGES = 10_000_000
"""Messages of all patterns together, about, that are kept."""

LEAST = 1e-300
"""A weight that is drawn is more than 0."""


def play_scores(
    law: PatternLaw, runs: int, seed: int = 0, *, most_events: int, longest: int, unsure: bool = False
) -> PlayedScores:
    """Play runs, fan-out and all, and return how likely each was.

    Parameters
    ----------
    law
        The chances of send patterns.
    runs
        How many.
    seed
        Of all chance.
    most_events
        After so many events in all no more runs are begun.
    longest
        A run is cut off after so many events, and counts as unlikely as can be: so no p-value is too small.
    unsure
        Whether chances are drawn anew now and then, from what the traces leave open of them (their posterior): the
        runs are then those that are to be expected, and not those of the likeliest chances. A law that no traces stand
        behind is taken as it is.

    Notes
    -----
    A run's likelihood is `alpha(first) prod p(sent | node)` over its events, with the mean chances in any case.
    Posterior draws: Gelman et al., Bayesian Data Analysis (3rd ed.), sections 3.4 and 6.3. Generation by
    generation, for many runs at once, by Walker's alias method: linear in events.

    Examples
    --------
    >>> from flowstat.estimate.chain import Chain
    >>> law = PatternLaw(Chain.from_matrix([[0.5]], ["a"], stop=[0.5]))
    >>> found = play_scores(law, 1000, most_events=10_000, longest=100)
    >>> float(np.exp(found.scores.max())), abs(float(found.p_values(np.log([0.25]))[0]) - 0.5) < 0.06
    (0.5, True)
    """
    chain = law.chain
    rows, chances, sizes, targets = _flat(law)
    begin = np.flatnonzero(chain.start > 0)
    unsure = unsure and bool(law.learnt)
    drawn = _Drawn(law, rows, chances, begin, unsure)
    scores, kept = np.log(chances), np.maximum(sizes, 0)
    first = np.cumsum(kept) - kept
    begun = np.log(np.where(chain.start > 0, chain.start, 1.0))
    random = np.random.default_rng(seed)
    found: list[Vector] = [np.zeros(0)]
    many_events: list[Index] = [np.zeros(0, np.int64)]
    left, spent, cut = runs, 0, 0
    visits = np.zeros(len(chain.names))
    most = max(64, min(LANES, ceil(runs / drawn.often))) if unsure else LANES
    while left > 0 and spent < most_events:
        lanes = min(left, most)
        left -= lanes
        table, starts = drawn.tables(random)
        state = starts.draw(np.zeros(lanes, np.int64), random.random(lanes))
        score, events, run = begun[state], np.zeros(lanes, np.int64), np.arange(lanes)
        while len(state):
            spent += len(state)
            visits += np.bincount(state, minlength=len(visits))
            pattern = table.draw(state, random.random(len(state)))
            score += np.bincount(run, scores[pattern], lanes)
            events += np.bincount(run, minlength=lanes)
            many = kept[pattern]
            if spent >= 2 * most_events:
                stop = np.ones(lanes, bool)
            else:
                stop = events >= longest
                if many.sum() > WIDEST:
                    under_way = np.bincount(run, many, lanes)
                    stop |= under_way * lanes > WIDEST
            goes_on = np.zeros(lanes, bool)
            goes_on[run[many > 0]] = True
            over = stop & goes_on
            over[run[sizes[pattern] < 0]] = True
            if over.any():
                score[over] = -inf
                cut += int(over.sum())
                many = np.where(over[run], 0, many)
            place = np.repeat(first[pattern] - np.cumsum(many) + many, many) + np.arange(int(many.sum()))
            state, run = targets[place], np.repeat(run, many)
        found.append(score)
        many_events.append(events)
    all_scores = np.concatenate(found)
    order = np.argsort(all_scores, kind="stable")
    new = np.array([law.learnt[name][1] if law.learnt else 0.0 for name in chain.names])
    unheard = law.begun[1] + float(visits @ new) / max(1, len(order))
    return PlayedScores(all_scores[order], np.concatenate(many_events)[order], cut, min(1.0, unheard))


class _Drawn:
    """Tables that draw patterns and starts: always the same, or each with other chances."""

    def __init__(self, law: PatternLaw, rows: Index, chances: Vector, begin: Index, unsure: bool) -> None:
        self.rows, self.begin, self.unsure = rows, begin, unsure
        self.n = len(law.chain.names)
        self.chances, self.start = chances, law.chain.start[begin]
        self.often = int(np.clip(CELLS // max(1, len(rows)), FEWEST, OFTEN))
        if unsure:
            weight = np.array([law.learnt[name][0] for name in law.chain.names])
            self.patterns, self.starts = chances * weight[rows], self.start * law.begun[0]
        self.same = None if unsure else self._made(chances, self.start)

    def tables(self, random: np.random.Generator) -> tuple[Alias, Alias]:
        """Return tables of patterns and of starts."""
        if self.same is not None:
            return self.same
        drawn = random.standard_gamma(self.patterns)
        sums = np.bincount(self.rows, drawn, self.n)[self.rows]
        # Weights so small that all of a state's draws vanish: then its mean chances.
        chances = np.where(sums > 0, np.maximum(drawn, LEAST) / np.where(sums > 0, sums, 1.0), self.chances)
        start = np.maximum(random.standard_gamma(self.starts), LEAST) if self.starts.any() else self.start
        return self._made(chances, start)

    def _made(self, chances: Vector, start: Vector) -> tuple[Alias, Alias]:
        # A table draws which of all patterns it is.
        starts = alias(np.zeros(len(self.begin), np.int64), self.begin, start, 1)
        return alias(self.rows, np.arange(len(self.rows)), chances, self.n), starts


def _flat(law: PatternLaw) -> tuple[Index, Vector, Index, Index]:
    """Return of all patterns, state by state, the state, the chance, how many messages, and all of their targets.

    A pattern of more messages than can be kept has -1: a run that sends it is cut off.
    """
    index = law.chain.index
    rows, chances, sizes, targets = [], [], [], []
    widest = max(1000, MESSAGES // max(1, sum(map(len, law.patterns.values()))))
    for name in law.chain.names:
        for sent, p in law.patterns[name].items():
            if p <= 0:
                continue
            rows.append(index[name])
            chances.append(p)
            parts = parse_pattern(sent)
            size = sum(times for _, times in parts)
            sizes.append(size if size <= widest else -1)
            if size <= widest:
                targets += [index[target] for target, times in parts for _ in range(times)]
    ints = [np.array(each, np.int64) for each in (rows, sizes, targets)]
    return ints[0], np.array(chances), ints[1], ints[2]
