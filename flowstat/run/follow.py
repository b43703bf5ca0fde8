"""Messages that go the way a plan says: each carries its walk, which nodes without a behaviour follow."""

from __future__ import annotations

from typing import Any

from flowstat.errors import RunError
from flowstat.run.behaviour import Context, Message

__all__ = ["follows", "forward", "walk_of"]

PARTS = frozenset(("walk", "keys", "parents", "at", "body"))
"""What the body of such a message has: no other body is one by chance."""


def walk_of(line: dict[str, Any], where: str) -> dict[str, Any]:
    """Return the body of a message that follows the walk of a plan's line.

    `walk` has the nodes of the events of a run, each after the one that sent to it, `keys` with which key each sends on
    (null: not at all), `parents` the position of the event that sent to each; without them each follows the one before.
    `at` is the position of the event that sent the message.

    Raises
    ------
    RunError
        If the line's walk is none.
    """
    walk, keys = line.get("walk"), line.get("keys")
    if not isinstance(walk, list) or not walk or walk[0] != line["node"] or not all(isinstance(n, str) for n in walk):
        raise RunError(f"{where}: a walk is a list of nodes, the first of which is that of the message")
    if not isinstance(keys, list) or len(keys) != len(walk) or not all(k is None or isinstance(k, str) for k in keys):
        raise RunError(f"{where}: a walk has keys, one for each of its {len(walk):,} nodes: a text, or null at an end")
    parents = line.get("parents", [None, *range(len(walk) - 1)])
    if (
        not isinstance(parents, list)
        or len(parents) != len(walk)
        or parents[0] is not None
        or not all(type(p) is int and 0 <= p < k for k, p in enumerate(parents[1:], 1))
    ):
        raise RunError(f"{where}: the parents of a walk are positions before their own in it, the first is null")
    return {"walk": walk, "keys": keys, "parents": parents, "at": None, "body": line.get("body")}


def follows(body: object) -> bool:
    """Return whether a message follows a walk."""
    return type(body) is dict and body.keys() == PARTS


def forward(state: object, message: Message, ctx: Context) -> None:
    """Send a message on as it is or, if it follows a walk, as that says; a copy that has no part in the walk ends."""
    body = message.body
    if not follows(body):
        ctx.emit(body, message.key)
        return
    at = _place(body["walk"], body["parents"], body["at"], message.node)
    if at is not None and body["keys"][at] is not None:
        ctx.emit({**body, "at": at}, body["keys"][at])


def _place(walk: list[str], parents: list[int | None], sender: int | None, node: str) -> int | None:
    """Return which event of a walk it is that a node handles; None if none."""
    first = 0 if sender is None else sender + 1
    return next((k for k in range(first, len(walk)) if parents[k] == sender and walk[k] == node), None)
