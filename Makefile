# Slipway. `make help` lists what there is; every target sets up what it needs.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VARIANT ?=
PYTHON ?=
PYTEST_ARGS ?=
BIN := .venv/bin
PYTHON_FILES := core trainer serving operator cli tests bench

# None of the libraries phones home from a development machine.
export DO_NOT_TRACK := 1
export HF_HUB_DISABLE_TELEMETRY := 1
export VLLM_NO_USAGE_STATS := 1
# Without bytecode each process of a run compiles torch and vLLM again: 24 s instead of 11 s.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup quickstart test test-unit verify generate format bench requirements clean

help: ## List the targets
	@echo "make TARGET; the targets are:"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Set up .venv (no root, no compiler; VARIANT=cpu|cuda, PYTHON=/path/to/python3)
	@VARIANT='$(VARIANT)' PYTHON='$(PYTHON)' tools/setup.sh

quickstart: setup ## Set up, then train, judge and serve a small model on this machine
	@$(BIN)/slipway run examples/quickstart.yaml

test: setup ## Set up, then run every test (PYTEST_ARGS='-k name' picks some)
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

test-unit: setup ## Run the unit tests that take seconds
	@$(BIN)/python -m pytest tests/unit -m 'not slow' $(PYTEST_ARGS)

verify: setup ## Check generated files, style, types and the directions of imports
	@tools/verify.sh

generate: setup ## Write the files that are made from the models in core/
	@$(BIN)/python -m slipway_core.generate

format: setup ## Format the Python files, and fix what ruff can fix
	@$(BIN)/ruff check --quiet --fix-only $(wildcard $(PYTHON_FILES))
	@$(BIN)/ruff format $(wildcard $(PYTHON_FILES))

bench: setup ## Compare training speed with transformers' Trainer and TRL, in one run
	@$(BIN)/python bench/train_throughput.py

requirements: setup ## Compile requirements/*.in into pinned *.txt (UPGRADE=1 moves the pins)
	@tools/requirements.sh

clean: ## Remove .venv and caches; runs and models in .slipway stay
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist
	find . -name .slipway -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
