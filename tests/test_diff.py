"""What changed: calibrated tests, intervals, and effects that add up, held against brute force and sampling."""

import json
from collections import Counter
from itertools import product
from math import comb, log

import numpy as np
import pytest

import flowstat as fs
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import Chain
from flowstat.explain.diff_fail import read_rule
from flowstat.explain.diff_laws import adjusted, same_law
from flowstat.explain.diff_sides import START, Side, Worth, limits, moved
from flowstat.explain.diff_words import diff_sentences
from tests.oracles import simulate

SHOP = {
    ("order", "pay"): 900,
    ("order", ""): 100,
    ("pay", "pay"): 200,
    ("pay", "ship"): 800,
    ("pay", ""): 100,
    ("ship", "invoice notify"): 800,
    ("invoice", ""): 800,
    ("notify", ""): 800,
}
RUNS = {"order": 1000}


def shop(**changes):
    """Return counts of a shop, with other numbers of some patterns: `pay_ship=700`."""
    table = dict(SHOP)
    for name, n in changes.items():
        node, _, sent = name.partition("_")
        table[node, sent.replace("_", " ")] = n
    return fs.Counts({k: n for k, n in table.items() if n}, RUNS)


def statistic(tables):
    rows = [sum(row) for row in tables]
    columns = [sum(column) for column in zip(*tables, strict=True)]
    whole = sum(rows)
    return 2 * sum(
        x * log(x * whole / (r * c))
        for row, r in zip(tables, rows, strict=True)
        for x, c in zip(row, columns, strict=True)
        if x
    )


def enumerated(before, after):
    """Return p by listing every table with the same margins."""
    both = [b + a for b, a in zip(before, after, strict=True)]
    n = sum(before)
    seen = statistic([before, after])
    p = total = 0
    for first in product(*(range(t + 1) for t in both)):
        if sum(first) == n:
            weight = 1
            for x, t in zip(first, both, strict=True):
                weight *= comb(t, x)
            total += weight
            p += weight * (statistic([first, [t - x for t, x in zip(both, first, strict=True)]]) >= seen * (1 - 1e-9))
    return p / total


@pytest.mark.parametrize(
    ("before", "after"), [((8, 2), (1, 9)), ((3, 40), (9, 12)), ((1, 0), (0, 1)), ((0, 7), (5, 5))]
)
def test_two_things_are_tested_exactly(before, after):
    found = same_law(before, after, "a")
    assert found.how == "exact"
    assert found.p == pytest.approx(enumerated(before, after), rel=1e-12)


@pytest.mark.parametrize(
    ("before", "after"), [((5, 3, 2), (1, 4, 6)), ((9, 1, 0, 2), (4, 4, 3, 1)), ((2, 2, 2), (2, 2, 2))]
)
def test_more_things_with_few_events_are_tested_by_tables_that_are_drawn(before, after):
    found = same_law(before, after, "a", seed=3, draws=100_000)
    assert found.how == "sampled"
    p = enumerated(before, after)
    # Drawing ends after 50 extreme tables: a relative deviation of one in seven, or that of all draws.
    assert abs(found.p - p) < 4 * max(p / 50**0.5, (p / 100_000) ** 0.5) + 1e-12
    assert same_law(before, after, "a", seed=3, draws=100_000) == found


def test_many_events_are_tested_by_the_chi_square_law():
    before, after = (400, 300, 200, 120), (380, 330, 170, 110)
    found = same_law(before, after, "a")
    assert found.how == "approximate"
    random = np.random.default_rng(1)
    both = np.add(before, after)
    first = random.multivariate_hypergeometric(both, sum(before), 4000)
    seen = statistic([before, after])
    share = np.mean([statistic([row, both - row]) >= seen for row in first])
    assert abs(found.p - share) < 4 * (share * (1 - share) / 4000) ** 0.5


