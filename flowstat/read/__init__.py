"""Graph files and trace files become `Graph` and `Traces`."""
