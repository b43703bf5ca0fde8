"""How drawings and plots look: colours that colour-blind readers tell apart, and names that fit."""

from __future__ import annotations

from flowstat.read.words import visible
from flowstat.results import number

__all__ = ["GREY", "HUES", "INK", "PALE", "brief", "hue", "shortened", "tint"]

INK, GREY, PALE = "#263238", "#78858c", "#d5dade"
HUES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9")
"""One for each loop, class or outcome, told apart by colour-blind readers too (after Okabe and Ito)."""


def hue(number: int) -> str:
    """Return the colour of the so many-th thing; after six they come again.

    Examples
    --------
    >>> hue(0) == hue(6)
    True
    """
    return HUES[number % len(HUES)]


def tint(colour: str, strength: float) -> str:
    """Return a colour on white paper: 1 leaves it as it is, 0 is white.

    Examples
    --------
    >>> tint("#0072b2", 1), tint("#0072b2", 0)
    ('#0072b2', '#ffffff')
    """
    parts = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
    return "#" + "".join(f"{round(255 - strength * (255 - part)):02x}" for part in parts)


def brief(value: float, digits: int = 3) -> str:
    """Return a number with a few digits.

    Examples
    --------
    >>> brief(0.123456), brief(1234567.0), brief(2e9, 2)
    ('0.123', '1230000', '2e+09')
    """
    return number(float(f"{value:.{digits}g}")) if 1e-4 <= abs(value) < 1e7 or value == 0 else f"{value:.{digits}g}"


def shortened(text: str, most: int) -> str:
    """Return a text on one line of at most so many characters, its beginning and its end.

    Examples
    --------
    >>> shortened("a long name of a node", 12)
    'a long n…ode'
    """
    text = visible(text[: 2 * most]) + ("" if len(text) <= 2 * most else visible(text[-most:]))
    return text if len(text) <= most else f"{text[: most * 2 // 3]}…{text[-(most // 4) :]}"
