"""How likely a chain takes each recorded run to be, and which of its events it takes to be the least likely."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flowstat.estimate.histories import LOST, ROOT, Keys, Words
from flowstat.estimate.pattern_law import PatternLaw
from flowstat.read.patterns import parse_pattern, sorted_pattern

__all__ = ["RunScores", "Scoring"]

Index = npt.NDArray[np.int64]
Vector = npt.NDArray[np.float64]

COLUMNS = ("trace_id", "span_id", "parent_id", "parent", "name", "sent", "status")

WHOLE = ("starts", "events", "messages")


@dataclass(frozen=True, eq=False)
class RunScores:
    """Runs with their log-likelihoods.

    Attributes
    ----------
    file : (n,)
        In which of the traces given it is.
    runs : (n,)
        Their ids, as texts.
    starts, events, messages : (n,)
        How many events of it nothing sent, how many events it has, and how many messages these sent.
    scores : (n,)
        Log-likelihood of all that its events sent, and of where it starts; minus infinity for what cannot be.
    rarest : (n,)
        Log-likelihood of its least likely event.
    spans, steps : (n,)
        The id of that event, and what it is: the place of (node, send pattern) in `kinds`.
    kinds
        (node, send pattern).
    """

    file: Index
    runs: pa.Array
    starts: Index
    events: Index
    messages: Index
    scores: Vector
    rarest: Vector
    spans: pa.Array
    steps: Index
    kinds: tuple[tuple[str, str], ...]

    @property
    def whole(self) -> npt.NDArray[np.bool_]:
        """Whether all of a run was recorded: one start, and each of its messages handled."""
        found: npt.NDArray[np.bool_] = (self.starts == 1) & (self.events == self.messages + 1)
        return found


class Scoring:
    """Adds up the log-likelihoods of runs, batch by batch."""

    def __init__(self, law: PatternLaw) -> None:
        self.law = law
        self.nodes, self.patterns = Words(), Words(sorted_pattern)
        self.pairs, self.triples = Keys(), Keys()
        self.chances: list[float] = []
        self.begin: list[float] = []
        self.kind: list[int] = []
        self.sizes: list[int] = []
        self.parts: list[pa.Table] = []
        self.done: list[pa.Table] = []

    def add(self, batch: pa.RecordBatch) -> None:
        """Take rows of the file that is being read."""
        names = batch.schema.names
        table = pa.table([batch.column(names.index(c)) for c in COLUMNS], names=list(COLUMNS))
        table = table.filter(pc.is_in(table["status"].cast(pa.string()), pa.array(["ok", "error"]))).combine_chunks()
        if not table.num_rows:
            return
        rows = {c: table[c].chunk(0) for c in COLUMNS}
        node, sent, before = (
            words.codes(rows[c]) for words, c in ((self.nodes, "name"), (self.patterns, "sent"), (self.nodes, "parent"))
        )
        root = pc.is_null(rows["parent_id"]).to_numpy(zero_copy_only=False)
        before = np.where(root, ROOT, np.where(before < 0, LOST, before + 2))
        triple = self.triples.codes(before, self.pairs.codes(node, sent))
        self._learn()
        chance = np.array(self.chances)[triple] + np.where(root, np.array(self.begin)[node], 0.0)
        coded = rows["trace_id"].dictionary_encode()
        run = coded.indices.to_numpy().astype(np.int64)
        number = len(coded.dictionary)
        order = np.lexsort((chance, run))
        first = order[np.searchsorted(run[order], np.arange(number))]
        self.parts.append(
            pa.table(
                {
                    "run": coded.dictionary,
                    "starts": np.bincount(run, root, number).astype(np.int64),
                    "events": np.bincount(run, minlength=number),
                    "messages": np.bincount(run, np.array(self.sizes)[triple], number).astype(np.int64),
                    "score": np.bincount(run, chance, number),
                    "rarest": chance[first],
                    "span": rows["span_id"].take(pa.array(first)),
                    "step": np.array(self.kind, np.int64)[triple[first]],
                }
            )
        )

    def _learn(self) -> None:
        """Ask for the chances of what is new."""
        nodes, patterns, pairs = list(self.nodes.index), list(self.patterns.index), list(self.pairs.pairs())
        for before, pair in self.triples.pairs(len(self.chances)):
            node, sent = pairs[pair]
            where = None if before < 2 else nodes[before - 2]
            self.chances.append(self.law.log_chance(where, nodes[node], patterns[sent]))
            self.kind.append(pair)
            # No run has so many events: more would not fit into a number.
            self.sizes.append(min(sum(times for _, times in parse_pattern(patterns[sent])), 1 << 40))
        self.begin += [self.law.log_start(name) for name in nodes[len(self.begin) :]]

    def finish(self) -> None:
        """Put together the runs of a file: its ids are its own."""
        if not self.parts:
            self.done.append(pa.table({"run": pa.array([], pa.string())}))
            return
        table = pa.concat_tables(self.parts).combine_chunks()
        self.parts = []
        coded = table["run"].combine_chunks().dictionary_encode()
        run = coded.indices.to_numpy().astype(np.int64)
        number = len(coded.dictionary)
        rarest = table["rarest"].to_numpy()
        order = np.lexsort((rarest, run))
        first = order[np.searchsorted(run[order], np.arange(number))]
        least = table.take(pa.array(first))
        # Numbers in floats: no run has 2^53 events.
        sums = {c: np.bincount(run, table[c].to_numpy(), number) for c in (*WHOLE, "score")}
        self.done.append(
            pa.table(
                {
                    "run": coded.dictionary.cast(pa.string()),
                    **{c: sums[c].astype(np.int64) for c in WHOLE},
                    "score": sums["score"],
                    "rarest": least["rarest"].combine_chunks(),
                    "span": least["span"].combine_chunks().cast(pa.string()),
                    "step": least["step"].combine_chunks(),
                }
            )
        )

    def result(self) -> RunScores:
        """Return all runs, file by file in the order of their first events."""
        nodes, patterns = list(self.nodes.index), list(self.patterns.index)
        kinds = tuple((nodes[i], patterns[s]) for i, s in self.pairs.pairs())
        full = [part for part in self.done if part.num_columns > 1]
        file = np.repeat(np.arange(len(self.done)), [part.num_rows for part in self.done])
        if not full:
            none, never = np.zeros(0, np.int64), np.zeros(0)
            empty = pa.array([], pa.string())
            return RunScores(none, empty, none, none, none, never, never, empty, none, kinds)
        table = pa.concat_tables(full).combine_chunks()
        numbers = {c: table[c].to_numpy() for c in (*WHOLE, "score", "rarest", "step")}
        return RunScores(
            file,
            table["run"].combine_chunks(),
            numbers["starts"],
            numbers["events"],
            numbers["messages"],
            numbers["score"],
            numbers["rarest"],
            table["span"].combine_chunks(),
            numbers["step"],
            kinds,
        )
