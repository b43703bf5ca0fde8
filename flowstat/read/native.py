r"""The native graph syntax: a superset of graphie's, read fast and written canonically.

A statement is a chain of stages joined by `->` and ended by `;`. A stage is a list of nodes joined by
`,`, each with an optional `/key` and `@share`, or one component `[ program arguments ]`:

    order -> validate;  validate/ok.# -> reserve @0.9, audit;  [ sensor ] -> order;

Names and keys are bare words, or JSON strings in double quotes. `//` starts a comment where a word could
start, `#` where it is first on its line. Opening a component with several brackets (`[[ a ] b ]]`) asks
for as many to close it.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from flowstat.errors import SHOWN_AT_ONCE, GraphError
from flowstat.read.graph import SHARE_SLACK, Arrow, Component, Graph, Route
from flowstat.read.placing import placed
from flowstat.read.topics import ANY_KEY
from flowstat.read.words import ARGUMENT, is_storable, quote, quote_argument, quote_key, shown

__all__ = ["format_native", "parse_native"]

_NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_SHARE = rf"@{_NUMBER}(?=[\s;,\[\]]|->|//|\Z)"
_WORD_CHAR = rf'(?:[^\s;,"\[\]@/-]++|-(?!>)|(?!{_SHARE})@)'
_skip = re.compile(r"(?:[^\S\n]+|\n[^\S\n]*#[^\n]*|\n|//[^\n]*)*")
_first_comment = re.compile(r"[^\S\n]*#[^\n]*")
_name = re.compile(rf"{_WORD_CHAR}+")
_key = re.compile(rf"(?:{_WORD_CHAR}|/(?!/))+")
_string = re.compile(r'"(?:[^"\\\n]++|\\.)*+"')
_share = re.compile(_SHARE)
# The end of a statement with a mistake in it; a quote that is not closed ends it with its line.
_to_end = re.compile(r'(?:[^;"]++|"(?:[^"\\\n]++|\\.)*+")*+(?:;|"[^\n]*)?')
_found = re.compile(r"\S{1,20}")
# Most statements of a large file are one arrow between plain words: one match reads such a statement.
# Whatever else there is, a comment or a mistake, stops the match and goes to the parser below.
_arrow = re.compile(rf"\s*(\w[\w.-]*)(?:/([\w.#*-]+))?\s*->\s*(\w[\w.-]*)(?:\s+@({_NUMBER}))?\s*;")


def parse_native(text: str, origin: str = "<text>") -> Graph:
    """Read a graph in the native syntax; see `flowstat.parse_graph`."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise GraphError("", placed(text, [(error.start, "half a surrogate pair is no text")]), origin) from None
    parser = _Parser(text)
    parser.run()
    if parser.mistakes:
        raise GraphError("", placed(text, parser.mistakes), origin)
    arrows = tuple([Arrow(*triple, share) for triple, share in parser.arrows.items()])
    return Graph(tuple(parser.nodes), arrows, tuple(parser.components))


class _Mistake(Exception):
    """A statement can't be read on from here."""

    def __init__(self, position: int, message: str, resume: int | None = None) -> None:
        self.position = position
        self.message = message
        self.resume = position if resume is None else resume


class _Node(NamedTuple):
    position: int
    name: str
    key: str | None
    share: float | None
    slashed: str
    """Name and key as written, for the places where a slash belongs to the name."""


class _Command(NamedTuple):
    position: int
    command: tuple[str, ...]


