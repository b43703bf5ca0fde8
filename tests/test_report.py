"""The report and the sentences in it."""

import hashlib
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import flowstat as fs
from flowstat.estimate.latency import Latency
from flowstat.explain.sentences import absorption_sentences, data_sentences, loop_sentence
from flowstat.results import Result
from flowstat.show.sources import sources_of

STRANGE = 'a -> "<script>alert(1)</script>"; a -> "b & c"; "b & c" -> "b & c" @0.5; "b & c" -> "ünï" @0.5;'


def chain_of(text, table=(), starts=()):
    graph = fs.parse_graph(text)
    return fs.estimate(fs.Counts(dict(table), dict(starts)), graph)


class Balance(HTMLParser):
    void = frozenset({"meta", "br", "img", "hr", "link", "input"})

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("text", ["a", "a; b; c", "a -> a", STRANGE, "a -> b -> a", "a/x -> a @0.2; a/y -> b @0.8"])
def test_html_is_whole_and_self_contained(text, tmp_path):
    path = fs.report(chain_of(text), tmp_path / "r.html")
    html = path.read_text()
    parser = Balance()
    parser.feed(html)
    assert not parser.open
    assert "<script" not in html
    assert not re.search(r"(src|href)=[\"'](?!#)", html), "nothing is loaded from elsewhere"
    assert "nan" not in html.lower().split()


def test_same_input_same_bytes(tmp_path):
    chain = chain_of(STRANGE)
    assert (
        fs.report(chain, tmp_path / "a.html", title="t").read_bytes()
        == fs.report(chain, tmp_path / "b.html", title="t").read_bytes()
    )


def test_markdown_has_every_section(tmp_path):
    text = fs.report(chain_of("a/retry -> a @0.25; a/ok -> b"), tmp_path / "r.md").read_text()
    for heading in ("Where the numbers come from", "Loops", "Most probable cycles", "Where runs end"):
        assert f"## {heading}" in text
    assert "entered in 25.0% of runs, 1.333 rounds" in text


def test_unwritable_places_are_clear_errors(tmp_path):
    with pytest.raises(fs.OutputError, match=r"\.html, \.md or \.pdf"):
        fs.report(chain_of("a"), tmp_path / "r.docx")
    with pytest.raises(fs.OutputError, match="can't write"):
        fs.report(chain_of("a"), tmp_path / "nowhere" / "r.html")


def test_the_sentence_of_a_self_loop():
    (loop,) = fs.loops(chain_of("pay/retry -> pay @0.25; pay/ok -> ship @0.75")).loops
    assert loop_sentence(loop) == (
        "pay -> pay (self-injection, key `retry`): entered in 25.0% of runs, 1.333 rounds on average; "
        "leaves to ship 100%; carries 57.1% of all events; gain 0.25, dampens."
    )


def test_the_sentence_of_a_trap():
    chain = chain_of("a -> b -> c -> b")
    (loop,) = fs.loops(chain).loops
    assert "never left: such a run never ends" in loop_sentence(loop)
    assert "stuck for ever in {b, c} in 100%" in absorption_sentences(fs.absorption(chain))[0]


def test_data_sentences_name_what_needs_attention():
    graph = fs.parse_graph("a -> b")
    counts = fs.Counts({("x", ""): 3}, {"x": 3}, undeclared={("x", "y"): 1}, pending={"x": 2})
    said = " ".join(data_sentences(fs.estimate(counts, graph)))
    assert "undeclared" in said
    assert "is it the right graph?" in said
    assert "never handled (status pending): 2 in all, x 2" in said


COUNTED = {
    ("pay", "pay"): 30,
    ("pay", "ship mail"): 80,
    ("pay", "lost"): 10,
    ("ship", ""): 80,
    ("mail", ""): 80,
    ("lost", ""): 10,
}


def counted():
    return chain_of("pay/retry -> pay; pay/ok -> ship, mail; pay/no -> lost", COUNTED, {"pay": 90})


class Verdict(Result):
    title = "Checks"
    columns = ("name", "verdict")

    def rows(self):
        return [{"name": "ships", "verdict": "holds"}]

    def notes(self):
        return ("One of one holds.",)


def test_verdicts_come_first_and_every_part_is_there(tmp_path):
    given = dict.fromkeys(("verdicts", "model", "conformance", "changes"), (Verdict(),))
    html = fs.report(counted(), tmp_path / "r.html", **given).read_text()
    headings = re.findall(r"<h2 id=\"[^\"]*\">([^<]*)</h2>", html)
    assert headings[:4] == ["Verdicts", "Findings", "Where the numbers come from", "The graph"]
    for part in (
        "Where runs end",
        "Loops",
        "Storms: do messages multiply?",
        "Most probable flows",
        "Timing",
        "What the number of events hangs on",
        "Where the model fails",
        "Conformance",
        "What changed",
        "Method",
        "Words",
    ):
        assert part in headings
    links = re.findall(r"href=\"#([^\"]*)\"", html)
    ids = re.findall(r" id=\"([^\"]*)\"", html)
    assert set(links) <= set(ids)
    assert html.count("<figure>") == html.count("<figcaption") == 2


def test_numbers_have_intervals_in_words_and_tables(tmp_path):
    text = fs.report(counted(), tmp_path / "r.md").read_text()
    assert re.search(r"entered in 25\.0% \(\d\d\.\d% to \d\d\.\d%\) of (runs|lineages)", text)
    assert re.search(r"events on average \(\d\.\d+ to \d\.\d+\)", text)
    assert "| outcome | kind | probability | low | high |" in text


def test_a_storm_is_the_first_finding(tmp_path):
    chain = chain_of("a/x -> a; a/y -> b", {("a", "a*2"): 60, ("a", "b"): 40}, {"a": 40})
    text = fs.report(chain, tmp_path / "r.md").read_text()
    first = text.split("## Findings")[1].strip().splitlines()[0]
    assert "messages multiply" in first


def test_times_are_told_where_there_are_some(tmp_path):
    latency = Latency.of([10**9, 2 * 10**9])
    counts = fs.Counts({("a", "b"): 2, ("b", ""): 2}, {"a": 2}, latencies={("a", "b"): latency})
    timed = fs.report(fs.estimate(counts, fs.parse_graph("a -> b")), tmp_path / "r.md").read_text()
    assert "Timing: how long runs take" in timed
    assert "not known" in fs.report(counted(), tmp_path / "s.md").read_text()


def test_files_are_named_with_their_hashes(tmp_path):
    graph = tmp_path / "a.graph"
    graph.write_text("a -> b")
    found = sources_of(graph)
    assert found.rows()[0]["sha256"] == hashlib.sha256(b"a -> b").hexdigest()
    traces = fs.read_traces(Path(__file__).parents[1] / "data" / "orders.parquet")
    found = sources_of(None, traces, fs.summarise(traces))
    assert found.rows()[0]["events"] == 16729
    assert len(found.rows()[0]["sha256"]) == 64
    html = fs.report(counted(), tmp_path / "r.html", sources=found).read_text()
    assert found.rows()[0]["sha256"] in html


def test_a_report_on_paper_is_the_same_each_time(tmp_path):
    first, second = (fs.report(counted(), tmp_path / f"{k}.pdf", title="t").read_bytes() for k in "ab")
    assert first == second
    assert first.startswith(b"%PDF")
    assert "SOURCE_DATE_EPOCH" not in os.environ
