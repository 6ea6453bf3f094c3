# Each target sets up what it needs; `make help` lists them.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
WORKERS ?= 2
PYTEST = $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder --durations 10

.PHONY: help env demo test test-all coverage lint bench versions clean
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-9s %s\n", $$1, $$2}' Makefile

env: $(READY) ## make the environment in .venv, with the layerprobe command in it

demo: $(READY) ## run the main job on a small spoken corpus: sound, cache, scores, heatmap, report
	$(BIN)/layerprobe demo --out demo

test: $(READY) ## run the tests, under five minutes on two cores
	$(PYTEST) -m "not long"

test-all: $(READY) ## run the long tests, too
	$(PYTEST)

coverage: $(READY) ## run the tests and fail where they reach less of the code than they did
	$(PYTEST) -m "not long" --cov --cov-report term:skip-covered

lint: $(READY) ## check style, spelling, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY) ## measure speed and memory against peers on this machine
	for script in tests/benchmarks/*_speed.py tests/benchmarks/*_scale.py; do PYTHONPATH=tests $(BIN)/python $$script || exit 1; done

versions: $(READY) ## check that layers are the same on transformers 4.57, which is fetched for it
	PYTHONPATH=tests $(BIN)/python tests/benchmarks/transformers_versions.py

clean: ## remove the environment and what the demo made
	rm -rf .venv demo *.egg-info

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "layerprobe needs Python 3.11 or newer; name one with: make env PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[demo,dev,export]'
	@touch $@
