"""When a comparison fails a build: rules such as `any`, `outcome:0.02` or `loop`."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Literal, get_args

from flowstat.errors import AnalysisError
from flowstat.read.words import shown

__all__ = ["FailKind", "Rule", "read_rule"]

FailKind = Literal["any", "node", "share", "outcome", "events", "loop", "flow", "arrow", "new"]


@dataclass(frozen=True)
class Rule:
    """What fails: changes of a kind that were found, of at least an amount."""

    kind: FailKind
    amount: float = 0.0


def read_rule(text: str) -> Rule:
    """Read a rule that is written `KIND` or `KIND:AMOUNT`; the amount is a number, or percent.

    Raises
    ------
    AnalysisError
        If it is none.

    Examples
    --------
    >>> read_rule("outcome:2%")
    Rule(kind='outcome', amount=0.02)
    """
    kind, colon, amount = text.strip().partition(":")
    for known in get_args(FailKind):
        if kind.strip() != known:
            continue
        if not colon:
            return Rule(known)
        if known == "any":
            raise AnalysisError("'any' fails at whatever is found, and takes no amount: name a kind, 'outcome:0.02'")
        number = amount.strip()
        try:
            value = float(number.removesuffix("%")) / (100 if number.endswith("%") else 1)
        except ValueError:
            value = -1.0
        if not (isfinite(value) and value >= 0):
            raise AnalysisError(f"{shown(amount)!r} is no amount: write a number of at least 0, such as {known}:0.02")
        return Rule(known, value)
    raise AnalysisError(f"{shown(text)!r} is nothing to fail on: name {', '.join(get_args(FailKind))}, or KIND:AMOUNT")
