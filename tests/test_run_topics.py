import json
import os
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowstat.read.graph import Arrow, Graph
from flowstat.read.topics import matches
from flowstat.run.app import App
from tests.tracing import record

CASES = Path(__file__).parents[2] / "shared" / "cases" / "topic_cases.json"


@pytest.mark.oracle
def test_every_case_of_a_real_topic_exchange():
    if not CASES.exists():
        if os.environ.get("CI") == "true":
            pytest.fail("../shared/cases/topic_cases.json is missing")
        pytest.skip("../shared/cases/topic_cases.json is not there")
    cases = json.loads(CASES.read_text())["cases"]
    wrong = [case for case in cases if copies(case["binding"], case["key"]) != case["copies"]]
    assert not wrong
    assert len(cases) > 20
    assert all(case["match"] == bool(case["copies"]) for case in cases)


def copies(binding, key):
    """How many copies one emit gives along one arrow with the binding, in a real run."""
    app = App(Graph.of([Arrow("a", binding, "b")]))
    app.on("a")(lambda state, message, ctx: ctx.emit(key=key))
    result, rows = record(lambda writer: app.run([("a", "", None)], writer))
    n = rows.column("name").count("b")
    assert dict(result.dropped) == ({} if n else {("a", key): 1})
    return n


words = st.lists(st.sampled_from(["", "a", "b", "*", "#", "a*", "##"]), max_size=6).map(".".join)


@given(words, words)
def test_matches_is_what_the_definition_says(pattern, key):
    want = tuple(pattern.split(".")) if pattern else ()
    have = tuple(key.split(".")) if key else ()

    @cache
    def holds(i, j):
        if i == len(want):
            return j == len(have)
        if want[i] == "#":
            return any(holds(i + 1, k) for k in range(j, len(have) + 1))
        return j < len(have) and (want[i] == "*" or want[i] == have[j]) and holds(i + 1, j + 1)

    assert matches(pattern, key) == holds(0, 0)


def test_matching_many_words_takes_no_exponential_time():
    assert not matches(".".join(["#", "a"] * 50) + ".c", ".".join(["a"] * 2000) + ".b")
