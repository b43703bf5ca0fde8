"""A trace kept in memory, for tests that look at rows."""

from flowstat.read.canonical import TIMES, schema


class Rows:
    """A trace writer that keeps its rows."""

    times = TIMES

    def __init__(self):
        self.rows = []
        self.sizes = []

    def write(self, batch):
        assert batch.schema == schema()
        batch.validate(full=True)
        self.rows += batch.to_pylist()
        self.sizes.append(len(batch))

    def close(self): ...

    def column(self, name):
        return [row[name] for row in self.rows]


def record(run):
    """Call `run` with a writer; return its result and the rows."""
    rows = Rows()
    return run(rows), rows