@pytest.mark.parametrize(
    ("before", "after"), [((3, 0), (5, 0)), ((3, 2), (0, 0)), ((0, 0, 0), (0, 0, 0)), ((5,), (7,)), ((), ())]
)
def test_nothing_is_tested_where_nothing_can_differ(before, after):
    assert same_law(before, after, "a") is None


def test_huge_and_lopsided_numbers_have_a_p_value():
    for before, after in (
        ((10**15, 10**15 + 10**9), (10**15, 10**15)),
        ((10**12, 3, 10**12), (10**12, 0, 10**12)),
        ((10**10, 1, 2, 0), (5, 1, 0, 1)),
        ((1,) * 3000, (2,) * 3000),
    ):
        found = same_law(before, after, "a")
        assert 0 <= found.p <= 1
    assert same_law((10**15, 10**15 + 10**10), (10**15, 10**15), "a").p < 1e-10
    assert same_law((10**12, 10**12, 10**12), (10**12 + 10, 10**12 - 5, 10**12 - 5), "a").p > 0.99


def test_small_differences_lose_no_digits():
    from flowstat.explain.diff_laws import _statistic

    n = 2 * 10**12
    seen = np.array([[n / 2 + 1e3, n / 2 - 1e3]])
    both = np.array([float(n), float(n)])
    # x ln(x/E) is x^2/2E here, to eleven digits, four times and twice.
    assert float(_statistic(seen, both, n, n)[0]) == pytest.approx(4 * 1e6 / (n / 2), rel=1e-9)


def test_the_rate_of_false_discoveries_is_that_of_benjamini_and_hochberg():
    random = np.random.default_rng(5)
    for _ in range(200):
        p = np.round(random.random(random.integers(1, 12)) ** 3, 3).tolist()
        q = adjusted(p)
        for rate in (0.01, 0.05, 0.2, 0.5):
            ranked = sorted(p)
            most = max((k for k in range(1, len(p) + 1) if ranked[k - 1] <= k / len(p) * rate), default=0)
            threshold = ranked[most - 1] if most else -1.0
            assert [x <= rate * (1 + 1e-12) for x in q] == [x <= threshold for x in p]
    assert adjusted([]) == []


@pytest.mark.parametrize("runs", [5, 30, 200])
@pytest.mark.parametrize("again", [0.1, 0.5, 0.9])
def test_numbers_of_rounds_are_tested_at_the_stated_rate(runs, again):
    # Each run goes round until it leaves: how many events there are hangs on what they do.
    rounds = np.random.default_rng(9).negative_binomial(runs, 1 - again, (400, 2)).tolist()
    tests = [same_law((a, runs), (b, runs), "x") for a, b in rounds]
    alarms = sum(test is not None and test.p <= 0.05 for test in tests)
    # 20 are expected at most; 35 or more have a chance of 0.1%.
    assert alarms < 35


def test_nothing_is_found_in_equal_counts():
    found = fs.diff(shop(), shop())
    assert not found.found
    assert not found.failing(["any", "new", "arrow"])
    assert {a.difference for a in found.answers.answers} == {0.0}
    assert "No change was found" in diff_sentences(found)[0]


def test_a_change_is_found_with_its_size_and_its_effect():
    found = fs.diff(shop(), shop(pay_ship=700, pay_=200))
    (node,) = [n for n in found.nodes if n.found]
    assert (node.node, node.variation) == ("pay", pytest.approx(100 / 1100))
    # 900 of 1000 runs come to pay, from where 200 in 900 end now and 100 in 900 did.
    assert (node.moves, node.effect) == ("chance:pay", pytest.approx(0.1))
    arrows = {(a.source, a.target): a for a in found.arrows.arrows if a.found}
    assert set(arrows) == {("pay", "ship"), ("pay", "(end)")}
    change = arrows["pay", "ship"]
    assert change.difference == pytest.approx(-100 / 1100)
    assert change.low < change.difference < change.high < 0
    outcome = next(a for a in found.answers.answers if a.name == "pay" and a.kind == "outcome")
    assert (outcome.before, outcome.after) == (pytest.approx(0.1), pytest.approx(0.2))
    assert outcome.found
    assert outcome.low < 0.1 < outcome.high
    assert found.nodes[0].node == "pay"
    said = diff_sentences(found)
    assert "1 of 2 tested nodes changed: pay." in said
    assert any(s.startswith("pay -> ship went from 72.7% to 63.6%: -9.09 points, 95% interval -1") for s in said)


