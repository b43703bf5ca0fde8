"""Send patterns: which nodes one handling sent to, as one sorted text.

`""` is nothing, `invoice notify*2` one message to `invoice` and two to `notify`. Names that are not plain
words stand in double quotes, as in a graph file.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache

from flowstat.errors import TraceError
from flowstat.read.words import quote, shown

__all__ = ["format_pattern", "parse_pattern", "pattern_of", "sorted_pattern"]

_part = re.compile(r'([^\s"*]+|"(?:[^"\\]|\\.)*")(?:\*([1-9][0-9]{0,17}))?(?: |\Z)')


def format_pattern(targets: Iterable[str]) -> str:
    """Return the send pattern of the nodes that one handling sent to, in any order.

    Examples
    --------
    >>> format_pattern(["notify", "invoice", "notify"])
    'invoice notify*2'
    """
    return pattern_of(Counter(targets))


def pattern_of(times: Mapping[str, int]) -> str:
    """Return the send pattern with so many messages to each node.

    Examples
    --------
    >>> pattern_of({"notify": 1_000_000, "invoice": 1})
    'invoice notify*1000000'
    """
    return _text(sorted(times.items()))


@lru_cache(maxsize=65536)
def parse_pattern(pattern: str) -> tuple[tuple[str, int], ...]:
    """Return a send pattern's nodes, each with how many messages it was sent, sorted by name.

    Raises
    ------
    TraceError
        If the text is not a send pattern.

    Examples
    --------
    >>> parse_pattern("invoice notify*2")
    (('invoice', 1), ('notify', 2))
    """
    counts: Counter[str] = Counter()
    at = 0
    while at < len(pattern):
        found = _part.match(pattern, at)
        if found is None:
            raise TraceError(
                f"not a send pattern: {shown(pattern, 80)!r} (expected node names with a space between, "
                'such as "invoice notify*2")'
            )
        word, times = found.groups()
        try:
            name = json.loads(word, strict=False) if word.startswith('"') else word
        except json.JSONDecodeError:
            raise TraceError(f"a send pattern with a wrong escape: {shown(pattern, 80)!r}") from None
        counts[name] += int(times or 1)
        at = found.end()
    if pattern.endswith(" ") or "" in counts:
        raise TraceError(f"not a send pattern: {shown(pattern, 80)!r} (a name is missing)")
    return tuple(sorted(counts.items()))


def sorted_pattern(text: str) -> str:
    """Return a send pattern in the one form that all with the same targets have.

    Raises
    ------
    TraceError
        If the text is no pattern.

    Examples
    --------
    >>> sorted_pattern("c b*1 c")
    'b c*2'
    """
    return _text(parse_pattern(text))


def _text(parts: Iterable[tuple[str, int]]) -> str:
    return " ".join(quote(name) + (f"*{n}" if n > 1 else "") for name, n in parts)
