"""PCTL answers are Storm's, on the chain that `closed()` gives: random chains, random properties."""

from __future__ import annotations

import platform
import sys
from fractions import Fraction
from math import isinf
from pathlib import Path

import numpy as np
import pytest

from flowstat.estimate.chain import END, Chain
from flowstat.explain.check import check
from tests.test_storm import sparse_counts

if (sys.platform, platform.machine()) != ("linux", "x86_64"):
    pytest.skip("stormpy is installed on Linux with x86_64 only", allow_module_level=True)

import stormpy

CHAINS = 200
ASKED = 6
CLOSE = 1e-9
TOLD = Fraction(1, 10**9)


def model(sent, stops):
    """Return the closed chain for Storm, its labels as flowstat names them, and the events as rewards."""
    n = len(sent)
    lines = ["dtmc", "module chain", f"s : [0..{n}] init 0;"]
    for i in range(n):
        total = sent[i].sum() + stops[i]
        ways = [f"{count}/{total} : (s'={j})" for j, count in enumerate([*sent[i], stops[i]]) if count]
        lines.append(f"[] s={i} -> {' + '.join(ways)};")
    lines += [f"[] s={n} -> 1 : (s'={n});", "endmodule", f'label "end" = s={n};']
    lines += [f'label "node{k}" = s={k};' for k in range(n)]
    lines += ['rewards "events"', f"s!={n} : 1;", "endrewards"]
    return "\n".join(lines)


class Storm:
    """Storm's exact engine on one chain."""

    def __init__(self, text: str, place: Path) -> None:
        place.write_text(text)
        self.program = stormpy.parse_prism_program(str(place))
        self.model = stormpy.build_model[stormpy.Rational](self.program)

    def ask(self, question: str):
        [asked] = stormpy.parse_properties(question, self.program)
        found = stormpy.model_checking(self.model, asked, only_initial_states=False)
        first = self.model.initial_states[0]
        return found.get_truth_values_vector().get(first) if found.is_qualitative() else found.get_value(first)


class Drawn:
    """Random formulas, each in flowstat's words and in Storm's."""

    def __init__(self, rng: np.random.Generator, names: list[str]) -> None:
        self.rng, self.names = rng, names

    def pick(self, *of):
        return of[int(self.rng.integers(len(of)))]

    def states(self, depth: int) -> tuple[str, str]:
        kind = self.rng.integers(0, 9 if depth else 3)
        if kind < 2:
            name = self.pick(*self.names)
            return f'"{name}"', f'"{name}"'
        if kind == 2:
            some = self.rng.choice(self.names, int(self.rng.integers(1, 4)), replace=False)
            text = "(" + " | ".join(f'"{name}"' for name in some) + ")"
            return text, text
        a, b = self.states(depth - 1), self.states(depth - 1)
        if kind == 3:
            return f"!({a[0]})", f"!({a[1]})"
        if kind == 4:
            return f"({a[0]} & {b[0]})", f"({a[1]} & {b[1]})"
        if kind == 5:
            return f"({a[0]} => {b[0]})", f"(!({a[1]}) | {b[1]})"
        if kind == 6:
            # A bound that no answer is likely to lie on.
            bound = f"{self.pick('>=', '>', '<', '<=')}0.{self.rng.integers(100000, 999999)}7"
            path = self.path(depth - 1)
            return f"P{bound} [ {path[0]} ]", self.held(bound, path)
        if kind == 7:
            bound = self.pick(">=1", ">0", "<=0", "<1")
            path = self.path(depth - 1)
            return f"P{bound} [ {path[0]} ]", self.held(bound, path)
        bound = f"{self.pick('>', '<')}0.{self.rng.integers(100, 999)}37"
        return f"S{bound} [ {a[0]} ]", f"(LRA{bound} [ {a[1]} ])"

    @staticmethod
    def held(bound: str, path: tuple[str, str, bool]) -> str:
        """Return Storm's words for a bound: of a path that it has not, on the chance of its opposite."""
        if not path[2]:
            return f"(P{bound} [ {path[1]} ])"
        sign = bound.rstrip("0123456789.")
        other = {">=": "<=", ">": "<", "<=": ">=", "<": ">"}[sign]
        rest = 1 - Fraction(bound[len(sign) :])
        return f"(P{other}{float(rest):.12f} [ {path[1]} ])"

    def path(self, depth: int) -> tuple[str, str, bool]:
        """Return a path in both languages, and whether Storm's is the opposite."""
        a, b = self.states(depth), self.states(depth)
        k, low = int(self.rng.integers(0, 30)), int(self.rng.integers(0, 4))
        window = self.pick("", "", f"<={k}", f"<{k + 1}", f"[{low},{low + k}]", f"={k}")
        early = self.pick("", f"<={k}")
        match int(self.rng.integers(0, 6)):
            case 0:
                return f"X {b[0]}", f"X ({b[1]})", False
            case 1:
                return f"F{window} {b[0]}", f"F{window} ({b[1]})", False
            case 2:
                return f"G{window} {b[0]}", f"F{window} !({b[1]})", True
            case 3:
                return f"{a[0]} W{early} {b[0]}", f"!({b[1]}) U{early} (!({a[1]}) & !({b[1]}))", True
            case 4:
                return f"{a[0]} R{early} {b[0]}", f"!({a[1]}) U{early} !({b[1]})", True
            case _:
                # With a lower bound stormpy 2.0 says 1 of `false U[2,2] "a"` at a: those are held against brute force.
                return f"{a[0]} U{early} {b[0]}", f"({a[1]}) U{early} ({b[1]})", False