class _Parser:
    """One pass over a text; collects nodes, arrows and components, or every mistake."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.nodes: dict[str, None] = {}
        self.arrows: dict[tuple[str, str, str], float | None] = {}
        self.components: dict[Component, None] = {}
        self.totals: dict[str, float] = {}
        self.mistakes: list[tuple[int, str]] = []
        self.end = len(text)
        self.unclosed = 0

    def run(self) -> None:
        text, nodes, arrows = self.text, self.nodes, self.arrows
        first = _first_comment.match(text)
        at = first.end() if first else 0
        match = _arrow.match
        while at < self.end:
            found = match(text, at)
            if found is not None:
                source, key, target, share = found.groups()
                nodes[source] = nodes[target] = None
                if share is None:
                    arrows.setdefault((source, key or ANY_KEY, target), None)
                else:
                    self.declare(source, key or ANY_KEY, target, float(share), found.start(3))
                at = found.end()
                continue
            try:
                at = self.statement(at)
            except _Mistake as mistake:
                self.mistakes.append((mistake.position, mistake.message))
                # What follows the next `;` is read too, so that all mistakes come at once.
                at = _match_end(_to_end, text, max(at, mistake.resume))

    def declare(self, source: str, key: str, target: str, share: float | None, position: int) -> None:
        """Add an arrow, or give a known one its share."""
        known = self.arrows.setdefault((source, key, target), None)
        if share is None or share == known:
            return
        if known is not None:
            self.mistakes.append((position, f"this arrow already has the share {known}"))
        elif not 0 <= share <= 1:
            self.mistakes.append((position, f"a share is between 0 and 1, not {share:g}"))
        else:
            self.arrows[source, key, target] = share
            total = self.totals[source] = self.totals.get(source, 0.0) + share
            if total > 1 + SHARE_SLACK:
                what = f"the shares of the arrows out of {shown(source)} add up to {total:g}, more than 1"
                self.mistakes.append((position, what))

    def statement(self, at: int) -> int:
        """Read one statement from `at`, and return where the next one starts."""
        text = self.text
        at = self.skip(at)
        if at >= len(text):
            return at
        if text[at] == ";":
            return at + 1
        stages: list[list[_Node] | _Command] = []
        while True:
            stage, at = self.stage(at)
            stages.append(stage)
            at = self.skip(at)
            if not text.startswith("->", at):
                break
            at = self.skip(at + 2)
        if at < len(text) and text[at] != ";":
            # A component that ends a chain also ends its statement, as it does for graphie.
            if not (isinstance(stages[-1], _Command) and len(stages) > 1) or text[at] in ",]@/":
                raise _Mistake(at, f"expected '->', ',' or ';' here, found {self.found(at)}")
        else:
            at += 1
        self.build(stages)
        return at

    def stage(self, at: int) -> tuple[list[_Node] | _Command, int]:
        text = self.text
        if text.startswith("[", at):
            command, at = self.command(at)
            if text.startswith(",", self.skip(at)):
                raise _Mistake(self.skip(at), "a component stands alone between arrows, not in a list")
            return command, at
        nodes = []
        while True:
            node, at = self.node(at)
            nodes.append(node)
            after = self.skip(at)
            if not text.startswith(",", after):
                return nodes, at
            at = self.skip(after + 1)
            if text.startswith("[", at):
                raise _Mistake(at, "a component stands alone between arrows, not in a list")

    def node(self, at: int) -> tuple[_Node, int]:
        text = self.text
        start = at
        if text.startswith("/", at):
            # As for graphie, a slash with nothing before it adds nothing.
            at += 1
        name, at = self.word(at, _name, "a node's name")
        if not name:
            raise _Mistake(start, "a node needs a name: the empty name is not allowed")
        key = None
        slashed = name
        after = self.skip(at)
        if text.startswith("/", after) and not text.startswith("//", after):
            key_at = self.skip(after + 1)
            key, at = self.word(key_at, _key, 'a topic key (write /"" for the empty key)')
            slashed = f"{name}/{key}"
        share = None
        after = self.skip(at)
        if found := _share.match(text, after):
            share = float(found[0][1:])
            at = found.end()
        elif text.startswith("@", after):
            raise _Mistake(after, f"a share is a number such as @0.25, not {self.found(after)}")
        return _Node(start, name, key, share, slashed), at

    def word(self, at: int, bare: re.Pattern[str], what: str) -> tuple[str, int]:
        text = self.text
        if text.startswith('"', at):
            return self.string(at)
        found = bare.match(text, at)
        if found is None:
            raise _Mistake(at, f"expected {what} here, found {self.found(at)}")
        end = found.end()
        if text.startswith("//", end):
            raise _Mistake(end, "put a space before a comment, or quote the name that has '//' in it")
        if text.startswith('"', end):
            raise _Mistake(end, "a quote inside a word: quote the whole word")
        return found[0], end

    def string(self, at: int) -> tuple[str, int]:
        found = _string.match(self.text, at)
        if found is None:
            raise _Mistake(at, "this quote is not closed on its line")
        try:
            value = json.loads(found[0], strict=False)
        except json.JSONDecodeError as error:
            raise _Mistake(at + error.pos, "a wrong escape: quoted text is a JSON string", at) from None
        if not is_storable(value):
            raise _Mistake(at, "half a surrogate pair is no text: no file can hold it")
        return str(value), found.end()

    def command(self, at: int) -> tuple[_Command, int]:
        text = self.text
        start = at
        while text.startswith("[", at):
            at += 1
        close = "]" * (at - start)
        arguments: list[str] = []
        word: str | None = None
        depth = 0
        while at < len(text):
            char = text[at]
            if char == '"':
                value, at = self.string(at)
                word = (word or "") + value
            elif depth == 0 and text.startswith(close, at):
                return _Command(start, tuple(arguments + ([] if word is None else [word]))), at + len(close)
            elif char.isspace():
                if word is not None:
                    arguments.append(word)
                    word = None
                at += 1
            elif char in "[]":
                depth += 1 if char == "[" else -1
                word = (word or "") + char
                depth = max(depth, 0)
                at += 1
            else:
                end = _match_end(ARGUMENT, text, at)
                word = (word or "") + text[at:end]
                at = end
        self.unclosed += 1
        if self.unclosed > SHOWN_AT_ONCE:
            # Each such mistake has read to the end of the text: more of them are not worth that.
            self.end = start
        raise _Mistake(start, f"this component is not closed: {close!r} is missing")

    def build(self, stages: list[list[_Node] | _Command]) -> None:
        """Turn the stages of one statement into nodes, arrows and components."""
        for before, stage in zip([None, *stages], stages, strict=False):
            if isinstance(stage, _Command):
                if before is None and len(stages) == 1:
                    raise _Mistake(stage.position, "a component alone does nothing: write [ ... ] -> node")
                if isinstance(before, _Command):
                    raise _Mistake(stage.position, "a component's messages go to a node, not to a component")
            elif before is None or isinstance(before, _Command):
                for node in stage:
                    if node.share is not None and (before is None or before is stages[0]):
                        raise _Mistake(node.position, "a share belongs to an arrow between two nodes")
        last = len(stages) - 1
        for k, stage in enumerate(stages):
            after = stages[k + 1] if k < last else None
            if isinstance(stage, _Command):
                before = stages[k - 1] if k else None
                self.component(stage, before, after)
                continue
            fed = k > 0 and isinstance(stages[k - 1], _Command)
            # A slash makes a key where messages leave the node; elsewhere it is part of the name.
            sends = isinstance(after, list) or fed or last == 0
            for node in stage:
                self.nodes[node.name if sends else node.slashed] = None
            if isinstance(after, list):
                ends = isinstance(stages[k + 2], list) if k + 2 <= last else False
                for source in stage:
                    for target in after:
                        name = target.name if ends else target.slashed
                        self.nodes[name] = None
                        self.declare(source.name, self.default(source), name, target.share, target.position)

    @staticmethod
    def default(node: _Node) -> str:
        return ANY_KEY if node.key is None else node.key

    def component(
        self, stage: _Command, before: list[_Node] | _Command | None, after: list[_Node] | _Command | None
    ) -> None:
        targets = after if isinstance(after, list) else []
        routes = tuple(Route(node.name, self.default(node)) for node in targets)
        self.nodes.update(dict.fromkeys(node.name for node in targets))
        if not isinstance(before, list):
            self.components[Component(stage.command, None, routes)] = None
            return
        for owner in before:
            self.components[Component(stage.command, owner.slashed, routes)] = None
            for node in targets:
                self.declare(owner.slashed, self.default(node), node.name, node.share, node.position)

    def skip(self, at: int) -> int:
        """Return the next position that is neither white space nor comment."""
        return _match_end(_skip, self.text, at)

    def found(self, at: int) -> str:
        found = _found.match(self.text, self.skip(at))
        return f"'{found[0]}'" if found else "the end of the file"


def _match_end(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found else at


def format_native(graph: Graph) -> str:
    """Write a graph in the canonical native syntax: one arrow a line; see `flowstat.format_graph`."""
    lines: list[str] = []
    place = {node: k for k, node in enumerate(graph.nodes)}
    written = 0

    def introduce(*names: str) -> None:
        """Declare nodes first where these names alone would not bring back the order of the nodes."""
        nonlocal written
        new = tuple(name for name in dict.fromkeys(names) if place[name] >= written)
        end = max((place[name] + 1 for name in new), default=written)
        if new != graph.nodes[written:end]:
            lines.extend(f"{quote(node)};" for node in graph.nodes[written:end])
        written = end

    def route(name: str, key: str) -> str:
        return quote(name) + ("" if key == ANY_KEY else "/" + quote_key(key))

    for source, key, target, share in graph.arrows:
        introduce(source, target)
        tail = "" if share is None else f" @{share!r}"
        lines.append(f"{route(source, key)} -> {quote(target)}{tail};")
    for component in graph.components:
        introduce(*([] if component.node is None else [component.node]), *(r.target for r in component.routes))
        command = "[ " + " ".join(quote_argument(a) for a in component.command) + " ]"
        parts = [command]
        if component.node is not None:
            parts.insert(0, quote(component.node))
        if component.routes:
            parts.append(", ".join(route(r.target, r.key) for r in component.routes))
        lines.append(" -> ".join(parts) + ";")
    lines.extend(f"{quote(node)};" for node in graph.nodes[written:])
    return "".join(line + "\n" for line in lines)
