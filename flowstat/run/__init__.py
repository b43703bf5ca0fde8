"""The reference runtime: a graph and behaviours become trace files."""
