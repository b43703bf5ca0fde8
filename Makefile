# Everything a fresh machine needs: Python 3.11 and make.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: demo test lint servers benchmark fuzz data clean

# The environment is rebuilt when the declared or the pinned dependencies change.
$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check --upgrade -c constraints.txt pip
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt --build-constraint constraints.txt --group test -e ".[amqp,pdf,postgres,spark]"
	@touch $@

demo: $(VENV)/.ready
	@mkdir -p out
	$(BIN)/flowstat run data/orders.graph --runs 10000 --seed 7 -o out/orders.parquet --overwrite
	$(BIN)/flowstat cycles data/orders.graph -t out/orders.parquet
	$(BIN)/flowstat report data/orders.graph -t out/orders.parquet -o out/orders.html

test: lint servers
	$(BIN)/python -m pytest -n auto --dist loadfile

# The servers that some tests start: installed where that can be done, and skipped with a reason where not.
servers:
	@missing=""; \
	ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null || missing="postgresql"; \
	command -v java >/dev/null || missing="$$missing default-jre-headless"; \
	ls /usr/lib/rabbitmq/bin/rabbitmq-server >/dev/null 2>&1 || command -v rabbitmq-server >/dev/null || missing="$$missing rabbitmq-server"; \
	ls /usr/lib/*/libpangoft2-1.0.so.0 >/dev/null 2>&1 || missing="$$missing libpango-1.0-0 libpangoft2-1.0-0"; \
	if [ -n "$$missing" ] && command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
		echo "installing for the tests: $$missing"; \
		apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $$missing \
			>/dev/null; \
	fi || true

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

benchmark: $(VENV)/.ready
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt --group benchmark
	@# It declares an old matplotlib, for plots that nobody asks for here.
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt --no-deps PyDTMC
	$(BIN)/python -m tests.benchmarks

# An hour of damaged traces for every reader; what it finds belongs in tests/fuzz/found.
fuzz: $(VENV)/.ready
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt --group fuzz
	$(BIN)/python -m tests.fuzz -- -max_total_time=3600

# Records the traces of data/ again: the same bytes. The storm is stopped at its bound, with exit code 1.
data: $(VENV)/.ready
	$(BIN)/flowstat run data/orders.graph --runs 2000 --seed 7 -o data/orders.parquet --overwrite
	$(BIN)/flowstat run data/jobs.graph --runs 2000 --seed 7 -o data/jobs.parquet --overwrite
	$(BIN)/flowstat run data/mesh.graph --runs 1000 --seed 7 -o data/mesh.parquet --overwrite
	$(BIN)/flowstat run data/mesh.graph --input data/mesh_storm.jsonl --max-queue 300 --seed 20 \
		-o data/mesh_storm.parquet --overwrite; test $$? -eq 1

clean:
	rm -rf $(VENV) out build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
