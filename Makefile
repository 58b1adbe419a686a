# Slipway. `make help` lists what there is; every target sets up what it needs.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VARIANT ?=
PYTHON ?=
PYTEST_ARGS ?=
# Processes of `make test`; each has an API server of its own. The files of the suite take turns between them.
WORKERS ?= 2
# How many of the dearest tests and files `make test` lists; none when empty.
DURATIONS ?=
BENCH_ARGS ?=
BIN := .venv/bin
PYTHON_FILES := core host fetching trainer serving operator cli charts tests bench

# None of the libraries phones home from a development machine.
export DO_NOT_TRACK := 1
export HF_HUB_DISABLE_TELEMETRY := 1
export VLLM_NO_USAGE_STATS := 1
# Without bytecode each process of a run compiles torch and vLLM again: 24 s instead of 11 s.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup quickstart test test-unit chaos verify generate format bench bench-control-plane gpu-pack requirements e2e cluster-up cluster-down cluster-status images deploy undeploy clean

help: ## List the targets
	@echo "make TARGET; the targets are:"
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-19s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Set up .venv (no root, no compiler; VARIANT=cpu|cuda, PYTHON=/path/to/python3)
	@VARIANT='$(VARIANT)' PYTHON='$(PYTHON)' tools/setup.sh

quickstart: setup ## Set up, then train, judge and serve a small model on this machine
	@$(BIN)/slipway run examples/quickstart.yaml

test: setup ## Set up, then run every test (PYTEST_ARGS='-k name' picks some; WORKERS=2 processes; DURATIONS=60 lists the dearest)
	@DURATIONS='$(DURATIONS)' tools/test.sh $(WORKERS) $(PYTEST_ARGS)

e2e: setup ## Run what needs a real node: start one, build the images, install, test, stop it (root on Linux, or Docker)
	@PYTEST_ARGS='$(PYTEST_ARGS)' tools/e2e.sh

test-unit: setup ## Run the unit tests that take seconds
	@$(BIN)/python -m pytest tests/unit -m 'not slow' $(PYTEST_ARGS)

chaos: setup ## Break it for longer than `make test` does: a hundred kills of stages, ten of one run, 200 runs at once, a tenant's 500 MB, the GPU check without one (PYTEST_ARGS='-k name' picks)
	@SLIPWAY_KILLS=100 SLIPWAY_RUN_KILLS=10 SLIPWAY_KILLED_EVERY=1 SLIPWAY_MANY_RUNS=200 SLIPWAY_TENANT_CONFIG_MAPS=500 SLIPWAY_GPU_CHECK=1 \
	  $(BIN)/python -m pytest -s tests/integration/trainer/test_kills.py tests/e2e/test_kills.py \
	  tests/integration/operator/test_killed_operator.py tests/integration/operator/test_many_runs.py \
	  tests/integration/operator/test_one_tenants_objects.py tests/integration/bench $(PYTEST_ARGS)

verify: setup ## Check generated files, style, types and the directions of imports
	@tools/verify.sh

generate: setup ## Write the files that are made from the models in core/, and the decisions of docs/memory.md
	@$(BIN)/python -m slipway_core.documents.generate
	@$(BIN)/python -m slipway_trainer.preview.memory_decisions

format: setup ## Format the Python files, and fix what ruff can fix
	@$(BIN)/ruff check --quiet --fix-only $(wildcard $(PYTHON_FILES))
	@$(BIN)/ruff format $(wildcard $(PYTHON_FILES))

bench: setup ## Compare training speed with a bare loop, transformers' Trainer and TRL, and preferences with TRL's (BENCH_ARGS)
	@$(BIN)/python -m bench.train_throughput $(BENCH_ARGS)
	@$(BIN)/python -m bench.trl_preferences

gpu-pack: setup ## Download what bench/gpu/check.sh needs on a GPU host without a network, into .gpu-pack
	@bench/gpu/pack.sh

bench-control-plane: setup ## Compare what 1,000 runs cost an API server with as many bare Jobs (about 10 minutes)
	@$(BIN)/python -m bench.control_plane $(BENCH_ARGS)

requirements: setup ## Compile requirements/*.in into pinned *.txt (UPGRADE=1 moves the pins)
	@tools/requirements.sh

cluster-up: ## Start a one-node Kubernetes: kind with Docker, else processes of this machine (root)
	@tools/testcluster/cluster.sh up

cluster-down: ## Stop it and remove all that it made; built images stay where Docker is not
	@tools/testcluster/cluster.sh down

cluster-status: ## Say what of it runs, the node's state, versions, and disk
	@tools/testcluster/cluster.sh status

images: ## Build the three images (VARIANT=cpu|cuda; Docker, or BuildKit into the test cluster's node)
	@VARIANT='$(VARIANT)' tools/images.sh

deploy: ## Install or upgrade Slipway in the cluster with these images (KUBECONFIG=, TAG=, VARIANT=, VALUES=)
	@VARIANT='$(VARIANT)' KUBECONFIG_FROM='$(origin KUBECONFIG)' tools/deploy.sh up

undeploy: ## Uninstall Slipway; CRDs, runs and endpoints stay
	@KUBECONFIG_FROM='$(origin KUBECONFIG)' tools/deploy.sh down

clean: ## Remove .venv and caches; runs and models in .slipway stay
	rm -rf .venv .gpu-pack .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist
	find . -name .slipway -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
