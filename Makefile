# `make` lists the targets. Each installs what it needs into .venv, once; a second call installs nothing.
PYTHON ?= python3
BIN := .venv/bin
DEMO := .venv/.demo
DEV := .venv/.dev

.DEFAULT_GOAL := help
.PHONY: help demo test drills check lint types bench clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## /  make \1\t/' | expand -t 16

$(DEMO) $(DEV): pyproject.toml constraints.txt .ci/install.py
	@$(PYTHON) .ci/install.py $(patsubst .%,%,$(@F))

demo: $(DEMO) ## the main job on real bars: check, store, compute, publish, look up
	@$(BIN)/fstore demo

test: $(DEV) ## the test suite
	@$(BIN)/pytest -n 2

drills: $(DEV) ## the longer tests: whole stacks, servers of others, browsers, kills
	@$(BIN)/pytest -n 2 -m drill

lint: $(DEV)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(DEV)
	@$(BIN)/mypy

check: lint types test ## lint, types and tests: what CI runs

bench: $(DEV) ## the benchmark table
	@for file in tests/benchmarks/test_*.py; do $(BIN)/pytest $$file -s -m benchmark -W ignore -o timeout=900 || exit 1; done

clean: ## remove what was set up and what the demo wrote
	rm -rf .venv .fstore
