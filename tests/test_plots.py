"""Plots: what is drawn is what the analyses found, legible, and the same bytes each time."""

import io
import re
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.patches import Circle, PathPatch
from matplotlib.text import Text

import flowstat as fs
from flowstat.analyze.perron import part_of
from flowstat.analyze.solve import Solver
from flowstat.errors import OutputError
from flowstat.estimate.chain import Chain
from flowstat.show import figures, turning
from flowstat.show.figures import Plot, drawable, fonts, wide
from flowstat.show.plot_coverage import covered, plot_coverage
from flowstat.show.plot_flows import GAP, plot_flows
from flowstat.show.plot_generations import plot_generations
from flowstat.show.plot_spectrum import plot_spectrum
from flowstat.show.ribbons import ribbons
from tests.oracles import chain_of, chains, shop

RING = Chain.from_matrix([[0, 1, 0], [0, 0, 1], [1, 0, 0]], ["a", "b", "c"])
TWO_RINGS = Chain.from_matrix(
    [[0, 0.9, 0.1, 0, 0], [0, 0, 1, 0, 0], [0.3, 0, 0, 0.7, 0], [0, 0, 0, 0, 1], [1, 0, 0, 0, 0]], list("abcde")
)
STORM = fs.Counts({("a", "a a"): 3, ("a", ""): 1}, {"a": 1})


def said(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def test_the_ribbons_are_as_wide_as_their_flows_and_in_colours_of_their_outcomes() -> None:
    found = fs.flows(shop(), 3, start=shop().names[0])
    figure = plot_flows(found)
    axes = figure.axes[0]
    bands = [patch for patch in axes.patches if isinstance(patch, PathPatch)]
    # Of each column the widths sum to the whole: 1, at the scale that the block of the start has.
    columns: dict[float, float] = {}
    for band in bands:
        points = band.get_path().vertices
        here = points[-2][1] - points[0][1]
        there = points[4][1] - points[3][1]
        assert there == pytest.approx(here, abs=1e-9)
        column = points[0][0] // GAP
        columns[column] = columns.get(column, 0.0) + here
    assert len(columns) >= 2
    height = max(columns.values())
    assert list(columns.values()) == pytest.approx([height] * len(columns), rel=1e-9)
    texts = said(figure)
    rest = 1 - found.covered
    assert any(text.startswith("other flows") for text in texts) == (rest > 1e-9)
    grey = sum(band.get_path().vertices[-2][1] - band.get_path().vertices[0][1] for band in bands[-1:])
    assert grey == pytest.approx(rest * height, rel=1e-9)
    assert any(text.startswith(f"3 likely flows: {100 * found.covered:.1f}".removesuffix(".0")) for text in texts)


def test_shares_and_rounds_at_outcomes_are_those_of_the_flows() -> None:
    # a, with a loop of one round on average, goes to b or stops; both ways hand over to c or end at b.
    chain = chain_of({"a": {"a": 0.5, "b": 0.375}, "b": {"c": 0.5}, "c": {}}, "a")
    texts = said(plot_flows(chain))
    assert "c  37.5%  ↻ 1" in texts
    assert "stops at b  37.5%  ↻ 1" in texts
    assert "stops at a  25%  ↻ 1" in texts
    assert "b  75%" in texts
    assert not any(text.startswith("other flows") for text in texts)
    assert "loops are erased as they close; ↻ mean rounds of loops on the way" in texts


def test_traps_and_runs_that_start_in_one() -> None:
    assert any(text == "never ends: {a, b, c}  100%" for text in said(plot_flows(RING)))
    chain = Chain.from_matrix([[0, 0.25], [0, 1]], ["go", "stay"], "go", stop=[0.75, 0])
    texts = said(plot_flows(chain))
    assert {"never ends: stay  25%", "stops at go  75%"} <= set(texts)


def test_a_node_that_is_passed_both_ways_is_drawn_twice_and_nothing_turns_back() -> None:
    paths = [[("n", x) for x in way] for way in ("abcz", "acbz", "az", "bz")]
    weights = [0.4, 0.3, 0.2, 0.1]
    made = ribbons(paths, weights, 4.0)
    assert all(ribbon.target.column == ribbon.source.column + 1 for ribbon in made.ribbons)
    named = [block.keys[0][1] for block in made.blocks if block.keys]
    assert sorted(named) == ["a", "b", "b", "c", "z"] or sorted(named) == ["a", "b", "c", "c", "z"]
    ends = [block for block in made.blocks if block.last]
    assert [block.column for block in ends] == [made.columns - 1]
    assert ends[0].weight == pytest.approx(1)


words = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=6, unique=True)


