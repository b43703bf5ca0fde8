"""Reads a property: recursive descent, from what binds least to what binds most."""

from __future__ import annotations

from math import inf
from typing import Literal

from flowstat.explain.property import (
    Bound,
    Chance,
    Constant,
    Every,
    Formula,
    Label,
    LongRun,
    Not,
    Operator,
    Path,
    Property,
    Reward,
    Same,
    Some,
    Window,
    operators,
)
from flowstat.explain.property_tokens import END_OF_TEXT, NAMED, Tokens, Unreadable
from flowstat.read.words import shown

__all__ = ["Parser"]

DEEPEST = 50
"""How deep brackets and operators may be nested."""

MOST_STEPS = 10**15
"""The largest number of steps of a window."""


class Parser(Tokens):
    """Reads one property from a stretch of a text."""

    depth = 0

    def read(self, name: str, origin: str) -> Property | None:
        """Return the property; None where there is but space and comments."""
        first = self.skip(self.first)
        if named := NAMED.match(self.text, first, self.end):
            name = self.unquoted(first, f'"{named[1]}"') if named[1] is not None else named[2]
            first = self.skip(named.end())
            if first == self.end:
                raise Unreadable(first, "a name without a property")
        if first == self.end:
            return None
        self.split(first)
        formula = self.formula()
        last = self.tokens[self.at - 1]
        self.take(";")
        self.expect(END_OF_TEXT, "the end of the property")
        for operator, depth in operators(formula):
            if operator.bound.than is None and (depth or operator is not formula):
                raise Unreadable(
                    first, "=? asks for a number, and stands alone: within a formula hold it against a bound (>=0.9)"
                )
        written = self.text[first : last.position + len(last.text)]
        return Property(formula, written if "\n" not in written else " ".join(written.split()), name, origin, self.text)

    def formula(self) -> Formula:
        """Read a formula of states: what binds least comes first."""
        self.depth += 1
        if self.depth > DEEPEST:
            raise Unreadable(self.now.position, f"more than {DEEPEST} brackets and operators within one another")
        made = self.implied()
        while self.take("<=>"):
            made = Same(made, self.implied())
        self.depth -= 1
        return made

    def implied(self) -> Formula:
        """Read what `=>` joins."""
        parts = [self.joined()]
        while self.take("=>"):
            parts.append(self.joined())
        made = parts.pop()
        # From the right: a => b => c is a => (b => c).
        return Some((*(Not(part) for part in parts), made)) if parts else made

    def joined(self) -> Formula:
        """Read what `|` joins."""
        parts = [self.both()]
        while self.take("|"):
            parts.append(self.both())
        return parts[0] if len(parts) == 1 else Some(tuple(parts))

    def both(self) -> Formula:
        """Read what `&` joins."""
        parts = [self.negated()]
        while self.take("&"):
            parts.append(self.negated())
        return parts[0] if len(parts) == 1 else Every(tuple(parts))

    def negated(self) -> Formula:
        """Read what `!` may stand before."""
        odd = False
        while self.take("!"):
            odd = not odd
        made = self.atom()
        return Not(made) if odd else made

    def atom(self) -> Formula:
        """Read a name, a constant, an operator, or what is in brackets."""
        token = self.now
        if token.kind == "string":
            self.at += 1
            return Label(self.unquoted(token.position, token.text), token.position)
        if self.take("("):
            made = self.formula()
            self.expect(")", "')'")
            return made
        if word := self.take("true", "false"):
            return Constant(word == "true")
        if word := self.take("P", "R", "S"):
            return self.operator(word)
        if token.kind == "word":
            raise Unreadable(token.position, self.advice(token.text))
        raise Unreadable(
            token.position,
            f"expected a node in quotes, 'true', 'false', '!', '(', P, R or S, found {self.shown(token)}",
        )

    @staticmethod
    def advice(word: str) -> str:
        """Say what to write in place of a word that does not belong here."""
        if word in ("F", "G", "X", "U", "W"):
            return (
                f"{word} is about a run, and stands first within P: write P>=0.9 [ {word} ... ], or P>=1 [ {word} ... ]"
            )
        if word in ("Pmin", "Pmax", "Rmin", "Rmax", "A", "E", "LRA"):
            better = {"A": "P>=1", "E": "P>0", "LRA": "S"}.get(word, word[0])
            return f"{word} is not known: a chain makes no choices, write {better}"
        return f'a node is written in quotes: "{shown(word)}"'

    def operator(self, word: str) -> Operator:
        """Read P, R or S, the word itself being read already."""
        self.depth += 1
        if word == "R":
            of = self.rewarded()
            bound = self.bound(most=None)
            self.expect("[", "'['")
            if self.now.text in ("C", "I", "S") and self.now.kind == "word":
                raise Unreadable(
                    self.now.position, 'rewards are added up until a run comes to a goal: write R=? [ F "end" ]'
                )
            self.expect("F", "'F', since rewards are added up until a run comes to a goal,")
            made: Operator = Reward(bound, of, self.formula())
        else:
            bound = self.bound(most=1)
            self.expect("[", "'['")
            made = Chance(bound, self.path()) if word == "P" else LongRun(bound, self.formula())
        self.expect("]", "']'")
        self.depth -= 1
        return made

    def rewarded(self) -> Literal["events", "time"]:
        """Read what R adds up."""
        if not self.take("{"):
            return "events"
        token = self.expect("string", 'what is added up, "events" or "time",')
        what = self.unquoted(token.position, token.text)
        self.expect("}", "'}'")
        if what in ("events", "steps"):
            return "events"
        if what == "time":
            return "time"
        raise Unreadable(token.position, f'what can be added up is "events" or "time", not {token.text}')

    def bound(self, most: int | None) -> Bound:
        """Read a bound, or `=?`; chances have at most `most`."""
        if self.take("=?"):
            return Bound()
        token = self.now
        compare = self.take(">=", ">", "<=", "<")
        if not compare:
            raise Unreadable(token.position, f"expected =? or a bound such as >=0.9 here, found {self.shown(token)}")
        than, position = self.fraction()
        if most is not None and than > most:
            raise Unreadable(position, f"a chance is between 0 and {most}")
        return Bound(compare, than)  # type: ignore[arg-type]

    def path(self) -> Path:
        """Read what P asks of runs."""
        token = self.now
        if kind := self.take("X", "F", "G"):
            window = Window(1, 1) if kind == "X" else self.window()
            if kind == "X" and self.now.text in ("<=", "<", ">=", ">", "[", "{", "="):
                raise Unreadable(self.now.position, "X is about the next step, and has no window")
            self.no_path()
            return Path(kind, Constant(True), self.formula(), window, token.position)  # type: ignore[arg-type]
        a = self.formula()
        token = self.now
        kind = self.take("U", "W", "R")
        if not kind:
            raise Unreadable(
                token.position,
                f"P asks what a run does: expected U here, or X, F or G before it, found {self.shown(token)}",
            )
        window = self.window()
        if kind != "U" and window.low:
            raise Unreadable(token.position, f"{kind} has windows from now on only, as {kind}<=20")
        self.no_path()
        return Path(kind, a, self.formula(), window, token.position)  # type: ignore[arg-type]

    def no_path(self) -> None:
        """Refuse a path operator right within another, which PCTL does not have."""
        if self.now.kind == "word" and self.now.text in ("X", "F", "G"):
            what = self.now.text
            raise Unreadable(
                self.now.position,
                f"one path within another is not PCTL: write P>=1 [ {what} ... ] or P>=0.9 [ {what} ... ]",
            )

    def window(self) -> Window:
        """Read a window of steps or seconds, if there is one."""
        if self.take("{"):
            token = self.expect("string", '"time" or "steps"')
            what = self.unquoted(token.position, token.text)
            self.expect("}", "'}'")
            if what == "time":
                return self.seconds()
            if what != "steps":
                raise Unreadable(token.position, f'a window is of "time" or "steps", not {token.text}')
        if self.take("["):
            if self.take("t"):
                made = self.seconds()
            else:
                low = self.steps()
                self.expect(",", "','")
                position = self.now.position
                made = Window(low, self.steps())
                if made.high is not None and made.high < low:
                    raise Unreadable(position, f"a window that ends at {made.high} before it begins at {low}")
            self.expect("]", "']'")
            return made
        position = self.now.position
        match self.take("<=", "<", ">=", ">", "="):
            case "<=":
                return Window(0, self.steps())
            case "<":
                most = self.steps()
                if not most:
                    raise Unreadable(position, "no number of steps is below 0")
                return Window(0, most - 1)
            case ">=":
                return Window(self.steps())
            case ">":
                return Window(self.steps() + 1)
            case "=":
                exactly = self.steps()
                return Window(exactly, exactly)
        return Window()

    def steps(self) -> int:
        """Read a number of steps."""
        token = self.expect("number", "a number of steps")
        value = self.exact(token)
        if value.denominator != 1:
            raise Unreadable(
                token.position,
                f'steps are whole numbers, not {token.text}: a time in seconds is F{{"time"}}<={token.text}',
            )
        if value > MOST_STEPS:
            raise Unreadable(token.position, f"more than {MOST_STEPS:,} steps: leave the window out")
        return int(value)

    def seconds(self) -> Window:
        """Read the bound of a time."""
        token = self.now
        if not self.take("<="):
            raise Unreadable(token.position, f'times are bounded by <=, as F{{"time"}}<=2.5, found {self.shown(token)}')
        value, position = self.fraction()
        if not 0 < value < inf:
            raise Unreadable(position, "a time is above 0, in seconds")
        return Window(seconds=float(value))
