"""How fast the foremost cycles are found, beside k shortest paths from every root, merged, and full enumerations."""

import subprocess
import sys
import warnings
from heapq import merge
from itertools import islice

import igraph
import networkx as nx
import numpy as np
import rustworkx
from scipy import sparse
from scipy.sparse import csgraph

from flowstat.analyze.cycle_search import lightest
from flowstat.analyze.cycles import cycles, iter_cycles
from flowstat.estimate.chain import Chain
from tests.benchmarks.harness import Row, alternate, median_ratio

TOP = 100

AGAIN = 20
"""What takes a millisecond is done so often, lest a pause of the machine decides."""


def dense(n, seed=3):
    """Return a chain in which all nodes lead to all others, with random shares."""
    shares = np.random.default_rng(seed).dirichlet(np.ones(n), n) * 0.9
    np.fill_diagonal(shares, 0)
    return Chain.from_matrix(shares, start="0", stop=1 - shares.sum(axis=1))


def program(nodes, size, degree=4, seed=1):
    """Return a chain in which nodes lead to some within their class of `size`, and now and then to the next ones."""
    rng = np.random.default_rng(seed)
    rows = np.repeat(np.arange(nodes), degree)
    columns = rows // size * size + rng.integers(0, size, nodes * degree)
    ring = np.arange(nodes)
    rows = np.concatenate([rows, ring])
    columns = np.concatenate([columns, ring // size * size + (ring + 1) % size]) % nodes
    kept = np.unique(rows * nodes + columns)
    rows, columns = kept // nodes, kept % nodes
    shares = rng.exponential(size=len(rows))
    shares *= 0.95 / np.bincount(rows, shares, nodes)[rows]
    P = sparse.csr_array((shares, (rows, columns)), shape=(nodes, nodes))
    return Chain.from_matrix(P, start="0", stop=1 - P.sum(axis=1))


def calls(nodes, back=0.01, seed=2):
    """Return a call graph that is nearly without cycles: arrows go on to later nodes, a few back to near ones."""
    rng = np.random.default_rng(seed)
    rows = np.repeat(np.arange(nodes - 1), 3)
    columns = np.minimum(rows + 1 + rng.integers(0, 50, len(rows)), nodes - 1)
    some = rng.choice(nodes, int(back * nodes), replace=False)
    rows, columns = (
        np.concatenate([rows, some]),
        np.concatenate([columns, np.maximum(some - rng.integers(0, 3, len(some)), 0)]),
    )
    kept = np.unique(rows * nodes + columns)
    rows, columns = kept // nodes, kept % nodes
    degrees = np.bincount(rows, minlength=nodes)
    P = sparse.csr_array((0.9 / degrees[rows], (rows, columns)), shape=(nodes, nodes))
    return Chain.from_matrix(P, start="0", stop=1 - P.sum(axis=1))


def weighted(chain):
    W = chain.P.copy()
    W.data = -np.log(W.data)
    return W


def by_yen(chain, top):
    W, n = weighted(chain).toarray(), len(chain.names)
    found = []
    for root in range(n - 1):
        size = n - root
        split = np.zeros((size + 1, size + 1))
        split[:size, 1:size], split[:size, size] = W[root:, root + 1 :], W[root:, root]
        found.append(csgraph.yen(sparse.csr_array(split), 0, size, top))
    return np.sort(np.concatenate(found))[:top]


def by_networkx(chain, top):
    W, n = weighted(chain).toarray(), len(chain.names)
    found = []
    for root in range(n - 1):
        graph = nx.DiGraph()
        for i in range(root, n):
            for j in range(root, n):
                if i != j:
                    graph.add_edge(i, n if j == root else j, weight=W[i, j])
        paths = islice(nx.shortest_simple_paths(graph, root, n, weight="weight"), top)
        found.append([nx.path_weight(graph, path, "weight") for path in paths])
    return np.array(list(islice(merge(*found), top)))


def by_igraph(chain, top, roots=None):
    """Take k shortest paths from every root, each within its class, among nodes after the root."""
    W = weighted(chain)
    number, label = csgraph.connected_components(W, connection="strong")
    order = np.argsort(label, kind="stable")
    found = []
    left = roots
    for states in np.split(order, np.cumsum(np.bincount(label, minlength=number))[:-1]):
        if len(states) < 2:
            continue
        block = sparse.coo_array(W[states][:, states])
        k = len(states)
        for root in range(k - 1):
            if left is not None:
                if not left:
                    return found
                left -= 1
            later = (block.row >= root) & (block.col >= root) & (block.row != block.col)
            columns = np.where(block.col[later] == root, k, block.col[later])
            weights = block.data[later]
            graph = igraph.Graph(k + 1, np.stack([block.row[later], columns], axis=1), directed=True)
            graph.es["weight"] = weights
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # some roots have no way back
                paths = graph.get_k_shortest_paths(root, k, k=top, mode="out", weights="weight", output="epath")
            found += [weights[path].sum() for path in paths if path]
    return np.sort(found)[:top]


def searched(chain, top):
    """Return the cycles' positions: the peers say no more."""
    rows, columns, shares = chain.arrows()
    return lightest(chain.names, (rows, columns, np.maximum(-np.log(shares), 0.0)), top).paths


def listed(chain, top):
    return [c.probability for c in iter_cycles(chain, flux=False, top=top)]


GIANT = """
import resource, sys
from tests.benchmarks.bench_cycles import program
from flowstat.analyze.cycle_search import lightest
from flowstat.analyze.cycles import cycles
chain = program(100_000, 100_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = cycles(chain, 20)
assert found.complete and found.covered is not None
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / 1024, before / 1024)
"""


WHOLE = """
import sys, time
import numpy as np
from tests.benchmarks.made_chains import giant
from flowstat.analyze.cycle_search import lightest
from flowstat.estimate.chain import Chain
P, stop = giant(int(sys.argv[1]))
chain = Chain.from_matrix(P, start="0", stop=stop)
rows, columns, shares = chain.arrows()
begin = time.perf_counter()
found = lightest(chain.names, (rows, columns, np.maximum(-np.log(shares), 0.0)), 100)
assert found.complete and (len(found.paths), found.sure) == (100, 100)
seconds = time.perf_counter() - begin
# Not ru_maxrss, which begins with that of the process that started this one.
print(seconds, next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024)
"""


def one_way(k):
    """Return a chain on a torus that goes on or down, so that no cycle is shorter than a side."""
    i = np.arange(k * k)
    columns = np.concatenate([(i // k + 1) % k * k + i % k, i // k * k + (i % k + 1) % k])
    shares = np.random.default_rng(4).random(2 * k * k) + 0.01
    P = sparse.csr_array((shares, (np.concatenate([i, i]), columns)), shape=(k * k, k * k))
    P = sparse.csr_array(P * (0.99 / np.asarray(P.sum(axis=1)).ravel()[:, None]))
    return Chain.from_matrix(P, start="0", stop=1 - np.asarray(P.sum(axis=1)).ravel())


def diamonds(number=200, even=False):
    """Return a chain of diamonds that leads nowhere but to its own beginning, where runs come in by a loop."""
    names = ["in", "s0"]
    arrows = {("in", "s0"): 1.0, ("s0", "in"): 0.5}
    for k in range(number):
        names += [f"a{k}", f"b{k}", f"s{k + 1}"]
        share = 0.5 if k else 0.2
        arrows |= {(f"s{k}", f"a{k}"): share, (f"s{k}", f"b{k}"): share if even else share * 0.9}
        arrows |= {(f"a{k}", f"s{k + 1}"): 0.99, (f"b{k}", f"s{k + 1}"): 0.99}
    arrows[f"s{number}", "s0"] = 0.9
    index = {name: k for k, name in enumerate(names)}
    rows, columns = zip(*((index[i], index[j]) for i, j in arrows), strict=True)
    P = sparse.csr_array((list(arrows.values()), (rows, columns)), shape=(len(names), len(names)))
    return Chain.from_matrix(P, names, "in", stop=np.maximum(1 - P.sum(axis=1), 0.0))


def benchmarks():
    chain = dense(30)
    ours, yen = alternate(
        lambda: [searched(chain, TOP) for _ in range(AGAIN)], lambda: [by_yen(chain, TOP) for _ in range(AGAIN)]
    )
    assert np.allclose(listed(chain, TOP), np.exp(-by_yen(chain, TOP)), rtol=1e-9)
    yield Row(
        "K30, 100 cycles: scipy yen / flowstat",
        median_ratio(yen, ours),
        15,
        "at least",
        f"{sorted(ours)[3] / AGAIN * 1e3:.2f} ms",
    )
    ours, other = alternate(lambda: searched(chain, TOP), lambda: by_networkx(chain, TOP), repetitions=3)
    yield Row("K30, 100 cycles: networkx / flowstat", median_ratio(other, ours), 50, "at least", f"{other[1]:.2f} s")
    whole, ours = alternate(lambda: cycles(chain, TOP), lambda: listed(chain, TOP))
    yield Row("K30, 100 cycles: with fluxes / without", median_ratio(whole, ours), 20, "at most", "bounds proven")
    chain = program(100_000, 67)
    some = 1500
    ours, other = alternate(lambda: listed(chain, TOP), lambda: by_igraph(chain, TOP, some), repetitions=3)
    scaled = [t * 100_000 / some for t in other]
    detail = f"{ours[1]:.2f} s; igraph on {some:,} roots, scaled"
    yield Row("100,000 nodes in 1,500 classes: igraph / flowstat", median_ratio(scaled, ours), 6, "at least", detail)
    made = subprocess.run([sys.executable, "-c", GIANT], capture_output=True, text=True, check=True).stdout.split()
    detail = f"{float(made[1]):.0f} MB before"
    yield Row("one class of 100,000 nodes, fluxes too: MB / 500", float(made[0]) / 500, 1, "at most", detail)
    for nodes in (10_000, 100_000):
        made = subprocess.run(
            [sys.executable, "-c", WHOLE, str(nodes)], capture_output=True, text=True, check=True
        ).stdout.split()
        seconds, most = map(float, made)
        what = f"100 cycles of one class of {nodes:,} nodes, four arrows each, whole"
        yield Row(f"{what}: seconds", seconds, 1 if nodes < 100_000 else 15, "at most", "all proven")
        yield Row(f"{what}: MB / 500", most / 500, 1, "at most", "")
    for side in (100, 316):
        chain = one_way(side)
        ours, _ = alternate(lambda c=chain: listed(c, TOP), lambda: None, repetitions=3)
        assert len(set(listed(chain, TOP))) == TOP
        detail = "no cycle shorter than a side"
        yield Row(
            f"one-way torus of {side * side:,} nodes, 100 cycles: seconds", sorted(ours)[1], 30, "at most", detail
        )
    chain = calls(10_000)
    graph = rustworkx.PyDiGraph()
    graph.add_nodes_from(range(10_000))
    rows, columns, _ = chain.arrows()
    graph.add_edges_from_no_data(list(zip(rows.tolist(), columns.tolist(), strict=True)))
    ours, other = alternate(lambda: searched(chain, 10**6), lambda: list(rustworkx.simple_cycles(graph)))
    assert len(listed(chain, 10**6)) == len(list(rustworkx.simple_cycles(graph)))
    detail = f"{len(listed(chain, 10**6)):,} cycles, {ours[3] * 1e3:.1f} ms"
    yield Row("calls, 10,000 nodes: flowstat / rustworkx", median_ratio(ours, other), 1, "at most", detail)
    chain, plain = diamonds(), dense(30)
    ours, other = alternate(lambda: listed(chain, 20), lambda: listed(plain, 1000), repetitions=3)
    yield Row("200 diamonds, 20 cycles: seconds", sorted(ours)[1], 5, "at most", "2^200 cycles")
    yield Row("K30, 1,000 cycles: seconds", sorted(other)[1], 1, "at most", "")