def test_the_other_way_round_it_is_the_opposite():
    one, other = fs.diff(shop(), shop(pay_ship=700, pay_=200)), fs.diff(shop(pay_ship=700, pay_=200), shop())
    for a, b in zip(one.nodes, other.nodes, strict=True):
        assert (a.node, a.p_value, a.q_value, a.variation) == (b.node, b.p_value, b.q_value, b.variation)
        assert (a.effect is None) == (b.effect is None)
        assert a.effect is None or a.effect == pytest.approx(-b.effect, rel=1e-9)
    back = {(a.kind, a.name): a for a in other.answers.answers}
    for a in one.answers.answers:
        assert a.difference == pytest.approx(-back[a.kind, a.name].difference)
        assert a.low == pytest.approx(-back[a.kind, a.name].high)


def test_new_and_gone_arrows_are_told_apart_from_chance():
    after = shop(pay_ship=700, pay_review=100, pay_refund=1, order_=101) + fs.Counts(
        {("review", ""): 100, ("refund", ""): 1}
    )
    found = fs.diff(shop(), after)
    seen = {n.node: (n.seen, n.found) for n in found.nodes}
    assert seen["review"] == ("new", True)
    assert seen["refund"] == ("new", False)
    arrows = {(a.source, a.target): (a.seen, a.found) for a in found.arrows.arrows}
    assert arrows["pay", "review"] == ("new", True)
    assert arrows["pay", "refund"] == ("new", False)
    assert any("pay -> review is new (100 messages)" in s for s in found.failing("arrow"))
    assert not any("refund" in s for s in found.failing(["arrow", "any"]))
    assert any("refund was never seen before: 1 message" in s for s in found.failing("new"))
    assert not any("refund" in s for s in found.failing("new:10"))
    back = fs.diff(after, shop())
    assert {n.node: (n.seen, n.found) for n in back.nodes}["review"] == ("gone", True)
    assert any("which may be chance: pay -> refund (1 message)" in s for s in diff_sentences(back))


def test_arrows_that_the_graph_lacks_are_undeclared():
    graph = fs.parse_graph("order/ok -> pay; pay/retry -> pay; pay/ok -> ship -> notify, invoice;")
    after = shop(pay_ship=700, pay_review=100) + fs.Counts({("review", ""): 100})
    found = fs.diff(shop(), after, graph)
    arrow = next(a for a in found.arrows.arrows if a.target == "review")
    assert (arrow.declared, arrow.key, arrow.before) == (False, (), 0.0)
    assert any("100 messages, undeclared" in s for s in found.failing("arrow"))
    assert next(a for a in found.arrows.arrows if a.target == "ship").key == ("ok",)


def test_where_runs_start_is_tested_like_a_node():
    counts = shop() + fs.Counts({("pay", "ship"): 100, ("ship", "invoice notify"): 100}, {"pay": 100})
    more = shop() + fs.Counts({("pay", "ship"): 300, ("ship", "invoice notify"): 300}, {"pay": 300})
    found = fs.diff(counts, more)
    assert next(n for n in found.nodes if n.node == START).found
    assert next(n for n in found.nodes if n.node == START).effect is not None
    given = fs.diff(counts, more, start="order")
    assert START not in {n.node for n in given.nodes}
    with pytest.raises(AnalysisError, match="no node can be called"):
        fs.diff(fs.Counts({(START, ""): 3}, {START: 3}), counts)


