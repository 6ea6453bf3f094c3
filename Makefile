# Each target sets up what it needs; `make help` lists them.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
DOCS_READY := .venv/docs-ready
WORKERS ?= 2
PYTEST = $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder --durations 10

.PHONY: help env demo test test-long test-all coverage lint bench versions release-check clean
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' Makefile

env: $(READY) ## make the environment in .venv, with the layerprobe command in it

demo: $(READY) ## run every stage on a small synthetic corpus: audio, cache, scores, heatmap, report
	$(BIN)/layerprobe demo --out demo

docs: $(DOCS_READY) ## build the documentation site, run its examples, and fail on any warning: docs/_build/index.html
	$(BIN)/python -m sphinx -W --keep-going -n -q -d docs/_build/.doctrees $(SPHINXOPTS) docs docs/_build
	@echo "The site is docs/_build/index.html."

test: $(READY) ## run the tests without the long ones
	$(PYTEST) -m "not long"

test-long: $(READY) ## run the long tests alone
	$(PYTEST) -m long

test-all: $(READY) ## run all tests
	$(PYTEST)

coverage: $(READY) ## run the tests and fail where they reach less of the code than they did
	$(PYTEST) -m "not long" --cov --cov-report term:skip-covered

lint: $(READY) ## check style, spelling, terms, types, the direction of imports and the Dockerfile
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/python tests/word_list.py
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint docs/install/Dockerfile

bench: $(READY) ## measure speed and memory against peers on this machine
	for script in tests/benchmarks/*_speed.py tests/benchmarks/*_scale.py; do PYTHONPATH=tests $(BIN)/python $$script || exit 1; done

versions: $(READY) ## check that layers are the same on transformers 4.57, which is fetched for it
	PYTHONPATH=tests $(BIN)/python tests/benchmarks/transformers_versions.py

test-oldest: .venv-oldest/ready ## run the quick part of the tests on the oldest supported versions, in .venv-oldest
	.venv-oldest/bin/python -m pytest -m "not long" -o filterwarnings=default $(addprefix tests/,$(OLDEST_TESTS)) \
		$(patsubst %,--deselect='tests/%',$(OLDEST_LEFT_OUT))

house: $(READY) ## write the table of packages into CONTRIBUTING.md, from the code
	$(BIN)/python tests/house_table.py --write

release-check: $(READY) ## build the release, install it in empty environments and run README there; RELEASE_SITE=.venv is quicker
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[release]'
	$(BIN)/python tests/release_check.py $(if $(RELEASE_SITE),--site $(RELEASE_SITE))

clean: ## remove the environment and what the demo made
	rm -rf .venv .venv-oldest demo docs/_build docs/examples *.egg-info

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "layerprobe needs Python 3.11 or newer; name one with: make env PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[demo,dev,export]' --editable probe/embedded
	@touch $@

.PHONY: docs
$(DOCS_READY): $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	@touch $@

# Old libraries warn of what newer ones below them have deprecated, so warnings are no errors there. Left out is what
# differs between transformers 4.57 and 5 and moves no layer: random initial weights, the output of tiny recognisers with such
# weights, DistilBERT's tokenizer in a reference, and the errors for folders without a tokenizer or a configuration,
# which are not always one sentence on 4.57.
.PHONY: test-oldest house
OLDEST_PYTHON ?= python3.11
OLDEST_TESTS := base solvers weighted_sum cache data tasks statistics figures encoders \
	extraction/test_extract.py sweep/test_sweep.py cli/test_commands.py cli/test_cache.py
OLDEST_LEFT_OUT := encoders/test_speech.py::test_golden_values_of_a_seeded_model \
	encoders/test_speech.py::test_what_can_not_be_loaded_is_one_sentence \
	encoders/test_text.py::test_layers_are_those_of_transformers[distilbert] \
	encoders/test_text.py::test_an_encoder_of_audio_or_without_tokenizer_is_refused \
	data/test_transcripts.py::test_a_recogniser_transcribes_every_utterance_and_its_name_is_the_source[whisper] \
	data/test_transcripts.py::test_long_audio_is_transcribed_to_its_end \
	data/test_transcripts.py::test_another_model_than_a_recogniser_is_refused

.venv-oldest/ready: pyproject.toml constraints-oldest.txt
	$(OLDEST_PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --constraint constraints-oldest.txt --editable '.[corpora,media]' \
		pytest scikit-learn selenium
	@touch $@