def exact(value) -> Fraction | float:
    text = str(value)
    return float("inf") if "inf" in text else Fraction(text)


@pytest.mark.parametrize("seed", range(CHAINS))
def test_properties_as_storm_has_them(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng([seed, 7])
    sent, stops = sparse_counts(rng)
    n = len(sent)
    names = [f"node{k}" for k in range(n)]
    total = sent.sum(axis=1) + stops
    chain = Chain.from_matrix(sent / total[:, None], names, names[0], stop=stops / total)
    assert chain.closed()[0] == (*names, END)
    storm = Storm(model(sent, stops), tmp_path / "chain.prism")
    drawn = Drawn(rng, [*names, "end"])
    for _ in range(ASKED):
        kind = rng.integers(0, 8)
        if kind < 4:
            ours, theirs, opposite = drawn.path(2)
            found = check(chain, f"P=? [ {ours} ]").checks[0]
            answer = exact(storm.ask(f"P=? [ {theirs} ]"))
            agree(found, 1 - answer if opposite else answer)
        elif kind == 4:
            ours, theirs = drawn.states(1)
            agree(check(chain, f"S=? [ {ours} ]").checks[0], exact(storm.ask(f"LRA=? [ {theirs} ]")))
        elif kind == 5:
            ours, theirs = drawn.states(1)
            ours, theirs = drawn.pick((ours, theirs), (f'{ours} | "end"', f'{theirs} | "end"'))
            agree(
                check(chain, f'R{{"events"}}=? [ F {ours} ]').checks[0],
                exact(storm.ask(f'R{{"events"}}=? [ F ({theirs}) ]')),
            )
        else:
            ours, theirs = drawn.states(3)
            assert check(chain, ours).holds is storm.ask(theirs), ours


def agree(found, answer) -> None:
    assert found.verdict == "answered"
    assert found.value is not None
    if isinf(found.value) or isinf(answer):
        assert found.value == answer
        return
    off = abs(Fraction(found.value) - answer)
    assert off <= Fraction(CLOSE) * max(answer, 1), found
    # The chain's shares are floats, and the bound is about them.
    assert off <= Fraction(found.error_bound) + Fraction(1e-12) * max(answer, 1), found
