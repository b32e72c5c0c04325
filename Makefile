# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
# Needs Python 3.11-3.13, git and make. Everything else is installed below .venvs/ from requirements/*.txt.

.DEFAULT_GOAL := help
.PHONY: help demo test test-core test-airflow-3.3 test-airflow-2.11 test-airflow-between test-browser test-secrets test-crash test-packaging test-compose test-kubernetes docs cluster-test lint format \
	bench-limiter bench-waiting bench-download bench-import environments lock clean

# The first interpreter of a supported version; `make PYTHON=/path/to/python3.12 ...` chooses another one.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
	&& command -v "$$python" && break; done)
BOOTSTRAP := .venvs/bootstrap
RUN := $(BOOTSTRAP)/bin/python -X pycache_prefix=.venvs/pycache
SYNC := @$(RUN) scripts/environments.py sync
SUITE := @$(RUN) scripts/test_suite.py

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9.-]+:.*## / { printf "  make %-20s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(BOOTSTRAP)/.ready  ## Run the monthly sync in a real Airflow against the emulator (ONCE=1: end by itself)
	$(SYNC) demo
	@.venvs/demo/bin/python scripts/demo $(if $(ONCE),--once)

test: $(BOOTSTRAP)/.ready  ## Run everything: lint, core, Airflow 2.11 and 3.0-3.3, crashes, browser, secrets, packaging, compose
	$(SUITE)

test-core: $(BOOTSTRAP)/.ready  ## Test api/, limiter/, transfer/ and the emulator without Airflow
	$(SUITE) core

test-airflow-3.3: $(BOOTSTRAP)/.ready  ## Test the Airflow parts and the example DAGs on Airflow 3.3
	$(SUITE) airflow-3.3

test-airflow-2.11: $(BOOTSTRAP)/.ready  ## Test the Airflow parts and the example DAGs on Airflow 2.11
	$(SUITE) airflow-2.11

test-airflow-between: $(BOOTSTRAP)/.ready  ## Test operators, sensor, triggers, hooks and DAGs on Airflow 3.0, 3.1 and 3.2
	$(SUITE) airflow-3.0 airflow-3.1 airflow-3.2

test-browser: $(BOOTSTRAP)/.ready  ## Use Airflow 3.3's UI with Chromium: connections, a run, the exports page
	$(SUITE) browser

test-secrets: $(BOOTSTRAP)/.ready  ## Search all that a run of a real Airflow 3.3 leaves behind for secrets
	$(SUITE) secrets

test-crash: $(BOOTSTRAP)/.ready  ## Kill processes of real Airflows of both lines while an export is under way
	$(SUITE) crash-3.3 crash-2.11

test-packaging: $(BOOTSTRAP)/.ready  ## Build the wheel and check what is in it
	$(SUITE) packaging

test-compose: $(BOOTSTRAP)/.ready  ## Validate docker-compose.yaml without an engine
	$(SUITE) compose

test-kubernetes: $(BOOTSTRAP)/.ready  ## Check the Helm chart's values and the manifests without a cluster
	$(SUITE) kubernetes

lint: $(BOOTSTRAP)/.ready  ## Run ruff and mypy
	$(SUITE) lint

docs: $(BOOTSTRAP)/.ready  ## Build the pages and the reference as HTML, where every warning is an error
	$(SUITE) docs

format: $(BOOTSTRAP)/.ready  ## Let ruff format the code and fix what it can
	$(SYNC) airflow-3.3
	@.venvs/airflow-3.3/bin/ruff check --fix-only --quiet . && .venvs/airflow-3.3/bin/ruff format .

cluster-test: $(BOOTSTRAP)/.ready  ## Run docker-compose.yaml as processes: 100 exports to S3, kills included (ARGS="--exports 20 --no-kills")
	$(SYNC) cluster
	@.venvs/cluster/bin/python -m tests.system.cluster $(ARGS)

bench-limiter: $(BOOTSTRAP)/.ready  ## Compare the shared limiter with others, eight processes each
	$(SYNC) bench
	@.venvs/bench/bin/python benchmarks/limiter.py $(ARGS)

bench-download: $(BOOTSTRAP)/.ready  ## Compare the download with curl, requests and others
	$(SYNC) bench
	@.venvs/bench/bin/python benchmarks/download.py $(ARGS)

bench-waiting: $(BOOTSTRAP)/.ready  ## Measure a thousand deferred waits in one triggerer
	$(SYNC) airflow-3.3
	@.venvs/airflow-3.3/bin/python benchmarks/waiting.py $(ARGS)

bench-import: $(BOOTSTRAP)/.ready  ## Measure what importing the DAG-facing modules costs
	$(SYNC) airflow-3.3
	@.venvs/airflow-3.3/bin/python benchmarks/imports.py $(ARGS)

environments: $(BOOTSTRAP)/.ready  ## Make all virtual environments
	$(SYNC) core airflow-3.3 airflow-2.11 demo cluster bench

lock: $(BOOTSTRAP)/.ready  ## Rewrite requirements/*.txt from pyproject.toml (UPGRADE=1: take the newest versions)
	@$(RUN) scripts/environments.py lock $(if $(UPGRADE),--upgrade)

clean:  ## Remove environments, caches and the demo's files
	rm -rf .venvs .demo .pictures .cluster dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +

$(BOOTSTRAP)/.ready: requirements/bootstrap.txt
	@test -n "$(PYTHON)" || { echo "No Python 3.11, 3.12 or 3.13 found. Install one, or name it: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@echo "[bootstrap] $(BOOTSTRAP) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear $(BOOTSTRAP)
	@$(BOOTSTRAP)/bin/python -m pip install --quiet --quiet --disable-pip-version-check --requirement $<
	@touch $@
