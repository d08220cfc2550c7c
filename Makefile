# SPDX-License-Identifier: Apache-2.0
# Everything runs from a virtual environment that the first target makes: python3, python3-venv and make are enough.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' kedastral/__init__.py)
IMAGE ?= kedastral:$(VERSION)
DIST ?= dist
STAMP := $(VENV)/.installed
TRACES ?= $(KEDASTRAL_TRACES)
PYTEST := -m pytest -q --numprocesses auto --dist worksteal   # a process for each core

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-lowest e2e faults configurations verdicts lint measure check proto docs manifests site bench bench-scale bench-restart bench-cluster soak lock build sbom docker clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . --group dev
	@touch $@

setup: $(STAMP)  ## make the virtual environment and install into it

demo: $(STAMP)  ## a day of load in minutes, in this terminal; nothing else needed
	$(BIN)/kedastral demo

test: $(STAMP)  ## the tests; or make test TESTS='-m slow'
	$(BIN)/python $(PYTEST) $(TESTS)

test-lowest:  ## the tests with the oldest versions that pyproject.toml allows
	$(PYTHON) -m venv $(VENV)-lowest
	$(VENV)-lowest/bin/python -m pip install --quiet --disable-pip-version-check uv
	VIRTUAL_ENV=$(VENV)-lowest $(VENV)-lowest/bin/uv pip install --quiet --resolution lowest-direct --editable . --group dev
	$(VENV)-lowest/bin/python $(PYTEST)

e2e: $(STAMP)  ## the loop with Kubernetes and KEDA themselves: KUBECONFIG or KEDASTRAL_E2E_BIN
	$(BIN)/python -m tests.e2e $(E2E)

faults: $(STAMP)  ## attacks and faults that take long, on real processes; minutes
	$(BIN)/python -m pytest -q -m faults tests

configurations: $(STAMP)  ## 10,000 generated configurations, each loaded or refused; four minutes
	CONFIGURATIONS=10000 $(BIN)/python -m pytest -q tests/settings/test_generated_configurations.py

verdicts: $(STAMP)  ## whole backtests whose verdicts are stored as text; TRACES is a folder of open traces; minutes
	KEDASTRAL_TRACES=$(TRACES) VERDICTS=$(VERDICTS) $(BIN)/python -m pytest -q tests/backtest/test_verdicts_anew.py

lint: $(STAMP)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

measure: $(STAMP)  ## the quick tests of the parts that have a threshold of coverage, and the thresholds
	$(BIN)/coverage erase
	$(BIN)/coverage run $(PYTEST) -m measured
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --include='kedastral/core/*,kedastral/models/*,kedastral/adapters/*,kedastral/serving/store.py,kedastral/grpclib_trio/*'
	$(BIN)/coverage report --include='kedastral/core/*,kedastral/models/*' --fail-under=90 >/dev/null
	$(BIN)/coverage report --include='kedastral/adapters/*' --fail-under=90 >/dev/null
	$(BIN)/coverage report --include='kedastral/serving/store.py' --fail-under=90 >/dev/null
	$(BIN)/coverage report --include='kedastral/grpclib_trio/*' --fail-under=90 >/dev/null

check: lint measure  ## lint, all but the slow tests, the thresholds of coverage, generated code up to date
	$(BIN)/python $(PYTEST) -m "not measured and not slow and not e2e and not faults"

proto: $(STAMP)  ## generate kedastral/_proto again
	$(BIN)/python proto/generate.py

docs: $(STAMP)  ## write the tables of docs/configuration.md, deploy/crds, the chart's schema and README, the timelines of docs/keda.md and the pictures of docs/page.md again
	$(BIN)/python -m docs.generate
	$(BIN)/python -m tests.e2e.pictures
	$(BIN)/python -m tests.page.screenshots

manifests: $(STAMP)  ## write the folders of deploy/ that are made from the chart again; builds helm where it is missing
	$(BIN)/python -m docs.manifests

site: $(STAMP)  ## the documentation as a site, in build/site; a broken link fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --config-file docs/site/mkdocs.yml

bench: $(STAMP)  ## latencies as JSON, beside their budgets
	$(BIN)/python -m benchmarks.latency

bench-scale: $(STAMP)  ## up to a thousand workloads in one process, beside the budgets; half an hour
	$(BIN)/python -m benchmarks.scale

bench-restart: $(STAMP)  ## a thousand workloads after kill -9, with and without what --state-dir kept; a quarter of an hour
	$(BIN)/python -m benchmarks.restart

bench-cluster: $(STAMP)  ## one to three processes that share a Redis and up to 3,000 workloads; half an hour
	$(BIN)/python -m benchmarks.cluster

soak: $(STAMP)  ## ten minutes of load and faults at random; or make soak SOAK='60 --seed 7'
	$(BIN)/python -m benchmarks.soak $(SOAK)

LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command 'make lock'

lock: $(STAMP)  ## pin what the image is made of, with hashes, in deploy/image
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(LOCK) --upgrade --extra otel --extra redis --extra socks pyproject.toml --output-file deploy/image/requirements.txt
	echo 'hatchling>=1.27' | $(LOCK) --upgrade - --output-file deploy/image/build-requirements.txt

build: $(STAMP)  ## the wheel and the source archive, in dist/
	$(BIN)/python -m pip install --quiet --disable-pip-version-check build
	$(BIN)/python -m build --outdir $(DIST) .

sbom: $(STAMP)  ## what the image is made of beside its base, from the lock, as CycloneDX in dist/
	mkdir -p $(DIST)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check cyclonedx-bom
	$(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible --output-file $(DIST)/kedastral.cdx.json deploy/image/requirements.txt

docker:  ## the container image
	docker build --tag $(IMAGE) .

clean:  ## remove all that the targets above made
	rm -rf $(VENV) $(VENV)-lowest dist build htmlcov .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
