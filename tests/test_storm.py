"""The same answers as Storm's exact engine, which calculates in fractions."""

from __future__ import annotations

import platform
import sys
from fractions import Fraction
from math import inf, isinf
from pathlib import Path

import numpy as np
import pytest

from flowstat.analyze.absorption import absorption
from flowstat.analyze.before import before
from flowstat.analyze.hitting import hitting
from flowstat.analyze.stationary import stationary
from flowstat.analyze.steps import within
from flowstat.estimate.chain import Chain

if (sys.platform, platform.machine()) != ("linux", "x86_64"):
    pytest.skip("stormpy is installed on Linux with x86_64 only", allow_module_level=True)

import stormpy

CHAINS = 100
CLOSE = 1e-12
LIMIT = 10


def sparse_counts(rng):
    """Return how often each node sent to each other, and how often it ended: a few numbers a node."""
    n = int(rng.integers(3, 41))
    sent = np.zeros((n, n), np.int64)
    stops = np.zeros(n, np.int64)
    for i in range(n):
        near = rng.integers(0, n, int(rng.integers(0, 5)))
        sent[i, near] += rng.integers(1, 1000, len(near))
        if not sent[i].any() or rng.random() < 0.2:
            stops[i] = int(rng.integers(1, 300))
    if rng.random() < 0.5:
        k = int(rng.integers(0, n - 1))
        sent[k:, :k], stops[k:] = 0, 0  # the last nodes are left by nothing
        sent[k:, n - 1] += 1
        sent[n - 1, k] += 5
    return sent, stops


def program(sent, stops, goal, other):
    """Write a chain for Storm: its shares are fractions of counts, and the end is one state more."""
    n = len(sent)
    lines = ["dtmc", "module chain", f"s : [0..{n}] init 0;"]
    for i in range(n):
        total = sent[i].sum() + stops[i]
        ways = [f"{count}/{total} : (s'={j})" for j, count in enumerate([*sent[i], stops[i]]) if count]
        lines.append(f"[] s={i} -> {' + '.join(ways)};")
    lines += [f"[] s={n} -> 1 : (s'={n});", "endmodule"]
    lines += [f'label "{name}" = s={k};' for name, k in (("goal", goal), ("other", other), ("end", n))]
    lines += [f'label "state{k}" = s={k};' for k in range(n + 1)]
    lines += ['rewards "steps"', "true : 1;", "endrewards"]
    return "\n".join(lines)


class Exact:
    """Answers of Storm's exact engine about one chain, in fractions, by state."""

    def __init__(self, text, place):
        place.write_text(text)
        self.program = stormpy.parse_prism_program(str(place))
        self.model = stormpy.build_model[stormpy.Rational](self.program)

    def ask(self, question):
        [asked] = stormpy.parse_properties(question, self.program)
        found = stormpy.model_checking(self.model, asked, only_initial_states=False)
        answers = {}
        for k in range(self.model.nr_states):
            [state] = (x for x in self.model.labeling.get_labels_of_state(k) if x.startswith("state"))
            value = str(found.get_value(k))
            answers[int(state.removeprefix("state"))] = inf if "inf" in value else Fraction(value)
        return answers


def agree(found, exact, bound=0.0):
    assert found is not None
    if isinf(exact) or isinf(found):
        assert found == exact
    else:
        assert abs(Fraction(found) - exact) <= Fraction(CLOSE) * exact
        assert abs(Fraction(found) - exact) <= Fraction(bound) + Fraction(1e-12) * exact


@pytest.mark.parametrize("seed", range(CHAINS))
def test_the_same_as_storm(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sent, stops = sparse_counts(rng)
    total = sent.sum(axis=1) + stops
    names = [str(k) for k in range(len(sent))]
    chain = Chain.from_matrix(sent / total[:, None], names, "0", stop=stops / total)
    goal, other = rng.permutation(len(sent))[:2].tolist()
    storm = Exact(program(sent, stops, goal, other), tmp_path / "chain.prism")

    found = hitting(chain, names[goal])
    for state, chance in storm.ask('P=? [F "goal"]').items():
        if state < len(sent):
            agree(found.states[state].probability, chance, found.states[state].probability_bound)
    for state, mean in storm.ask('R{"steps"}=? [F "goal"]').items():
        if state < len(sent):
            agree(found.states[state].mean, mean)

    first = before(chain, names[goal], names[other])
    for state, chance in storm.ask('P=? [!"other" U "goal"]').items():
        if state < len(sent):
            agree(first.states[state].a_first, chance)

    soon = within(chain, names[goal], LIMIT)
    for state, chance in storm.ask(f'P=? [F<={LIMIT} "goal"]').items():
        if state < len(sent):
            agree(soon.states[state].probability, chance)

    agree(absorption(chain).events, storm.ask('R{"steps"}=? [F "end"]')[0])
    long = {row["node"]: row["limit"] for row in stationary(chain).rows()}
    agree(long.get(names[goal], 0.0), storm.ask('LRA=? ["goal"]')[0])
