# The commands of the house: `make` lists them. Python 3.11 and make are all that a machine needs.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= $(shell command -v python3.11 || command -v python3 || echo python3.11)
CONFIG ?= configs/flights.yaml
SET ?=
VENV := .venv
BIN := $(VENV)/bin
RUN_SET := $(VENV)/.installed
DEV_SET := $(VENV)/.installed-dev
AZURITE := .cache/azurite/node_modules/.bin/azurite-blob
BENCHMARKS := $(filter-out benchmarks/__init__.py,$(wildcard benchmarks/*.py))

# A cluster that the product starts itself listens on this machine only; nothing reports home.
export DO_NOT_TRACK := 1
export RAY_USAGE_STATS_ENABLED := 0

define install
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: $(PYTHON) is older than Python 3.11; name another: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing $(1) into $(VENV), from constraints.txt: some minutes the first time, nothing after that."
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt --editable '$(1)'
	@touch $(2)
endef

.PHONY: help
help: ## list these commands
	@awk -F ':.*## ' '/^[a-zA-Z%-]+:.*## / {sub(/%/, "NAME", $$1); printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(RUN_SET): pyproject.toml constraints.txt
	$(call install,.,$@)

$(DEV_SET): pyproject.toml constraints.txt
	$(call install,.[dev],$@)

$(AZURITE):
	@command -v npm > /dev/null || { echo "error: Azurite is a program for Node, and there is no npm; install Node 20 or newer" >&2; exit 2; }
	@echo "Installing Azurite into .cache/azurite: a minute the first time, nothing after that."
	@npm install --silent --no-audit --no-fund --prefix .cache/azurite azurite@3.37.0

.PHONY: demo
demo: $(RUN_SET) ## train, serve, then replay April to July; ends with a table and a page
	@$(BIN)/python -m jobs.loop --config $(CONFIG) --fresh $(SET)

.PHONY: demo-year
demo-year: $(RUN_SET) ## the same from April to December
	@$(BIN)/python -m jobs.loop --config $(CONFIG) --fresh --set replay.until=2014-01-01 $(SET)

.PHONY: test
test: $(DEV_SET) ## every test but the slow and the chaotic ones
	@$(BIN)/python -m pytest -q -m "not slow and not chaos"

.PHONY: check
check: $(DEV_SET) ## lint, formatting, types, architecture: a minute, before every commit
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check . || { echo "error: not formatted; run $(BIN)/ruff format ." >&2; exit 1; }
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/test_architecture.py

.PHONY: test-all
test-all: $(DEV_SET) ## every test there is
	@$(BIN)/python -m pytest -q

.PHONY: test-chaos
test-chaos: $(DEV_SET) ## the tests that kill parts of the product while it works
	@$(BIN)/python -m pytest -q -m chaos

.PHONY: test-azure
test-azure: $(DEV_SET) $(AZURITE) ## the tests of Azure's store, against Azurite, which it installs (needs Node)
	@$(BIN)/python -m pytest -q -m azure

CLIENTS := .cache/clients/bin/python
$(CLIENTS): tests/clients/requirements.txt
	@$(PYTHON) -m venv .cache/clients && .cache/clients/bin/pip install -qq -r $<
	@touch $@

.PHONY: test-clients
test-clients: $(DEV_SET) $(CLIENTS) ## tritonclient and KServe's own client, over a socket
	@$(BIN)/python -m pytest -q -m clients

.PHONY: test-contract
test-contract: $(DEV_SET) ## schemathesis over OpenAPI, as every role and as nobody; EXAMPLES=200 asks more
	@CONTRACT_EXAMPLES=$(or $(EXAMPLES),50) $(BIN)/python -m pytest -q -m contract

.PHONY: test-edge
test-edge: $(DEV_SET) ## the tests of nginx before everything; installs it from Debian's packages (needs root)
	@command -v nginx >/dev/null || apt-get install -qq -y nginx-light
	@$(BIN)/python -m pytest -q -m "edge and not chaos"

.PHONY: bench
bench: $(DEV_SET) ## every benchmark, one after the other
	@for script in $(BENCHMARKS); do echo "== $$script"; $(BIN)/python "$$script"; done

.PHONY: bench-%
bench-%: $(DEV_SET) ## one benchmark: benchmarks/NAME.py
	@$(BIN)/python benchmarks/$*.py

.PHONY: notebook
notebook: $(DEV_SET) ## run the notebooks in place, so that they show this machine's figures
	@$(BIN)/jupyter-execute --inplace notebooks/*.ipynb