def random_chain(seed, n=6, closed=False):
    random = np.random.default_rng(seed)
    P = random.random((n, n)) * (random.random((n, n)) < 0.5)
    stop = random.random(n) * (random.random(n) < 0.6) + 0.05
    if closed:
        P[n - 2 :, : n - 2] = 0.0
        P[n - 2 :, n - 2 :] = 1.0
        stop[n - 2 :] = 0.0
    whole = P.sum(axis=1) + stop
    start = random.random(n)
    law = dict(zip("abcdefghij"[:n], start / start.sum(), strict=True))
    return Chain.from_matrix(P / whole[:, None], list("abcdefghij"[:n]), law, stop=stop / whole)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("closed", [False, True])
def test_what_nodes_move_adds_up_to_the_change(seed, closed):
    chains = random_chain(seed, closed=closed), random_chain(seed + 100, closed=closed)
    sides = tuple(Side(chain, False) for chain in chains)
    from flowstat.explain.diff_answers import _worths

    names = [("stop", ("b",)), ("stop", ("d",))] + ([("trap", ("e", "f"))] if closed else [])
    for k in range(len(names) + (not closed)):
        worths = [_worths(side, names, events=not closed)[k] for side in sides]
        nodes, starts = moved(*sides, *worths)
        values = []
        for chain in chains:
            keep = slice(0, 4 if closed else 6)
            P, law = chain.P.toarray(), chain.start
            v = law[keep] @ np.linalg.inv(np.eye(4 if closed else 6) - P[keep, keep])
            if k == len(names):
                values.append(v.sum())
            elif names[k][0] == "trap":
                values.append(v @ P[:4, 4:].sum(axis=1) + law[4:].sum())
            else:
                i = chain.index[names[k][1][0]]
                values.append(v[i] * chain.stop[i])
        parts = nodes.values.sum() + starts.values.sum()
        assert parts == pytest.approx(values[1] - values[0], abs=1e-12)
        assert nodes.bound.sum() + starts.bound.sum() < 1e-11
    assert isinstance(worths[0], Worth)


def test_where_traps_differ_no_effect_is_told():
    trapped = fs.Counts({("a", "b"): 50, ("a", ""): 50, ("b", "b"): 900, ("b", ""): 0}, {"a": 100})
    free = fs.Counts({("a", "b"): 50, ("a", ""): 50, ("b", "b"): 900, ("b", ""): 50}, {"a": 100})
    trapped = fs.Counts({k: n for k, n in trapped.table.items() if n}, {"a": 100})
    found = fs.diff(trapped, free)
    assert all(n.moves is None for n in found.nodes)
    assert any("trapped at other nodes" in note for note in found.notes())
    assert any("some runs never end" in note for note in found.answers.notes())
    text = str(found) + str(found.answers) + json.dumps(found.to_dict()) + " ".join(diff_sentences(found))
    assert "nan" not in text.lower()


def posterior(counts, random, draws):
    """Draw chains as dense matrices from the posterior without a prior, by the nodes in order."""
    names = list(counts.nodes)
    index = {name: k for k, name in enumerate(names)}
    by_node = {}
    for (node, sent), n in counts.table.items():
        by_node.setdefault(node, []).append((sent, n))
    P, stop = np.zeros((draws, len(names), len(names))), np.zeros((draws, len(names)))
    for node, patterns in by_node.items():
        drawn = random.dirichlet([n for _, n in patterns], draws)
        for k, (sent, _) in enumerate(patterns):
            targets = sent.split()
            for target in targets:
                P[:, index[node], index[target]] += drawn[:, k] / len(targets)
            if not targets:
                stop[:, index[node]] += drawn[:, k]
    return index, P, stop


