"""Stated changes of a chain's shares: read, and made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from scipy import sparse

from flowstat.analyze.pairs import pair_of, splits, unquoted
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import END, Chain
from flowstat.estimate.chain_model import fraction
from flowstat.read.topics import matches
from flowstat.read.words import shown

__all__ = ["Change", "Changes", "changed", "read_changes"]

Changes = str | Iterable[str] | Mapping[str | tuple[str, str], float]
"""`"payment/retry=0.02"`, `"a -> b=0.3"`, `"a -> (end)=10%"`: one, several, or a mapping of what is left of the `=`."""

NAMED = 8


@dataclass(frozen=True)
class Change:
    """New share of all ways from a node to some targets together; `(end)` is a target."""

    what: str
    source: str
    targets: tuple[str, ...]
    share: Fraction

    @property
    def name(self) -> str:
        """The ways in words: `payment -> payment`."""
        return f"{shown(self.source)} -> {', '.join(map(shown, self.targets))}"


def read_changes(chain: Chain, changes: Changes) -> tuple[Change, ...]:
    """Read changes; a text names a pair of nodes, or a node and a topic key of its arrows.

    A key stands for all arrows that have it as it is written, or, if none has, whose pattern matches it.

    Raises
    ------
    AnalysisError
        If a change can't be read, names what the chain does not have, or a key that shares its pair with others: then
        its own share is not known.
    """
    if isinstance(changes, Mapping):
        found = tuple(_change(chain, what, value) for what, value in changes.items())
    else:
        found = tuple(_stated(chain, text) for text in ([changes] if isinstance(changes, str) else changes))
    if not found:
        raise AnalysisError("state at least one change, such as 'payment/retry=0.02' or 'a -> b=0.3'")
    seen: dict[tuple[str, str], str] = {}
    for change in found:
        for target in change.targets:
            other = seen.setdefault((change.source, target), change.what)
            if other is not change.what:
                raise AnalysisError(
                    f"{shown(other)!r} and {shown(change.what)!r} both change {shown(change.source)} -> {shown(target)}"
                )
    return found


def _stated(chain: Chain, text: str) -> Change:
    what, equals, value = text.rpartition("=")
    if not equals:
        raise AnalysisError(f"{shown(text)!r} is no change: write 'payment/retry=0.02' or 'a -> b=0.3'")
    return _change(chain, what.strip(), value.strip())


def _change(chain: Chain, what: str | tuple[str, str], value: float | str) -> Change:
    share = _share(what, value)
    if not isinstance(what, str):
        source, target = what
        for name in what:
            if name not in chain.index and (name, name) != (target, END):
                raise AnalysisError(f"no node is called {shown(str(name))!r}: {_few(chain.names)}")
        return Change(f"{source} -> {target}", source, (target,), share)
    pair = pair_of(chain, what)
    if pair is not None:
        return Change(what, pair[0], (pair[1],), share)
    for left, key in splits(what, "/"):
        source = unquoted(left)
        if source in chain.index:
            return Change(what, source, _targets(chain, source, unquoted(key)), share)
    raise AnalysisError(
        f"{shown(what)!r} is no pair 'a -> b' and no 'node/key' of the chain's nodes: {_few(chain.names)}"
    )


def _share(what: str | tuple[str, str], value: float | str) -> Fraction:
    text = str(value).strip()
    try:
        # Shares are decimals: what 0.9 leaves of 1 is 0.1, not 0.09999....
        share = fraction(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except OverflowError:
        share = Fraction(2)
    except (ValueError, ZeroDivisionError):
        raise AnalysisError(f"the share of {shown(str(what))} is no number: {shown(text)!r}") from None
    if not 0 <= share <= 1:
        raise AnalysisError(f"the share of {shown(str(what))} is between 0 and 1, not {shown(text)}")
    return share


def _targets(chain: Chain, source: str, key: str) -> tuple[str, ...]:
    """Return where a node's arrows with a key lead to."""
    arrows = chain.graph.outgoing.get(source, ()) if chain.graph is not None else ()
    named = [arrow for arrow in arrows if arrow.key == key] or [arrow for arrow in arrows if matches(arrow.key, key)]
    if not named:
        keys = list(dict.fromkeys(arrow.key for arrow in arrows))
        known = f"it has {_few(keys)}" if keys else "its keys are not known: name the pair, 'a -> b'"
        raise AnalysisError(f"{shown(source)} has no arrow with the key {shown(key)!r}: {known}")
    targets = tuple(dict.fromkeys(arrow.target for arrow in named))
    taken = {arrow.key for arrow in named}
    for target in targets:
        others = [other for other in chain.keys(source, target) if other not in taken]
        if others:
            raise AnalysisError(
                f"{shown(source)} -> {shown(target)} has the key {shown(others[0])!r} as well, and how its messages "
                f"are spread over keys is not counted: change '{shown(source)} -> {shown(target)}'"
            )
    return targets


def _few(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(map(shown, listed[:NAMED])) + ", ..." * (len(listed) > NAMED)


def changed(chain: Chain, changes: Iterable[Change]) -> Chain:
    """Return the chain with changes made; a node's other ways keep their proportions, and so does what shares a change.

    Raises
    ------
    AnalysisError
        If a node's new shares add up to more than 1, or to less and it has no other way.
    """
    n = len(chain.names)
    by_source: dict[int, list[Change]] = {}
    for change in changes:
        by_source.setdefault(chain.index[change.source], []).append(change)
    P, stop = chain.P, chain.stop.copy()
    keep = np.ones(P.nnz, bool)
    rows, columns, values = [], [], []
    for i, stated in by_source.items():
        part = slice(P.indptr[i], P.indptr[i + 1])
        old = dict(zip(P.indices[part].tolist(), P.data[part].tolist(), strict=True))
        if stop[i] > 0:
            old[n] = float(stop[i])
        keep[part] = False
        new = _row(chain, old, stated)
        stop[i] = new.pop(n, 0.0)
        rows += [i] * len(new)
        columns += list(new)
        values += list(new.values())
    at, to, shares = chain.arrows()
    data = np.concatenate([shares[keep], values])
    place = (
        np.concatenate([at[keep], np.array(rows, np.int64)]),
        np.concatenate([to[keep], np.array(columns, np.int64)]),
    )
    made = sparse.csr_array((data, place), shape=(n, n))
    made.eliminate_zeros()
    made.sort_indices()
    return replace(chain, P=made, stop=stop)


def _row(chain: Chain, old: dict[int, float], stated: list[Change]) -> dict[int, float]:
    """Return the new shares of one node's ways, by target position (n: the end)."""
    source = shown(stated[0].source)
    asked = sum((change.share for change in stated), Fraction(0))
    if asked > 1:
        raise AnalysisError(f"the new shares of {source} add up to {float(asked):g}, more than 1")
    new: dict[int, float] = {}
    for change in stated:
        targets = [chain.index.get(target, len(chain.names)) for target in change.targets]
        weights = [old.get(target, 0.0) for target in targets]
        if not any(weights):
            weights = [1.0] * len(targets)
        whole = sum(weights)
        for target, weight in zip(targets, weights, strict=True):
            new[target] = float(change.share) * (weight / whole)
    others = {target: share for target, share in old.items() if target not in new}
    rest, whole = float(1 - asked), sum(others.values())
    if rest > 0 and not others:
        raise AnalysisError(
            f"{source} has no other way that could take the remaining {rest:g}: state where it goes as well, such as "
            f"'{source} -> (end)={rest:g}'"
        )
    for target, share in others.items():
        new[target] = rest * (share / whole)
    return {target: share for target, share in new.items() if share > 0}
