"""Topic keys, matched as an AMQP topic exchange matches them."""

from __future__ import annotations

__all__ = ["ANY_KEY", "matches"]

ANY_KEY = "#"
"""The pattern that every key matches; an arrow without a key has it."""


def matches(pattern: str, key: str) -> bool:
    """Return whether a routing key matches a binding pattern.

    Both are split into words at every dot; the empty text has zero words, and empty words between dots
    count. In the pattern, `*` stands for exactly one word and `#` for zero or more; both only as a whole
    word (`a*` and `##` are literals). Case counts.

    Source: AMQP 0-9-1, section 3.1.3.3 (topic exchange); ties settled by what RabbitMQ does. Linear in
    the words for patterns with one `#`, and at most pattern words times key words otherwise.

    Examples
    --------
    >>> matches("eu.#", "eu"), matches("eu.*", "eu.paid.late"), matches("#.us", "narf.us")
    (True, False, True)
    """
    if pattern == ANY_KEY or (pattern == key and "*" not in pattern and "#" not in pattern):
        return True
    want = pattern.split(".") if pattern else []
    have = key.split(".") if key else []
    # Greedy wildcard matching: remember the last `#` and let it take one more word on a mismatch.
    i = j = 0
    hash_at = taken = -1
    while j < len(have):
        if i < len(want) and want[i] == "#":
            hash_at, taken = i, j
            i += 1
        elif i < len(want) and (want[i] == "*" or want[i] == have[j]):
            i += 1
            j += 1
        elif hash_at >= 0:
            taken += 1
            i, j = hash_at + 1, taken
        else:
            return False
    return all(word == "#" for word in want[i:])