@given(st.lists(words, min_size=1, max_size=12), st.data())
@settings(max_examples=60, deadline=None)
def test_layouts_balance_and_blocks_do_not_overlap(ways: list[list[str]], data: st.DataObject) -> None:
    weights = [data.draw(st.sampled_from([0.001, 0.1, 0.5, 1.0])) for _ in ways]
    paths = [[*(("n", x) for x in way), ("end", way[-1])] for way in ways]
    made = ribbons(paths, weights, 3.0)
    total = sum(weights)
    for column in range(made.columns - 1):
        # What starts in a later column is not there before.
        here = sum(weights[f] for r in made.ribbons if r.source.column == column for f, _, _ in r.flows)
        begun = sum(b.weight for b in made.blocks if b.column == column)
        assert here == pytest.approx(begun)
        assert here <= total + 1e-9
    for block in made.blocks:
        assert block.bottom - block.top == pytest.approx(3.0 * block.weight)
        assert -1e-9 <= block.top <= block.bottom <= made.height + 1e-6
        for side in (block.enters, block.leaves):
            tops = sorted(side.items(), key=lambda item: item[1])
            for (f, top), (_, below) in pairwise(tops):
                assert below == pytest.approx(top + 3.0 * weights[f])
    for column in range(made.columns):
        inside = sorted((b for b in made.blocks if b.column == column), key=lambda b: b.top)
        assert all(a.bottom <= b.top + 1e-9 for a, b in pairwise(inside))


def test_ribbons_do_not_cross_where_they_need_not() -> None:
    paths = [[("n", x) for x in way] for way in ("apx", "bqy", "crz", "aqy")]
    made = ribbons(paths[:3], [0.5, 0.3, 0.2], 3.0)
    for column in range(made.columns - 1):
        ties = [(r.source.top, r.target.top) for r in made.ribbons if r.source.column == column]
        assert sorted(ties) == sorted(ties, key=lambda tie: tie[1])


def test_long_flows_are_made_short() -> None:
    n = 30
    chain = Chain.from_matrix(
        [[float(j == i + 1) for j in range(n)] for i in range(n)], [f"n{k}" for k in range(n)], stop=[0.0] * 29 + [1]
    )
    texts = said(plot_flows(chain))
    assert "n0 → 28 more  100%" in texts
    assert "n29  100%" in texts


def test_coverage_is_the_sum_of_what_is_listed() -> None:
    found = fs.flows(shop(), 50)
    shares, _, whole = covered(found)
    assert shares == pytest.approx(list(np.minimum(np.cumsum([f.probability for f in found.flows]), 1)))
    assert whole == "all runs"
    figure = plot_coverage(found)
    line = figure.axes[0].lines[0]
    assert list(line.get_ydata()) == pytest.approx([0, *shares])
    first = next(k + 1 for k, share in enumerate(shares) if share >= 0.9)
    assert any(text.startswith("Coverage: 90% by the first") for text in said(figure))
    assert list(figure.axes[0].lines[-2].get_xdata()) == [first] or any(
        list(line.get_xdata()) == [first] for line in figure.axes[0].lines
    )


def test_coverage_that_is_not_reached_says_how_much_is() -> None:
    chain = chain_of({"a": dict.fromkeys("bcdefg", 0.125), **{x: {} for x in "bcdefg"}}, "a")
    figure = plot_coverage(chain, 3)
    assert "Coverage: 3 flows cover 50%" in said(figure)
    assert not any("by the first" in text for text in said(figure))


