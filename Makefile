# `make` lists the targets. Everything is installed into .venv once; a second call installs nothing.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test drills check lint types bench clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## /  make \1\t/' | expand -t 16

$(READY): pyproject.toml constraints.txt
	@echo "Setting up .venv (once, one to three minutes) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version)'
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo,dev]'
	@touch $@

demo: $(READY) ## the main job on real bars: check, store, compute, publish, look up
	@$(BIN)/fstore demo

test: $(READY) ## the test suite
	@$(BIN)/pytest -n 2

drills: $(READY) ## the longer tests: whole stacks, servers of others, browsers, kills
	@$(BIN)/pytest -n 2 -m drill

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(READY)
	@$(BIN)/mypy

check: lint types test ## lint, types and tests: what CI runs

bench: $(READY) ## the benchmark table
	@for file in tests/benchmarks/test_*.py; do $(BIN)/pytest $$file -s -m benchmark -W ignore -o timeout=900 || exit 1; done

clean: ## remove what was set up and what the demo wrote
	rm -rf .venv .fstore
