"""Names on a broker: which exchanges and queues a graph has, by one rule that other programs can follow too.

For the node `n` of the graph `g`:

- `flowstat.g.n` is its queue: the messages that wait to be handled by it.
- `flowstat.g.n.in` is its entry, a topic exchange: what is published there comes to this node, and no other.
- `flowstat.g.n.out` is what it emits, a topic exchange: what is published there, with a key, goes along every arrow out
  of the node that takes the key, as if the node had emitted it.
- `flowstat.g.n.after.250` keeps messages for 250 milliseconds: a timer.
- `flowstat-dead.g` is an exchange, and the queue of the messages that were given up.

In names every character but letters and digits of ASCII, `-` and `_` stands as `@` and two hexadecimal digits for each
byte of its UTF-8, so that dots part nothing but the parts; of a long name the first part is followed by `@@` and
a hash. (`%`, as in URLs, is none of the characters that AMQP libraries take in a name.)
"""

from __future__ import annotations

from hashlib import blake2b
from urllib.parse import quote

__all__ = ["LONGEST_KEY", "Names", "file_name"]

LONGEST_KEY = 255
"""Bytes of a routing key: AMQP's limit."""

LONGEST = {"graph": 30, "node": 66}
"""Characters of an escaped name: an exchange's own has 127 at most."""

LONGEST_FILE = 140
"""Characters of an escaped name in that of a file."""


class Names:
    """The names of one graph on a broker.

    Examples
    --------
    >>> names = Names("orders")
    >>> names.queue("billing eu"), names.emitted("pay.v2")
    ('flowstat.orders.billing@20eu', 'flowstat.orders.pay@2Ev2.out')
    """

    def __init__(self, graph: str) -> None:
        self.graph = graph
        self._prefix = f"flowstat.{_escaped(graph, LONGEST['graph'])}"
        self.dead = f"flowstat-dead.{_escaped(graph, LONGEST['graph'])}"

    def queue(self, node: str) -> str:
        """Return the name of a node's queue."""
        return f"{self._prefix}.{_escaped(node, LONGEST['node'])}"

    def entry(self, node: str) -> str:
        """Return the name of the exchange by which messages from outside come to a node."""
        return f"{self.queue(node)}.in"

    def emitted(self, node: str) -> str:
        """Return the name of the exchange that a node's emits go to."""
        return f"{self.queue(node)}.out"

    def timer(self, node: str, wait: int) -> str:
        """Return the name of the queue in which a node's emits wait for so many milliseconds."""
        return f"{self.queue(node)}.after.{wait}"


def file_name(node: str) -> str:
    """Return a node's name as a part of a file's name."""
    return _escaped(node, LONGEST_FILE)


def _escaped(name: str, longest: int) -> str:
    text = quote(name, safe="").replace(".", "%2E").replace("~", "%7E").replace("%", "@")
    if len(text) <= longest:
        return text
    return f"{text[: longest - 20]}@@{blake2b(name.encode(), digest_size=8).hexdigest()}"