def test_coverage_of_cycles() -> None:
    found = fs.cycles(shop())
    shares, _, whole = covered(found)
    assert found.covered is not None
    assert shares[-1] == pytest.approx(found.covered)
    assert whole == "all events"
    whole_ring, _, _ = covered(fs.circulation(RING))
    assert whole_ring == pytest.approx([1.0])
    with pytest.raises(OutputError, match="draw circulation"):
        plot_coverage(fs.cycles(RING))
    with pytest.raises(OutputError, match="no cycles to draw"):
        plot_coverage(fs.cycles(chain_of({"a": {"b": 1}, "b": {}}, "a")))


def dense_shares(chain: Chain, value: complex) -> dict[tuple[str, ...], float]:
    """Return each cycle's share in an eigenvalue of a closed class, by all its cycles' rates and LAPACK's vector."""
    P = chain.P.toarray()
    values, vectors = np.linalg.eig(P)
    f = vectors[:, int(np.argmin(abs(values - value)))]
    law = np.linalg.lstsq(np.vstack([P.T - np.eye(len(P)), np.ones(len(P))]), [0.0] * len(P) + [1.0])[0]
    parts = {}
    for cycle in fs.circulation(chain, top=1000).cycles:
        at = [chain.index[name] for name in cycle.nodes]
        turned = sum(np.conj(f[i]) * f[j] for i, j in pairwise([*at, at[0]])) * cycle.rate
        parts[cycle.nodes] = turned / (law @ abs(f) ** 2)
    assert sum(parts.values()) == pytest.approx(value, abs=1e-9)
    return {nodes: part.imag / value.imag if value.imag else part.real / value.real for nodes, part in parts.items()}


def test_each_pair_is_tied_to_the_cycle_with_the_largest_share_in_it() -> None:
    pairs = [complex(e.real, e.imaginary) for e in fs.spectrum(TWO_RINGS).eigenvalues if e.imaginary]
    solver = Solver(TWO_RINGS.P, TWO_RINGS.stop)
    part = part_of(solver, 0)
    names = tuple(TWO_RINGS.names[i] for i in part.states)
    assert len(pairs) >= 1
    for value, carried in zip(pairs, turning.turning(part, names, pairs), strict=True):
        shares = dense_shares(TWO_RINGS, value)
        assert carried is not None
        assert carried.share == pytest.approx(shares[carried.nodes], abs=1e-7)
        assert carried.share == pytest.approx(max(shares.values()), abs=1e-7)


def test_a_class_that_is_left_is_tied_as_it_is_seen_in_the_long_run() -> None:
    # Every arrow loses a tenth: the same cycles, with the same shares, at nine tenths of the eigenvalues.
    leaky = Chain.from_matrix(0.9 * TWO_RINGS.P.toarray(), TWO_RINGS.names, "a", stop=[0.1] * 5)
    pairs = [complex(e.real, e.imaginary) for e in fs.spectrum(TWO_RINGS).eigenvalues if e.imaginary]
    found = []
    for chain, scale in ((TWO_RINGS, 1.0), (leaky, 0.9)):
        part = part_of(Solver(chain.P, chain.stop), 0)
        names = tuple(chain.names[i] for i in part.states)
        found.append(turning.turning(part, names, [scale * value for value in pairs]))
    for closed, left in zip(*found, strict=True):
        assert closed is not None
        assert left is not None
        assert (left.nodes, left.share) == (closed.nodes, pytest.approx(closed.share, abs=1e-7))


