"""The DOT syntax: the grammar is pydot's, the words are read here, and what is written reads back exactly.

pydot's own reading of quotes, escapes, ports and some attribute names loses text. So it gets a plain
stand-in for every word (`i7` for token 7), and its parse tree is looked up in the tokens again; that also
gives every mistake its place.
"""

from __future__ import annotations

import re
import shlex
import warnings
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from pyparsing import ParseException

from flowstat.errors import GraphError
from flowstat.read.dot_words import DotMistake, Token, check_tokens, dot_string, place, tokenize
from flowstat.read.graph import Arrow, Component, Graph, Route
from flowstat.read.topics import ANY_KEY

with warnings.catch_warnings():
    # pydot builds its grammar with names that newer pyparsing warns about.
    warnings.simplefilter("ignore", DeprecationWarning)
    from pydot.dot_parser import GraphParser

__all__ = ["format_dot", "parse_dot", "percent"]

DEEPEST = 8
"""How deep groups with arrows at them may nest: pydot's time can double with each."""


def parse_dot(text: str, origin: str = "<text>") -> Graph:
    r"""Read a directed graph in DOT.

    An arrow's topic key is its attribute `key`, else its `label` on one line, else `#`; its share is its
    attribute `share`. A node with the attribute `command` (split as a shell does) is a component: an
    arrow to it says whose behaviour it is, arrows from it are its routes. An arrow from or to a group goes
    from or to each node in it. Ports, clusters, default attributes and all other attributes say nothing.

    In quotes, `\"`, `\\`, `\uXXXX` and `\n` (or `\l`, `\r`: line ends) are escapes; any other backslash is
    text. Of HTML text, what it shows counts.

    Parameters
    ----------
    text
        One `digraph`.
    origin
        What error messages call the text, such as a file's name.

    Raises
    ------
    GraphError
        If the text is empty or not DOT, the graph is not directed, a second graph follows, or a share is
        not a number in [0, 1]; with line and column.

    Examples
    --------
    >>> graph = parse_dot('digraph { a -> {b c} [label="ok"]; c -> a [share=0.25] }')
    >>> graph.nodes
    ('a', 'b', 'c')
    >>> [tuple(arrow) for arrow in graph.arrows]
    [('a', 'ok', 'b', None), ('a', 'ok', 'c', None), ('c', '#', 'a', 0.25)]
    """
    try:
        tokens = list(tokenize(text))
        if not tokens:
            raise GraphError("it is empty, or only comments: it holds no graph")
        check_tokens(tokens)
        reader = _Reader(tokens)
        reader.read(_tree(tokens))
        return reader.graph()
    except DotMistake as mistake:
        raise GraphError("", [place(text, mistake)], origin) from None
    except GraphError as error:
        raise GraphError(f"{origin}: {error}") from None


def _tree(tokens: Sequence[Token]) -> dict[str, Any]:
    """Return pydot's parse tree of the tokens, with `i<number>` for each word."""
    parts: list[str] = []
    numbers: list[int] = []
    starts: list[int] = []
    at = 0
    for number, text in enumerate(_flat(tokens)):
        # pydot knows no empty statement, which Graphviz's users write.
        if not text or (text == ";" and parts[-1] in (";", "{")):
            continue
        parts.append(text if tokens[number].kind in ("sign", "keyword") else f"i{number}")
        numbers.append(number)
        starts.append(at)
        at += len(parts[-1]) + 1
    try:
        found = GraphParser.parser.parse_string(" ".join(parts), parse_all=True)
    except ParseException as error:
        token = tokens[numbers[max(0, bisect_right(starts, error.loc) - 1)]]
        raise DotMistake(token.position, f"no statement can be read from {token} on") from None
    tree: dict[str, Any] = found[0].obj_dict
    return tree


def _flat(tokens: Sequence[Token]) -> list[str]:
    """Return the tokens' texts without the braces of groups (clusters) that no arrow ends at.

    What is in such a group means the same outside, and pydot's time would double with each level.
    """
    texts = [token.text for token in tokens]
    opened: list[int] = []
    heights = [0]
    for number, text in enumerate(texts):
        if text == "{":
            opened.append(number)
            heights.append(0)
        elif text == "}":
            brace = opened.pop()
            height = heights.pop()
            if not opened:
                break
            start = brace
            for back in (1, 2):
                if texts[brace - back] == "subgraph" and (back == 1 or tokens[brace - 1].kind != "sign"):
                    start = brace - back
            if "->" in (texts[start - 1], texts[number + 1]):
                height += 1
            else:
                texts[start : brace + 1] = [""] * (brace + 1 - start)
                texts[number] = ";"
            if height > DEEPEST:
                raise DotMistake(tokens[brace].position, f"groups nest more than {DEEPEST} deep here")
            heights[-1] = max(heights[-1], height)
    return texts