def test_variances_are_those_of_posterior_draws():
    counts = fs.Counts(
        {
            ("order", "pay"): 700,
            ("order", "wait"): 300,
            ("pay", "pay"): 250,
            ("pay", "ship"): 600,
            ("pay", "wait"): 250,
            ("wait", "pay"): 350,
            ("wait", ""): 200,
            ("ship", ""): 500,
            ("ship", "pay"): 100,
        },
        {"order": 1000},
    )
    index, P, stop = posterior(counts, np.random.default_rng(7), 4000)
    N = np.linalg.inv(np.eye(len(index)) - P)
    o, p, w, s = (index[name] for name in ("order", "pay", "wait", "ship"))
    drawn = {("events", "mean"): N[:, o].sum(axis=1), ("outcome", "ship"): N[:, o, s] * stop[:, s]}
    # The chance to come to pay, and of these to come back to it at once before it is left for good.
    r, g = P[:, p, p], 1 / N[:, p, p]
    drawn["loop", "pay -> pay"] = N[:, o, p] * g * r / (g + r)
    drawn["rounds", "pay -> pay"] = 1 + r / g
    drawn["gain", "{pay, ship, wait}"] = np.array(
        [np.abs(np.linalg.eigvals(m)).max() for m in P[:, [[p], [s], [w]], [p, s, w]]]
    )
    f = [o, p, s]
    det = np.linalg.det(N[:, np.array(f)[:, None], f])
    drawn["flow", "order -> pay -> ship"] = P[:, o, p] * P[:, p, s] * stop[:, s] * det
    found = {(a.kind, a.name): a for a in fs.diff(counts, counts, prior=0).answers.answers}
    for key, values in drawn.items():
        change = found[key]
        assert change.before == pytest.approx(values.mean(), rel=0.01), key
        # The interval of a difference of two equal sides is that of one, times the root of 2.
        width = (change.high - change.low) / 2 / 1.959964 / 2**0.5
        assert width == pytest.approx(values.std(), rel=0.06), key


def test_loops_and_flows_are_those_of_their_own_analyses():
    before = shop(ship_pay=50)
    graph = fs.parse_graph("order -> pay -> pay, ship; ship -> notify, invoice, pay")
    found = {(a.kind, a.name): a for a in fs.diff(before, shop(ship_pay=60), graph).answers.answers}
    chain = fs.estimate(before, graph)
    for loop in fs.loops(chain).loops:
        name = loop.name if loop.kind == "self" else "{" + ", ".join(sorted(loop.nodes)) + "}"
        assert found["loop", name].before == pytest.approx(loop.entered, rel=1e-12)
        assert found["rounds", name].before == pytest.approx(loop.rounds, rel=1e-12)
        assert found["gain", name].before == pytest.approx(loop.gain, rel=1e-12)
    for flow in fs.flows(chain).flows:
        assert found["flow", flow.name].before == pytest.approx(flow.probability, rel=1e-12)
    for o in fs.absorption(chain).outcomes:
        assert found["outcome", o.outcome].before == o.probability


def test_a_loop_that_is_new_is_compared_with_none():
    found = fs.diff(shop(), shop(ship_pay=200, pay_pay=400, pay_ship=1000), top=50)
    loop = next(a for a in found.answers.answers if (a.kind, a.name) == ("loop", "{pay, ship}"))
    assert loop.found
    assert 0 < loop.before < loop.after, "runs went round pay before, within the same nodes"
    assert loop.low > 0


def forty(shift=0.0):
    """Return a program of 40 nodes, most of which a run passes; of one, some share goes the other way."""
    n = 40
    P, stop = np.zeros((n, n)), np.zeros(n)
    for i in range(n - 1):
        P[i, i + 1] = 0.55
        P[i, min(n - 1, i + 2)] += 0.3
        P[i, max(0, i - 3)] += 0.13
        stop[i] = 0.02
    stop[n - 1] = 1.0
    P[11, 12] -= shift
    P[11, 13] += shift
    return Chain.from_matrix(P, [f"n{k}" for k in range(n)], "n0", stop=stop)


