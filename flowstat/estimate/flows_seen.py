"""Which flows traces show, with their keys: how many messages, and examples of those that are not as declared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flowstat.estimate.histories import Keys, Words
from flowstat.read.patterns import parse_pattern, sorted_pattern

__all__ = ["Example", "Flow", "FlowTally", "FlowsSeen"]

Index = npt.NDArray[np.int64]

COLUMNS = ("trace_id", "span_id", "parent_id", "parent", "name", "key", "sent", "status")

EXAMPLES = 3


class Flow(NamedTuple):
    """Messages from a node to another with a key; the source is None for what is injected, the key where unknown.

    The target is None for messages that no arrow took.
    """

    source: str | None
    target: str | None
    key: str | None


class Example(NamedTuple):
    """An event: its run and its span, by their ids as texts."""

    trace: str
    span: str


@dataclass(frozen=True)
class FlowsSeen:
    """What traces show.

    Attributes
    ----------
    messages
        Flow -> messages that were recorded, whether handled or not.
    examples
        Flow -> some of the events that handle them, for flows that were asked for.
    senders
        (source, target) -> some of the events that sent such a message, for pairs that were asked for.
    """

    messages: dict[Flow, int] = field(default_factory=dict)
    examples: dict[Flow, list[Example]] = field(default_factory=dict)
    senders: dict[tuple[str, str], list[Example]] = field(default_factory=dict)


class FlowTally:
    """Counts the flows of rows, batch by batch.

    Parameters
    ----------
    odd
        Of which flows examples are kept.
    """

    def __init__(self, odd: Callable[[Flow], bool]) -> None:
        self.odd = odd
        self.nodes, self.keys, self.patterns = Words(), Words(), Words(sorted_pattern)
        self.ends, self.flows, self.pairs = Keys(), Keys(), Keys()
        self.counts: Counter[int] = Counter()
        self.named: list[tuple[Flow, bool]] = []
        self.strange: list[tuple[tuple[str, str], ...]] = []
        self.seen = FlowsSeen()

    def add(self, batch: pa.RecordBatch) -> None:
        """Take some rows."""
        names = batch.schema.names
        rows = {c: batch.column(names.index(c)) for c in COLUMNS}
        if not batch.num_rows:
            return
        status = rows["status"].cast(pa.string())
        node, source = self.nodes.codes(rows["name"]), self.nodes.codes(rows["parent"])
        root = pc.is_null(rows["parent_id"]).to_numpy(zero_copy_only=False)
        lost = pc.equal(status, "dropped").to_numpy(zero_copy_only=False)
        # An event whose sender is not known came along an arrow that is not known.
        told = root | (source >= 0)
        source, target = np.where(root, 0, source + 1), np.where(lost, 0, node + 1)
        flow = self.flows.codes(self.ends.codes(source, target), self.keys.codes(rows["key"]) + 1)
        self._name()
        here = np.flatnonzero(told & ~(root & lost))
        numbers = np.bincount(flow[here], minlength=len(self.named))
        for k in np.flatnonzero(numbers).tolist():
            self.counts[k] += int(numbers[k])
            about, odd = self.named[k]
            if odd:
                self._keep(self.seen.examples.setdefault(about, []), rows, here[flow[here] == k])
        self._senders(rows, node, pc.is_in(status, pa.array(["ok", "error"])).to_numpy(zero_copy_only=False))

    def _senders(self, rows: dict[str, pa.Array], node: Index, handled: Index) -> None:
        """Keep examples of events whose send patterns have pairs that were asked for."""
        sent = self.patterns.codes(rows["sent"])
        some = np.flatnonzero(handled & (sent >= 0))
        pair = self.pairs.codes(node[some], sent[some])
        nodes, patterns = list(self.nodes.index), list(self.patterns.index)
        for i, s in self.pairs.pairs(len(self.strange)):
            targets = [target for target, _ in parse_pattern(patterns[s])]
            self.strange.append(tuple((nodes[i], t) for t in targets if self.odd(Flow(nodes[i], t, None))))
        odd = np.array([bool(pairs) for pairs in self.strange], bool)
        for k in np.unique(pair[odd[pair]]).tolist():
            for ends in self.strange[k]:
                self._keep(self.seen.senders.setdefault(ends, []), rows, some[pair == k])

    def _keep(self, kept: list[Example], rows: dict[str, pa.Array], places: Index) -> None:
        for place in places[: EXAMPLES - len(kept)].tolist():
            kept.append(Example(str(rows["trace_id"][place].as_py()), str(rows["span_id"][place].as_py())))

    def _name(self) -> None:
        """Put new flows into words."""
        nodes, keys, ends = list(self.nodes.index), list(self.keys.index), list(self.ends.pairs())
        for end, key in self.flows.pairs(len(self.named)):
            source, target = ends[end]
            flow = Flow(
                nodes[source - 1] if source else None,
                nodes[target - 1] if target else None,
                keys[key - 1] if key else None,
            )
            self.named.append((flow, self.odd(flow)))

    def result(self) -> FlowsSeen:
        """Return what was seen."""
        for k, n in self.counts.items():
            self.seen.messages[self.named[k][0]] = n
        return self.seen
