import json
from fractions import Fraction
from itertools import pairwise
from math import gcd
from random import Random

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowstat.analyze.classes import Classes, CommunicatingClass, classes
from flowstat.errors import ChainError
from flowstat.estimate.chain import Chain
from tests.oracles import LETTERS, chain_of, chains, pit, relabelled, traps_of


def by_nodes(found: Classes) -> dict[frozenset[str], tuple[str, int, bool]]:
    return {frozenset(c.nodes): (c.kind, c.period, c.reachable) for c in found.classes}


def test_kinds_periods_and_reach() -> None:
    chain = chain_of(
        {
            "start": {"a": 0.5, "trap": 0.5},
            "a": {"b": 1},
            "b": {"a": 0.5},
            "trap": {"trap": 1},
            "lost": {"lost": 0.5, "a": 0.5},
        },
        "start",
    )
    assert by_nodes(classes(chain)) == {
        frozenset(["start"]): ("transient", 0, True),
        frozenset("ab"): ("transient", 2, True),
        frozenset(["trap"]): ("closed", 1, True),
        frozenset(["lost"]): ("transient", 1, False),
    }
    assert by_nodes(classes(chain, "lost"))[frozenset(["start"])] == ("transient", 0, False)
    assert by_nodes(classes(chain, {"lost": 1}))[frozenset("ab")] == ("transient", 2, True)
    with pytest.raises(ChainError, match="no node is called"):
        classes(chain, "nobody")


@pytest.mark.parametrize("lengths", [(1,), (4,), (4, 6), (6, 9), (6, 10, 15), (12, 18, 27)])
def test_a_period_is_the_common_divisor_of_cycles(lengths: tuple[int, ...]) -> None:
    """Rings of these lengths that share one node."""
    table: dict[str, dict[str, Fraction]] = {"hub": {}}
    for n in lengths:
        ring = ["hub", *(f"{n}.{k}" for k in range(1, n)), "hub"]
        table["hub"][ring[1]] = Fraction(1, len(lengths))
        for i, j in pairwise(ring[1:]):
            table[i] = {j: Fraction(1)}
    [found] = classes(chain_of(table, "hub")).classes
    assert (found.kind, found.period, len(found.nodes)) == ("closed", gcd(*lengths), sum(lengths) - len(lengths) + 1)


@pytest.mark.parametrize(
    ("row", "kind", "period"), [({}, "transient", 0), ({"a": 0.5}, "transient", 1), ({"a": 1}, "closed", 1)]
)
def test_a_chain_of_one_state(row: dict[str, float], kind: str, period: int) -> None:
    assert by_nodes(classes(chain_of({"a": row}))) == {frozenset("a"): (kind, period, True)}


@settings(max_examples=300)
@given(chains(traps=True))
def test_classes_equal_networkx(chain: Chain) -> None:
    graph = chain.to_networkx()
    starts = [name for name in chain.names if graph.nodes[name]["start"] > 0]
    reachable = set(starts).union(*(nx.descendants(graph, name) for name in starts))
    cycles = list(nx.simple_cycles(graph))
    traps = traps_of(chain)
    expected = {}
    for nodes in nx.strongly_connected_components(graph):
        period = gcd(*(len(c) for c in cycles if set(c) <= nodes))
        kind = "closed" if frozenset(nodes) in traps else "transient"
        expected[frozenset(nodes)] = (kind, period, nodes <= reachable)
    found = classes(chain)
    assert by_nodes(found) == expected
    place = {name: k for k, c in enumerate(found.classes) for name in c.nodes}
    assert all(place[i] <= place[j] for i, j in graph.edges)


@settings(max_examples=200)
@given(chains(traps=True), st.randoms(use_true_random=False))
def test_order_and_names_change_nothing(chain: Chain, random: Random) -> None:
    order = list(range(len(chain.names)))
    random.shuffle(order)
    names = dict(zip(LETTERS, "UVWXYZ", strict=True))
    other = by_nodes(classes(relabelled(chain, order, names)))
    assert other == {frozenset(names[i] for i in c): v for c, v in by_nodes(classes(chain)).items()}


def test_results_show_themselves() -> None:
    for result in (classes(pit()), Classes(()), Classes((CommunicatingClass(("a",), "closed", 1, False),))):
        assert str(result).startswith("Classes")
        assert list(result.frame().columns) == list(result.columns)
        assert len(result.frame()) == len(result.classes)
        assert "<table>" in result._repr_html_()
        json.dumps(result.to_dict(), allow_nan=False)
