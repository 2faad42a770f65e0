# make install | lint | test | test-slow | oracles | demo | demo-quick | loo-quick | bench
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ORACLES := .oracles

.PHONY: install lint test test-slow oracles demo demo-quick loo-quick bench clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# One thread a worker: tiny models gain nothing from more, and workers would fight for cores.
test: install
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadfile

test-slow: install
	$(BIN)/pytest -m slow

# mergekit in an environment of its own; 'make test' compares with it when it is there.
oracles: $(ORACLES)/.installed

$(ORACLES)/.installed: constraints.txt
	$(PYTHON) -m venv $(ORACLES)
	$(ORACLES)/bin/python -m pip install --quiet --constraint constraints.txt torch
	$(ORACLES)/bin/python -m pip install --quiet --constraint constraints.txt mergekit==0.1.5
	touch $@

demo: install
	$(BIN)/mashup demo --output demo

demo-quick: install
	$(BIN)/mashup demo --quick --output demo/quick

loo-quick: demo-quick
	$(BIN)/mashup loo recipes/quick.yaml -o demo/loo --model "$$($(BIN)/mashup demo --base-only)"

bench: install
	$(BIN)/python benchmarks/run.py

clean:
	rm -rf $(VENV) $(ORACLES) demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