def counted(chain, seed, runs):
    steps = simulate(chain, seed, runs).steps.astype(np.int64)
    then = np.vstack([steps[1:], np.full((1, runs), -1)])
    codes, numbers = np.unique(1000 * steps[steps >= 0] + then[steps >= 0] + 1, return_counts=True)
    names = ("", *chain.names)
    table = {
        (chain.names[c // 1000], names[c % 1000]): n for c, n in zip(codes.tolist(), numbers.tolist(), strict=True)
    }
    starts = Counter(steps[0].tolist())
    return fs.Counts(table, {chain.names[i]: n for i, n in starts.items()})


@pytest.mark.parametrize("runs", [20, 150, 1500])
def test_on_data_of_one_model_alarms_are_no_more_frequent_than_stated(runs):
    from flowstat.explain.diff import _table, _tests

    sets = 100
    data = [counted(forty(), seed, runs) for seed in range(2 * sets)]
    alarms = 0
    for k in range(sets):
        tests = _tests(_table(data[2 * k], data[2 * k + 1], begun=True), 0.05, 0)
        alarms += min(adjusted([t.p for t in tests.values()])) <= 0.05
    # 5 are expected at most, and 13 or more of 100 have a chance of 0.15%.
    assert alarms < 13


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_found_without_a_node_that_is(seed):
    found = fs.diff(counted(forty(), 2 * seed, 40), counted(forty(), 2 * seed + 1, 40), top=1)
    changed = [part for part in (*found.answers.answers, *found.arrows.arrows) if part.found]
    assert found.found or not changed
    assert found.found or not found.failing(["any", "node", "share", "outcome", "loop", "events", "flow", "arrow"])


def test_a_change_of_five_points_in_one_of_forty_nodes_is_found():
    found = fs.diff(counted(forty(), 1, 4000), counted(forty(0.05), 2, 4000), top=5)
    assert [n.node for n in found.nodes if n.found] == ["n11"]
    assert {(a.source, a.target) for a in found.arrows.arrows if a.found} == {("n11", "n12"), ("n11", "n13")}
    arrow = next(a for a in found.arrows.arrows if a.target == "n13" and a.source == "n11")
    assert arrow.low < 0.05 < arrow.high
    assert found.failing("share:0.03")
    assert not found.failing("share:0.2")


def test_intervals_hold_the_difference_as_often_as_stated():
    chain = random_chain(3, 4)
    data = [counted(chain, 1000 + seed, 500) for seed in range(80)]
    held: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    for k in range(0, 80, 2):
        for a in fs.diff(data[k], data[k + 1], top=3, prior=0).answers.answers:
            held[a.kind] += a.low <= 0 <= a.high
            whole[a.kind] += 1
    # Answers of one kind hang together: 38 of 40 are expected, and fewer than 32 have a chance of 1 in 10,000.
    assert set(held) == {"outcome", "events", "loop", "rounds", "gain", "flow"}
    assert all(held[kind] >= 32 / 40 * whole[kind] for kind in held), {k: held[k] / whole[k] for k in held}


@pytest.mark.parametrize(
    ("text", "kind", "amount"),
    [("any", "any", 0.0), ("outcome:0.02", "outcome", 0.02), (" loop : 5% ", "loop", 0.05), ("new:10", "new", 10.0)],
)
def test_rules_are_read(text, kind, amount):
    rule = read_rule(text)
    assert (rule.kind, rule.amount) == (kind, pytest.approx(amount))


@pytest.mark.parametrize(
    "text", ["", "anything", "outcome:", "outcome:x", "outcome:-1", "outcome:nan", "any:0.1", "loop:inf"]
)
def test_rules_that_are_none_are_refused(text):
    with pytest.raises(AnalysisError):
        read_rule(text)


def test_each_kind_of_rule_fails_at_its_own():
    found = fs.diff(shop(), shop(pay_ship=700, pay_=200, pay_pay=600))
    for rule in ("any", "node:0.05", "share:5%", "outcome:0.02", "events:0.01", "loop:0.05", "flow:0.02"):
        assert found.failing(rule), rule
    for rule in ("node:0.9", "share:0.9", "outcome:0.9", "events:9", "loop:9", "flow:0.9", "arrow", "new"):
        assert not found.failing(rule), rule
    assert found.failing(["outcome", "outcome:0.02"]) == found.failing("outcome")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"rate": 0}, "rate"),
        ({"rate": float("nan")}, "rate"),
        ({"level": 1}, "level"),
        ({"top": 0}, "listed"),
        ({"seed": -1}, "seed"),
    ],
)
def test_options_out_of_range_are_refused(options, says):
    with pytest.raises(AnalysisError, match=says):
        fs.diff(shop(), shop(), **options)
    with pytest.raises(AnalysisError, match="no events before"):
        fs.diff(fs.Counts(), shop())
    with pytest.raises(AnalysisError, match="no events after"):
        fs.diff(shop(), fs.Counts())


