"""The words, signs and numbers of a property's text, each with where it is."""

from __future__ import annotations

import json
import re
from fractions import Fraction
from typing import Any, NamedTuple

from flowstat.read.words import shown

__all__ = ["END_OF_TEXT", "NAMED", "Tokens", "Unreadable"]

END_OF_TEXT = "the end"

LONGEST = 400
"""How many characters a number may have."""

LEAST, MOST = 1e-300, 1e300
"""Between which a number lies that is not 0."""

_token = re.compile(
    r"""(?P<string>"(?:[^"\\\n]|\\.)*")|(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<word>[^\W\d]\w*)
    |(?P<sign><=>|=>|<=|>=|=\?|[][=<>!&|(){},/;])""",
    re.VERBOSE,
)
_space = re.compile(r"(?:\s|(?://|\#)[^\n]*)*+")
NAMED = re.compile(r'(?:"((?:[^"\\\n]|\\.)*)"|(\w[\w.-]*))[^\S\n]*:')
"""A name before a property."""

_found = re.compile(r"\S{1,20}")


class _Token(NamedTuple):
    kind: str
    text: str
    position: int


class Unreadable(Exception):
    """A text can't be read on from a place of it."""

    def __init__(self, position: int, message: str) -> None:
        self.position, self.message = position, message


class Tokens:
    """Reads a stretch of a text token by token."""

    def __init__(self, text: str, first: int, end: int) -> None:
        self.text, self.first, self.end = text, first, end
        self.tokens: list[_Token] = []
        self.at = 0

    def skip(self, at: int) -> int:
        """Return the next place that is neither space nor comment."""
        found = _space.match(self.text, at, self.end)
        return found.end() if found else at

    def split(self, at: int) -> None:
        """Take the text apart into words and signs."""
        while (at := self.skip(at)) < self.end:
            found = _token.match(self.text, at, self.end)
            if found is None:
                if self.text[at] == '"':
                    raise Unreadable(at, "this quote is not closed on its line")
                raise Unreadable(at, f"{_found.match(self.text, at)[0]!r} is nothing that a property has")  # type: ignore[index]
            self.tokens.append(_Token(str(found.lastgroup), found[0], at))
            at = found.end()
        self.tokens.append(_Token(END_OF_TEXT, "", self.end))

    @property
    def now(self) -> _Token:
        """The next token."""
        return self.tokens[self.at]

    def take(self, *texts: str) -> str:
        """Take the next sign or word if it is one of some; else return nothing."""
        if self.now.kind in ("sign", "word") and self.now.text in texts:
            self.at += 1
            return self.tokens[self.at - 1].text
        return ""

    def expect(self, text: str, what: str) -> _Token:
        """Take the next token, which has to be this one, or of this kind."""
        token = self.now
        if token.text != text and token.kind != text:
            raise Unreadable(token.position, f"expected {what} here, found {self.shown(token)}")
        self.at += 1
        return token

    @staticmethod
    def shown(token: _Token) -> str:
        """Return a token for a message."""
        return "the end" if token.kind == END_OF_TEXT else f"'{shown(token.text)}'"

    def unquoted(self, position: int, written: str) -> str:
        """Return what a quoted text stands for."""
        try:
            value: Any = json.loads(written, strict=False)
        except json.JSONDecodeError:
            raise Unreadable(position, "a wrong escape: quoted text is a JSON string") from None
        return str(value)

    def fraction(self) -> tuple[Fraction, int]:
        """Read a number, or one over another; return it and its place."""
        token = self.expect("number", "a number")
        value = self.exact(token)
        if self.take("/"):
            below = self.exact(self.expect("number", "a number"))
            if not below:
                raise Unreadable(token.position, "a fraction with nothing below its line")
            value /= below
        return value, token.position

    def exact(self, token: _Token) -> Fraction:
        """Return a number as it is written."""
        value = float(token.text)
        # As an exact fraction 1e999999999 would fill the memory.
        if not (value == 0 or LEAST <= value <= MOST) or len(token.text) > LONGEST:
            raise Unreadable(token.position, f"a number is 0, or from {LEAST:g} to {MOST:g}, in {LONGEST} characters")
        return Fraction(token.text) if value else Fraction(0)