def test_the_spectrum_shows_all_eigenvalues_in_their_places() -> None:
    figure = plot_spectrum(TWO_RINGS)
    points = {
        (round(float(line.get_xdata()[0]), 9), round(float(line.get_ydata()[0]), 9))
        for line in figure.axes[0].lines
        if line.get_marker() == "o"
    }
    expected = {(round(v.real, 9), round(v.imag, 9)) for v in fs.spectrum(TWO_RINGS, 20).values}
    assert points == expected
    circle = [patch for patch in figure.axes[0].patches if isinstance(patch, Circle) and not patch.get_fill()]
    part = fs.spectrum(TWO_RINGS).classes[0]
    assert part.gap is not None
    assert [c.radius for c in circle] == pytest.approx([part.root - part.gap])
    assert "period 3: a → b → c → a (100%)" in said(plot_spectrum(RING))


def test_a_spectrum_without_cycles() -> None:
    texts = said(plot_spectrum(chain_of({"a": {"b": 1}, "b": {}}, "a")))
    assert "no cycle: all eigenvalues are 0" in texts


def test_a_vector_that_cannot_be_found_leaves_the_period_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turning, "LARGEST", 1)
    assert "period 3: no one cycle" in said(plot_spectrum(RING))


def test_generations_show_means_deviations_and_who_is_alive() -> None:
    found = fs.generations(STORM, horizon=12)
    figure = plot_generations(found)
    above, below = figure.axes
    assert list(above.lines[0].get_ydata()) == pytest.approx([g.messages for g in found.generations])
    assert list(below.lines[0].get_ydata()) == pytest.approx([g.alive for g in found.generations])
    band = above.collections[0].get_paths()[0].vertices
    for g in found.generations:
        heights = [y for x, y in band if x == g.generation]
        assert max(heights) == pytest.approx(g.messages + g.deviation)
    assert above.get_yscale() == "log"
    assert plot_generations(shop()).axes[0].get_yscale() == "linear"
    assert plot_generations(STORM, horizon=0).axes[0].get_yscale() == "linear"
    assert plot_generations(STORM, 400).axes[0].get_yscale() == "log"


@pytest.mark.parametrize("make", [plot_flows, plot_coverage, plot_spectrum, plot_generations])
def test_files_are_the_same_each_time(make, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for suffix, head in ((".svg", b"<?xml"), (".png", b"\x89PNG"), (".pdf", b"%PDF")):
        places = [tmp_path / f"{k}{suffix}" for k in range(2)]
        for place in places:
            make(shop()).save(place)
        assert places[0].read_bytes() == places[1].read_bytes()
        assert places[0].read_bytes().startswith(head)
    assert not re.search(r"<dc:date>", make(shop()).svg)
    assert make(shop())._repr_png_().startswith(b"\x89PNG")


def test_saving_to_another_ending_or_nowhere(tmp_path: Path) -> None:
    figure = plot_flows(RING)
    assert isinstance(figure, Plot)
    with pytest.raises(OutputError, match=r"must end in \.svg, \.png or \.pdf"):
        figure.save(tmp_path / "a.dot")
    with pytest.raises(OutputError, match="No such file"):
        figure.save(tmp_path / "nowhere" / "a.svg")


@pytest.mark.parametrize("make", [plot_flows, plot_coverage, plot_spectrum])
def test_axes_of_ones_own(make) -> None:  # type: ignore[no-untyped-def]
    figure = Figure()
    first, second = figure.subplots(1, 2)
    assert make(shop(), ax=second) is figure
    assert not first.lines
    assert not first.patches
    figure.savefig(io.BytesIO(), format="png")
    with pytest.raises(OutputError, match="Axes"):
        make(shop(), ax="left")


def test_errors_say_what_to_give() -> None:
    for call in (
        lambda: plot_flows("chain"),  # type: ignore[arg-type]
        lambda: plot_coverage("chain"),  # type: ignore[arg-type]
        lambda: plot_spectrum(fs.spectrum(RING)),  # type: ignore[arg-type]
    ):
        with pytest.raises(OutputError, match="give a chain"):
            call()
    with pytest.raises(OutputError, match="at least one flow"):
        plot_flows(RING, 0)
    with pytest.raises(OutputError, match="at least one"):
        plot_coverage(RING, 0)
    empty = fs.flows(RING).__class__((), 0.0, False)
    with pytest.raises(OutputError, match="no flow to draw"):
        plot_flows(empty)
    with pytest.raises(OutputError, match="no flows to draw"):
        plot_coverage(empty)


HOSTILE = ["$x^2$", "\\N", "a\nb", "<b>", "用户", "🙂", "\0", "x" * 300, "é", "‮evil", "%", "_", "{}", "\u0301"]


@pytest.mark.parametrize("name", HOSTILE)
def test_any_name_is_drawn_and_none_as_a_box(name: str) -> None:
    chain = Chain.from_matrix([[0.2, 0.5], [0.3, 0]], [name, "other"], name, stop=[0.3, 0.7])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for make in (plot_flows, plot_spectrum, plot_coverage, plot_generations):
            figure = make(chain)  # type: ignore[operator]
            figure.savefig(io.BytesIO(), format="png")
        texts = said(plot_flows(chain))
    assert any(drawable(name, 32) in text for text in texts)
    for text in texts:
        assert all(ord(c) < 127 or figures._font_of(c) for c in text)
        assert len(text) < 120


def test_what_no_font_has_is_written_as_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "_font_of", lambda char: "" if char == "用" else "DejaVu Sans")
    assert drawable("用a", 10) == "\\u7528a"
    assert fonts("用a") == {"family": ["DejaVu Sans"], "parse_math": False}
    assert wide("") == 0.0 < wide("i") < wide("m")