def test_odd_counts_are_compared():
    odd = fs.Counts({("a b", '"c*2" a'): 3, ("a b", ""): 1, ("c*2", ""): 3}, {"a b": 4}, pending={"lost": 2})
    for before, after in ((odd, shop()), (shop(), odd), (odd, odd), (odd, fs.Counts({("a b", ""): 1}, {"a b": 1}))):
        found = fs.diff(before, after)
        text = str(found) + str(found.arrows) + str(found.answers) + " ".join(diff_sentences(found))
        assert "nan" not in text.replace("another", "")
        json.dumps(found.to_dict(), allow_nan=False)
        for part in (found, found.arrows, found.answers):
            assert len(part.frame()) == len(part.rows())
    lost = {n.node: n.seen for n in fs.diff(shop(), odd).nodes}
    assert lost["lost"] == "new"


def test_intervals_of_chances_stay_chances():
    assert limits(0.0, 0.0, 0.95, chance=True) == (0.0, 0.0)
    for value in (0.0, 1e-9, 0.3, 1 - 1e-9, 1.0):
        for variance in (1e-12, 1e-3, 0.2, 5.0):
            low, high = limits(value, variance, 0.95, chance=True)
            assert 0 <= low <= high <= 1


def test_the_command_compares_and_fails(tmp_path, run_flowstat):
    fs.write_counts(shop(), tmp_path / "before.json")
    fs.write_counts(shop(pay_ship=700, pay_=200), tmp_path / "after.json")
    two = (tmp_path / "before.json", tmp_path / "after.json")
    code, out, err = run_flowstat("diff", *two)
    assert (code, err) == (0, "")
    assert "1 of 2 tested nodes changed: pay." in out
    code, _, err = run_flowstat("diff", *two, "--fail-on", "outcome:0.05", "--fail-on", "new")
    assert code == 1
    assert "fails: The chance to end at pay went from 10.0% to 20.0%" in err
    assert run_flowstat("diff", *two, "--fail-on", "outcome:0.2", "--fail-on", "arrow")[0] == 0
    code, out, _ = run_flowstat("diff", *two, "--format", "json", "--show", "nodes")
    assert json.loads(out)["rows"] == fs.diff(fs.read_counts(two[0]), fs.read_counts(two[1])).rows()
    assert run_flowstat("diff", *two, "--format", "csv")[0] == 2
    assert run_flowstat("diff", *two, "--format", "csv", "--show", "answers")[1].startswith("kind,name,found")
    for wrong, says in (("--fail-on", "anyhow"), "nothing to fail on"), (("--graph", "-"), "once only"):
        code, _, err = run_flowstat("diff", "-" if says == "once only" else two[0], two[1], *wrong)
        assert code == 2
        assert says in err