class _Reader:
    """Collects nodes, components and arrows from pydot's tree, in the order of the text."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self.tokens = tokens
        self.nodes: dict[str, None] = {}
        self.commands: dict[str, tuple[str, ...]] = {}
        self.arrows: list[tuple[Arrow, int]] = []

    def read(self, tree: Mapping[str, Any]) -> list[str]:
        """Read a graph or group, and return the nodes in it."""
        kinds = ("nodes", "edges", "subgraphs")
        items = [item for kind in kinds for alike in tree[kind].values() for item in alike]
        members: dict[str, None] = {}
        for item in sorted(items, key=lambda item: int(item["sequence"])):
            if item["type"] == "edge":
                members.update(dict.fromkeys(self.edge(item)))
            elif item["type"] == "node":
                # A stand-in starts with `i`; what doesn't are defaults: node, edge, graph.
                if item["name"].startswith("i"):
                    name = self.node(item["name"])
                    members[name] = None
                    command = self.attributes(item).get("command")
                    if command is not None:
                        self.commands[name] = self.command(command)
            else:
                members.update(dict.fromkeys(self.read(item)))
        return list(members)

    def edge(self, item: Mapping[str, Any]) -> list[str]:
        ends = [[self.node(end)] if isinstance(end, str) else self.read(end) for end in item["points"]]
        attributes = self.attributes(item)
        key = ANY_KEY
        if "key" in attributes:
            key = attributes["key"].value
        elif "label" in attributes:
            key = re.sub(r"\s*\n\s*", " ", attributes["label"].value).strip() or ANY_KEY
        share = self.share(attributes["share"]) if "share" in attributes else None
        near = next((end for end in item["points"] if isinstance(end, str)), None)
        position = self.tokens[0].position if near is None else self.token(near).position
        self.arrows += [(Arrow(source, key, target, share), position) for source in ends[0] for target in ends[1]]
        return ends[0] + ends[1]

    def graph(self) -> Graph:
        """Return what was read, with components apart from nodes."""
        arrows: list[Arrow] = []
        owners: dict[str, list[str]] = {}
        routes: dict[str, list[Route]] = {}
        for arrow, position in self.arrows:
            tied = [end in self.commands for end in (arrow.source, arrow.target)]
            if all(tied):
                raise DotMistake(position, "a component's messages go to a node, not to a component")
            if any(tied) and arrow.share is not None:
                raise DotMistake(position, "a share belongs to an arrow between two nodes, not to a component's")
            if tied[0]:
                routes.setdefault(arrow.source, []).append(Route(arrow.target, arrow.key))
            elif tied[1]:
                owners.setdefault(arrow.target, []).append(arrow.source)
            else:
                arrows.append(arrow)
        components = [
            Component(command, owner, tuple(routes.get(name, ())))
            for name, command in self.commands.items()
            for owner in owners.get(name, [None])
        ]
        return Graph.of(arrows, (node for node in self.nodes if node not in self.commands), components)

    def token(self, standin: str) -> Token:
        return self.tokens[int(standin.partition(":")[0][1:])]

    def node(self, standin: str) -> str:
        token = self.token(standin)
        if not token.value:
            raise DotMistake(token.position, "a node needs a name: the empty name is not allowed")
        self.nodes[token.value] = None
        return token.value

    def attributes(self, item: Mapping[str, Any]) -> dict[str, Token]:
        """Return the attributes with a value, by name."""
        given = item["attributes"].items()
        return {self.token(name).value: self.token(value) for name, value in given if value is not None}

    def share(self, token: Token) -> float:
        try:
            share = float(token.value)
        except ValueError:
            share = -1
        if not 0 <= share <= 1:
            raise DotMistake(token.position, f"a share is a number between 0 and 1, not {token}")
        return share

    def command(self, token: Token) -> tuple[str, ...]:
        try:
            return tuple(shlex.split(token.value))
        except ValueError as error:
            raise DotMistake(token.position, f"this is no command line: {error}") from None


def format_dot(graph: Graph) -> str:
    """Write a graph as DOT, so that `parse_dot` gives it back and Graphviz draws something to look at.

    An arrow that is more than its ends carries `key` and `share` exactly and, for people, both in its
    `label`. A component is a node with the attribute `command`, tied by dashed arrows.

    Examples
    --------
    >>> print(format_dot(Graph.of([Arrow("pay", "retry", "pay", 0.2)])), end="")
    digraph {
      rankdir=LR;
      node [shape=box];
      pay;
      pay -> pay [key=retry, share=0.2, label="retry  20%"];
    }
    """
    lines = ["rankdir=LR;", "node [shape=box];"]
    lines += [f"{dot_string(node)};" for node in graph.nodes]
    lines += [_arrow(a.source, a.target, **_exact(a.key, a.share)) for a in graph.arrows]
    taken = set(graph.nodes)
    for number, component in enumerate(graph.components, 1):
        name = f"component_{number}"
        while name in taken:
            name += "_"
        command = shlex.join(component.command)
        lines.append(f"{dot_string(name)}{_attributes({'command': command, 'label': command, 'style': 'dashed'})};")
        if component.node is not None:
            lines.append(_arrow(component.node, name, style="dashed"))
        lines += [_arrow(name, r.target, **_exact(r.key, None), style="dashed") for r in component.routes]
    return "digraph {\n" + "".join(f"  {line}\n" for line in lines) + "}\n"


def percent(share: float) -> str:
    """Return a share as a short text in percent.

    Examples
    --------
    >>> percent(0.5), percent(0.1234), percent(0.99999), percent(0.0001), percent(0.0)
    ('50%', '12.3%', '>99.9%', '<0.1%', '0%')
    """
    if 0 < share < 0.0005:
        return "<0.1%"
    # What is this near to 1 is 1, rounded.
    if 0.9995 <= share < 1 - 1e-9:
        return ">99.9%"
    return f"{100 * share:.1f}".removesuffix(".0") + "%"


def _exact(key: str, share: float | None) -> dict[str, str]:
    """Return an arrow's attributes, where they are not the defaults."""
    if share is not None:
        return {
            "key": key,
            "share": repr(share),
            "label": f"{key}  {percent(share)}" if key != ANY_KEY else percent(share),
        }
    return {} if key == ANY_KEY else {"key": key, "label": key}


def _arrow(source: str, target: str, **attributes: str) -> str:
    return f"{dot_string(source)} -> {dot_string(target)}{_attributes(attributes)};"


def _attributes(attributes: Mapping[str, str]) -> str:
    if not attributes:
        return ""
    return " [" + ", ".join(f"{name}={dot_string(value)}" for name, value in attributes.items()) + "]"
