"""How names and keys are written: bare where they are plain words, else as JSON strings."""

from __future__ import annotations

import json
import re

__all__ = ["is_storable", "quote", "quote_argument", "quote_key", "shown", "visible"]

ARGUMENT = re.compile(r'[^\s"\[\]]+')
"""A component's argument that needs no quotes."""

_word = re.compile(r"\w(?:[\w.-]*\w)?")
_key = re.compile(r"[\w.#*](?:[\w.#*-]*[\w.#*])?")


def quote(name: str) -> str:
    """Return a node's name as a graph file or a send pattern writes it."""
    return name if _word.fullmatch(name) else _quoted(name)


def quote_key(key: str) -> str:
    """Return a topic key as a graph file writes it."""
    return key if _key.fullmatch(key) else _quoted(key)


def quote_argument(argument: str) -> str:
    """Return one argument of a component as a graph file writes it."""
    return argument if ARGUMENT.fullmatch(argument) else _quoted(argument)


def shown(name: str, width: int = 60) -> str:
    """Return a name on one line and short enough for a message."""
    name = name if len(name) <= width else name[: width - 3] + "..."
    return name if name.isprintable() else visible(name)


def visible(text: str) -> str:
    """Return a text on one line, with escapes for what would move a cursor or break an encoder."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def is_storable(text: str) -> bool:
    """Return whether a text can be written to a file: half a surrogate pair can't."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _quoted(text: str) -> str:
    # Line separators that are not \n would break a line in some editors: escape all but plain text.
    return json.dumps(text, ensure_ascii=not text.isprintable())
