"""Messages from outside, read from JSON Lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import orjson

from flowstat.errors import RunError
from flowstat.run.loop import Injection

__all__ = ["read_injections"]


def read_injections(lines: Iterable[bytes], origin: str) -> Iterator[Injection]:
    """Read messages to inject, lazily: one JSON object a line, with `node` and optionally `key` and `body`.

    Raises
    ------
    RunError
        Naming the line that is no message.
    """
    for number, line in enumerate(lines, 1):
        if line.isspace():
            continue
        try:
            message = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise RunError(f"{origin}:{number}: not JSON: {error}") from None
        if not isinstance(message, dict) or not isinstance(message.get("node"), str):
            raise RunError(f'{origin}:{number}: a message names its node: {{"node": "order", "key": "", "body": 1}}')
        key = message.get("key", "")
        if not isinstance(key, str) or not message.keys() <= {"node", "key", "body"}:
            raise RunError(f"{origin}:{number}: a message has a node, a text key and a body, nothing else")
        yield message["node"], key, message.get("body")