@given(chains(traps=True))
@settings(max_examples=25, deadline=None)
def test_any_chain_is_drawn_and_texts_are_large_enough(chain: Chain) -> None:
    for make in (plot_flows, plot_coverage, plot_spectrum, plot_generations):
        figure = make(chain)  # type: ignore[operator]
        sizes = [text.get_fontsize() for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
        assert min(sizes) >= 8


def test_many_flows_have_names_that_do_not_overlap() -> None:
    rng = np.random.default_rng(5)
    n = 40
    P = np.zeros((n, n))
    for i in range(n - 1):
        targets = rng.choice(np.arange(i + 1, min(n, i + 7)), min(3, n - 1 - i), replace=False)
        P[i, targets] = rng.dirichlet(np.ones(len(targets))) * 0.9
    chain = Chain.from_matrix(P, [f"node {k}" for k in range(n)], "node 0", stop=1 - P.sum(axis=1))
    figure = plot_flows(chain, 40)
    axes = figure.axes[0]
    ends = [t for t in axes.texts if t.get_va() == "center"]
    assert len(ends) > 10
    heights = sorted(t.get_position()[1] for t in ends)
    assert min(b - a for a, b in pairwise(heights)) >= 9 / 72


def test_the_command(run_flowstat, tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    cli, place = run_flowstat, tmp_path
    monkeypatch.chdir(place)
    (place / "app.graph").write_text("a/x -> a @0.25; a/y -> b @0.5; b -> c, d")
    for what in ("flows", "coverage", "spectrum", "generations"):
        code, out, _ = cli("draw", "app.graph", "--of", what, "-o", "x.pdf")
        assert (code, out) == (0, "")
        assert (place / "x.pdf").read_bytes().startswith(b"%PDF")
        code, out, _ = cli("draw", "app.graph", "--of", what)
        assert code == 0
        assert "<svg" in out
    assert cli("draw", "app.graph", "--nodes", 1, "-o", "x.dot")[0] == 0
    assert "3 of 4 nodes" in (place / "x.dot").read_text()
    assert cli("draw", "app.graph", "--of", "flows", "--top", 1, "-o", "x.png")[0] == 0
    for wrong in (("--of", "flows", "--nodes", 3), ("--top", 3), ("--of", "flows", "--horizon", 3), ("-o", "x.gif")):
        code, _, err = cli("draw", "app.graph", *wrong)
        assert code == 2
        assert "Traceback" not in err
    assert cli("draw", "app.graph", "--of", "flows", "-o", "x.dot")[0] == 2
