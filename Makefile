# make install | lint | test | test-pictures | test-slow | oracles | site | demo | demo-quick | loo-quick | bench
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ORACLES := .oracles
SITE := .site
PICTURES := build/pictures

.PHONY: install lint test test-pictures test-slow oracles site demo demo-quick loo-quick bench clean

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

# Rows with pictures for models whose processors need torchvision. Its wheel wants a CUDA build of
# PyTorch, so it lies in a folder of its own, without what it depends on.
test-pictures: install
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps --upgrade \
		--target $(PICTURES) torchvision num2words docopt
	OMP_NUM_THREADS=1 PYTHONPATH=$(PICTURES) $(BIN)/pytest -n auto -k "qwen2-vl or smolvlm" \
		$$(find tests -name test_pictures.py)

test-slow: install
	$(BIN)/pytest -m slow

# mergekit in an environment of its own; 'make test' compares with it when it is there.
oracles: $(ORACLES)/.installed

$(ORACLES)/.installed: constraints.txt
	$(PYTHON) -m venv $(ORACLES)
	$(ORACLES)/bin/python -m pip install --quiet --constraint constraints.txt torch
	$(ORACLES)/bin/python -m pip install --quiet --constraint constraints.txt mergekit==0.1.5
	touch $@

# The docs as a site in build/site. It is built from links to the repository's own folders, so that
# a link works in both places; a link to nothing is an error.
PAGES := README.md CONTRIBUTING.md SECURITY.md CHANGELOG.md LICENSE docs benchmarks recipes examples

site: $(SITE)/.installed
	rm -rf build/pages && mkdir -p build/pages
	cd build/pages && ln -s $(addprefix ../../,$(PAGES)) .
	NO_MKDOCS_2_WARNING=1 $(SITE)/bin/mkdocs build --strict --quiet

$(SITE)/.installed: constraints.txt
	$(PYTHON) -m venv $(SITE)
	$(SITE)/bin/python -m pip install --quiet --constraint constraints.txt mkdocs-material 'mkdocstrings[python]' ruff
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
	rm -rf $(VENV) $(ORACLES) $(SITE) build demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
