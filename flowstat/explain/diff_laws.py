"""Are two rows of numbers drawn from the same law? Tests of one node each, and what many of them tell together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal
from zlib import crc32

import numpy as np
import numpy.typing as npt
from scipy import special

__all__ = ["How", "Tested", "adjusted", "draws_for", "same_law"]

Vector = npt.NDArray[np.float64]

How = Literal["exact", "sampled", "approximate"]

EXPECTED = 20.0
"""From this least expected number on, the law of the statistic is near enough to chi-square."""

LISTED = 200_000
"""Up to how many tables of two columns are looked at one by one."""

EXCEEDED = 50
"""Drawing ends when so many tables were drawn that are as extreme as the one that was seen."""

DRAWN = 9_999
"""How many tables are drawn at most, or more where many nodes are tested."""

MOST = 199_999

ROOM = 2_000_000
"""How many numbers are drawn at a time."""

LARGE = 900_000_000
"""Of more events no tables are drawn: what is rare among them is taken together, or one side has few of them."""

FEW = 1e-3
"""Of so large a table, a side with no more than this part is drawn as if its events were put back."""

TIE = 1e-9
"""Statistics that agree so far, relatively, are equal: they count as extreme."""


@dataclass(frozen=True)
class Tested:
    """What a test found: `p`, the chance of numbers as far apart or farther if the law is one, and how it is known.

    `exact`: of all tables with these margins; `sampled`: of tables that were drawn, valid all the same;
    `approximate`: by the chi-square law.
    """

    p: float
    how: How


def same_law(
    before: Sequence[int], after: Sequence[int], name: str, seed: int = 0, draws: int = DRAWN
) -> Tested | None:
    """Test whether two rows of numbers are drawn from the same law.

    Parameters
    ----------
    before, after
        How often each of K things was seen.
    name, seed
        What is drawn hangs on these only: the same for the same node, whatever is tested beside it.
    draws
        How many tables are drawn at most.

    Returns
    -------
    Tested or None
        None where nothing can differ: no events on one side, or all of them are one thing.

    Notes
    -----
    The statistic is that of the likelihood ratio, `G = 2 sum x ln(x / E)`, with E what is expected if the law is one.
    Two things: exact, over all tables with the same margins (Fisher). More: where all E are at least 20, by the
    chi-square law with Williams' correction (Williams, Biometrika 63 (1976)); else tables with the same margins are
    drawn, until 50 are as extreme (Besag and Clifford, Biometrika 78 (1991)), which keeps p valid.

    Examples
    --------
    >>> same_law([8, 2], [1, 9], "a").p < 0.01
    True
    """
    pairs = [(b, a) for b, a in zip(before, after, strict=True) if b or a]
    n, m = sum(b for b, _ in pairs), sum(a for _, a in pairs)
    if len(pairs) < 2 or not n or not m:
        return None
    if n + m > LARGE and min(n, m) > FEW * (n + m):
        pairs = _together(pairs, n, m)
    seen = np.array(pairs, np.float64).T
    both = seen.sum(axis=0)
    rare = float(both.min()) * min(n, m) / (n + m)
    if len(pairs) == 2 and min(both.min(), n, m) < LISTED:
        return Tested(_listed(seen, n, m), "exact")
    found = float(_statistic(seen[0], both, n, m))
    if rare >= EXPECTED:
        return Tested(float(special.chdtrc(len(pairs) - 1, found / _williams(both, n, m))), "approximate")
    return Tested(
        _drawn(both.astype(np.int64), n, m, found, np.random.default_rng([seed, crc32(name.encode())]), draws),
        "sampled",
    )


def draws_for(tests: int, rate: float) -> int:
    """Return how many tables to draw, so that the least p can be found among so many tests at this rate."""
    return min(max(DRAWN, ceil(4 * tests / rate)), MOST)


def adjusted(p: Sequence[float]) -> list[float]:
    """Return the least rate of false discoveries at which each of some tests is found.

    Notes
    -----
    Source: Benjamini and Hochberg, Journal of the Royal Statistical Society B 57 (1995): the expected share of false
    ones among those found is at most the rate, for independent tests and for such that go together. Where nothing
    differs at all, anything is found at most as often.

    Examples
    --------
    >>> adjusted([0.01, 0.5, 0.02])
    [0.03, 0.5, 0.03]
    """
    order = np.argsort(-np.asarray(p, np.float64), kind="stable")
    found, least, m = [0.0] * len(p), 1.0, len(p)
    for rank, k in enumerate(order.tolist()):
        least = min(least, p[k] * m / (m - rank))
        found[k] = least
    return found


def _together(pairs: list[tuple[int, int]], n: int, m: int) -> list[tuple[int, int]]:
    """Return a table of two things at least, of which what is rare is taken together."""
    ordered = sorted(pairs, key=sum)
    while len(ordered) > 2 and sum(ordered[0]) * min(n, m) < EXPECTED * (n + m):
        (a, b), (c, d), *rest = ordered
        ordered = sorted([(a + c, b + d), *rest], key=sum)
    return ordered


def _statistic(first: Vector, both: Vector, n: int, m: int) -> Vector:
    """Return G of tables by their first rows, (..., K)."""
    share = both / (n + m)
    return 2.0 * (_part(first, share * n) + _part(both - first, share * m)).sum(axis=-1)  # type: ignore[no-any-return]


def _part(x: Vector, expected: Vector) -> Vector:
    """Return `x ln(x / E) - (x - E)`, which is at least 0: nothing cancels in the sum, where the last terms do."""
    u = x / expected - 1.0
    with np.errstate(divide="ignore", invalid="ignore"):
        direct = np.where(x > 0, (1 + u) * np.log1p(u), 0.0) - u
    near = u * u * (1 / 2 - u * (1 / 6 - u * (1 / 12 - u * (1 / 20 - u / 30))))
    made: Vector = expected * np.where(np.abs(u) < 1e-3, near, direct)
    return made


def _williams(both: Vector, n: int, m: int) -> float:
    whole, k = float(n + m), len(both)
    return 1 + (whole / n + whole / m - 1) * (float((whole / both).sum()) - 1) / (6 * whole * (k - 1))


def _listed(seen: Vector, n: int, m: int) -> float:
    """Return p of a table of two columns, exactly."""
    one, other = (int(x) for x in seen.sum(axis=0))
    k = np.arange(max(0, one - m), min(n, one) + 1, dtype=np.float64)
    log = -special.gammaln(k + 1) - special.gammaln(one - k + 1)
    log -= special.gammaln(n - k + 1) + special.gammaln(other - (n - k) + 1)
    weight = np.exp(log - log.max())
    first = np.stack([k, n - k], axis=1)
    statistic = _statistic(first, np.array([one, other], np.float64), n, m)
    at = int(seen[0, 0] - k[0])
    return min(1.0, float(weight[statistic >= statistic[at] * (1 - TIE)].sum() / weight.sum()))


def _drawn(both: npt.NDArray[np.int64], n: int, m: int, found: float, random: np.random.Generator, draws: int) -> float:
    """Return p by tables with the same margins that are drawn."""
    extreme = drawn = 0
    size = max(EXCEEDED, 200)
    while drawn < draws:
        size = min(size, draws - drawn, max(1, ROOM // len(both)))
        first = _tables(both, n, m, size, random)
        hit = _statistic(first, both.astype(np.float64), n, m) >= found * (1 - TIE)
        at = np.flatnonzero(np.cumsum(hit) + extreme >= EXCEEDED)
        if len(at):
            return EXCEEDED / (drawn + int(at[0]) + 1)
        extreme, drawn, size = extreme + int(hit.sum()), drawn + size, 2 * size
    return (extreme + 1) / (drawn + 1)


def _tables(both: npt.NDArray[np.int64], n: int, m: int, size: int, random: np.random.Generator) -> Vector:
    """Return the first rows of tables with these margins, (size, K)."""
    if n + m <= LARGE:
        return random.multivariate_hypergeometric(both, n, size=size, method="marginals").astype(np.float64)
    drawn = random.multinomial(min(n, m), both / (n + m), size=size).astype(np.float64)
    return drawn if n <= m else both - drawn
