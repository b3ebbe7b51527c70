# SPDX-License-Identifier: GPL-3.0-or-later
# Everything that is made goes to .cache, which git ignores.

SHELL := /usr/bin/env bash
.DEFAULT_GOAL := help

COLLECTIONS := .cache/collections/ansible_collections
RUN := .cache/venv/bin/python tests/tools/run_stages.py

# Variables of the targets below; `make help` shows what they do.
export FUZZ_EXAMPLES FUZZ_INPUTS KEEP MOLECULE_SCENARIOS PYTEST_ARGS PYTHON
# Inside a git hook these would point the staged copy at this repository.
unexport GIT_DIR GIT_INDEX_FILE GIT_WORK_TREE

.PHONY: help setup collection lint unit sanity units molecule test fuzz bench-mounts bench-freeze demo build clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what is missing: Debian packages (as root) and .cache/venv
	@tests/tools/setup

collection: ## make fleet.criu usable by ansible-playbook from this checkout
	@mkdir -p $(COLLECTIONS)/fleet && ln -sfn ../../../.. $(COLLECTIONS)/fleet/criu

lint: setup ## ansible-lint, ruff, mypy, shellcheck and antsibull-changelog
	@$(RUN) lint

unit: setup ## unit tests with plain pytest (PYTEST_ARGS="-k mounts -x")
	@$(RUN) unit

sanity: setup ## ansible-test sanity, on every target Python found (PYTHON=3.9 for that one alone)
	@$(RUN) sanity

units: setup ## ansible-test units (PYTHON=3.9 for another target Python)
	@$(RUN) units

molecule: setup collection ## scenarios on test hosts (MOLECULE_SCENARIOS="migrate evacuate" for these alone)
	@$(RUN) molecule

test: setup collection ## all of the above; the last line counts what passed and failed
	@$(RUN) lint unit sanity units molecule

fuzz: setup collection ## try all readers of what others write, and properties (FUZZ_INPUTS=50000 FUZZ_EXAMPLES=100000)
	@.cache/venv/bin/python tests/tools/fuzz.py

bench-mounts: setup collection ## time parse and verdict of up to 100,000 mounts beside findmnt
	@.cache/venv/bin/python tests/tools/bench_mounts.py

bench-freeze: setup collection ## time how long a move freezes, in four ways (BENCH_SIZES="0 128" BENCH_ROUNDS=3)
	@.cache/venv/bin/python tests/tools/bench_freeze.py $(BENCH_SIZES) $(if $(BENCH_ROUNDS),--rounds $(BENCH_ROUNDS))

demo: setup collection ## move two workloads between two test hosts and prove it (KEEP=1 leaves the hosts)
	@tests/tools/demo

build: setup ## the collection's archive, in .cache/dist
	@.cache/venv/bin/ansible-galaxy collection build --force --output-path .cache/dist

clean: ## take the test hosts down and remove .cache
	@tests/tools/clean
