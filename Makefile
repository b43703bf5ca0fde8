# Everything a fresh machine needs: Python 3.11 and make.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: demo test lint benchmark data clean

# The environment is rebuilt when the declared or the pinned dependencies change.
$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check --upgrade -c constraints.txt pip
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt --build-constraint constraints.txt --group test -e .
	@touch $@

demo: $(VENV)/.ready
	@mkdir -p out
	$(BIN)/flowstat run data/orders.graph --runs 10000 --seed 7 -o out/orders.parquet --overwrite
	$(BIN)/flowstat cycles data/orders.graph -t out/orders.parquet
	$(BIN)/flowstat report data/orders.graph -t out/orders.parquet -o out/orders.html

test: lint
	$(BIN)/python -m pytest

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

benchmark: $(VENV)/.ready
	$(BIN)/python -m tests.benchmarks

# Records the traces of data/ again: the same bytes. The storm is stopped at its bound, with exit code 1.
data: $(VENV)/.ready
	$(BIN)/flowstat run data/orders.graph --runs 2000 --seed 7 -o data/orders.parquet --overwrite
	$(BIN)/flowstat run data/jobs.graph --runs 2000 --seed 7 -o data/jobs.parquet --overwrite
	$(BIN)/flowstat run data/mesh.graph --runs 1000 --seed 7 -o data/mesh.parquet --overwrite
	$(BIN)/flowstat run data/mesh.graph --input data/mesh_storm.jsonl --max-queue 300 --seed 20 \
		-o data/mesh_storm.parquet --overwrite; test $$? -eq 1

clean:
	rm -rf $(VENV) out build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
