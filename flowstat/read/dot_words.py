"""The words of DOT: a text cut into tokens, what each stands for, and how a text is written as one."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import NamedTuple

from flowstat.errors import Mistake
from flowstat.read.words import shown

__all__ = ["KEYWORDS", "DotMistake", "Token", "check_tokens", "dot_string", "place", "tokenize"]

KEYWORDS = ("strict", "graph", "digraph", "subgraph", "node", "edge")

EXCERPT = 100
"""How much of a long line an error shows."""

_token = re.compile(
    r"""(?P<skip> [\s\ufeff]+ | //[^\n]* | \#[^\n]* | /\*.*?\*/ )
      | (?P<text> "(?:[^"\\]|\\.)*" (?: \s*\+\s* "(?:[^"\\]|\\.)*" )* )
      | (?P<html> <(?:[^<>]|<[^<>]*>)*> )
      | (?P<sign> ->|--|[{}\[\];,=:] )
      | (?P<word> -?(?:[\w.]|[^\x00-\x7f\s])+ )""",
    re.VERBOSE | re.DOTALL,
)
_joint = re.compile(r'((?:[^"\\]|\\.)*)"\s*\+\s*"', re.DOTALL)
_escape = re.compile(r'\\(?:u([0-9a-fA-F]{4})|(\r?\n)|(["\\])|[nlr])')
_plain = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9]+(?:\.[0-9]+)?")
_unclosed = {'"': "this quote is not closed", "<": "this HTML text is not closed", "/": "this comment is not closed"}


class DotMistake(Exception):
    """A text can't be read as DOT, because of what stands at this position."""

    def __init__(self, position: int, message: str) -> None:
        self.position = position
        self.message = message


class Token(NamedTuple):
    """A word, keyword or sign; only a bare one can have a keyword's or a sign's text."""

    position: int
    kind: str
    text: str

    @property
    def value(self) -> str:
        """The text that the word stands for."""
        if self.kind == "text":
            return _escape.sub(_unescaped, _joint.sub(r"\1", self.text[1:-1]))
        if self.kind == "html":
            inside = self.text[1:-1]
            seen = html.unescape(re.sub(r"<[^>]*>", "", re.sub(r"<br\b[^>]*>", "\n", inside)))
            return seen if seen.strip() else inside
        return self.text

    def __str__(self) -> str:
        return f"'{shown(self.text, 20)}'"


def dot_string(text: str) -> str:
    """Return a text as a DOT id: bare where it is a plain word or numeral, else quoted."""
    if _plain.fullmatch(text) and text.lower() not in KEYWORDS:
        return text
    return '"' + "".join(map(_escaped, text)) + '"'


def tokenize(text: str) -> Iterator[Token]:
    """Yield the tokens of a text; keywords in lower case, comments left out.

    Raises
    ------
    DotMistake
        At the first place that is no token.
    """
    at = 0
    while at < len(text):
        found = _token.match(text, at)
        if found is None:
            raise DotMistake(at, _unclosed.get(text[at], f"unexpected character {text[at]!r}"))
        kind = str(found.lastgroup)
        if kind == "word" and found[0].lower() in KEYWORDS:
            yield Token(at, "keyword", found[0].lower())
        elif kind != "skip":
            yield Token(at, kind, found[0])
        at = found.end()


def check_tokens(tokens: list[Token]) -> None:
    """Raise what a person wants to know before any grammar: one directed graph, with its braces paired.

    Raises
    ------
    DotMistake
        If it is something else.
    """
    first = tokens[1] if tokens[0].text == "strict" and len(tokens) > 1 else tokens[0]
    if first.text == "graph":
        raise DotMistake(first.position, "an undirected graph: messages have a direction, write digraph and ->")
    if first.text != "digraph":
        raise DotMistake(first.position, f"expected 'digraph', found {first}")
    opened: list[int] = []
    closed = False
    texts = [token.text for token in tokens] + ["", ""]
    for number, token in enumerate(tokens):
        position, kind, text = token
        if closed:
            second = text in ("strict", "graph", "digraph")
            what = "a second graph begins here: one file holds one graph" if second else f"{token} after the graph"
            raise DotMistake(position, what)
        if text == "--":
            raise DotMistake(position, "'--' has no direction: write '->'")
        if text == "{":
            opened.append(position)
        elif text == "}":
            if not opened:
                raise DotMistake(position, "this brace closes nothing")
            opened.pop()
            closed = not opened
        elif text == "subgraph":
            if "{" not in texts[number + 1 : number + 3]:
                raise DotMistake(position, "a group needs its nodes in braces after 'subgraph'")
        elif kind == "keyword" and opened and (texts[number - 1] == "->" or texts[number + 1] != "["):
            raise DotMistake(position, f"'{text}' is a word of the DOT language: put a name in quotes")
    if not closed:
        raise DotMistake(opened[-1] if opened else tokens[-1].position, "no '}' follows that ends what begins here")


def place(text: str, mistake: DotMistake) -> Mistake:
    """Return a mistake with its line, its column, and the line with a caret."""
    start = text.rfind("\n", 0, mistake.position) + 1
    end = text.find("\n", mistake.position)
    line = text[start : len(text) if end < 0 else end]
    column = mistake.position - start
    cut = max(0, column - EXCERPT // 2)
    seen = "".join(c if c.isprintable() else " " for c in line[cut : cut + EXCERPT])
    excerpt = f"    {seen}\n    {' ' * (column - cut)}^"
    return Mistake(text.count("\n", 0, start) + 1, column + 1, mistake.message, excerpt)


def _escaped(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    if char == "\n":
        return r"\n"
    return char if char.isprintable() or ord(char) > 0xFFFF else f"\\u{ord(char):04x}"


def _unescaped(found: re.Match[str]) -> str:
    code, continued, itself = found.groups()
    if code:
        return chr(int(code, 16))
    return "" if continued else itself or "\n"
