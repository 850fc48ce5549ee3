# Everything that is done to this repository, by one name each. `make help` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

# The distribution's interpreter: its libvirt and libnbd modules belong to it.
PYTHON ?= /usr/bin/python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# The host side: what has to run on Python 3.9.
HOST_SIDE := $(wildcard src/sendense/__init__.py $(addsuffix .py,$(addprefix src/sendense/,errors units clock log steps shield)) \
	$(addprefix src/sendense/,model capture agent fleet/host_files))
# Only what is there: a folder without a Python file is no folder to a checker.
SOURCES := $(foreach folder,src tests tools demo bench,$(if $(shell find $(folder) -name '*.py' -print -quit 2>/dev/null),$(folder)))

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z][a-z-]*\):[^#]*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

# --- Start

.PHONY: setup
setup: system-packages $(READY) ## install what is missing, into the system and .venv

.PHONY: system-packages
system-packages:
	@tools/install-debian-packages packaging/debian-packages.txt

$(READY): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv --system-site-packages $(VENV)
	@$(BIN)/python -c 'import libvirt, nbd' || { \
	  echo "$(PYTHON) has no libvirt or nbd module: set PYTHON to the interpreter of the distribution" >&2; exit 1; }
	@echo "Installing Python packages into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt hatchling
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[dev]'
	@touch $@

.PHONY: demo
demo: setup ## protect a CloudStack over two KVM hosts, lose an instance, restore it
	@$(BIN)/python -m demo.cloud $(ARGS)

.PHONY: demo-host
demo-host: setup ## the same on one libvirt host, without a control plane
	@$(BIN)/python -m demo.host $(ARGS)

.PHONY: demo-cluster
demo-cluster: setup ## deploy to whole hosts, protect, migrate, kill, restore
	@$(BIN)/python -m demo.fleet $(ARGS)

# --- Prove

.PHONY: test
test: setup ## run every test (ARGS="-k word" to choose)
	@$(BIN)/python -m pytest $(ARGS)

.PHONY: test-fast
test-fast: setup ## run the tests that need no virtual machine and little time
	@$(BIN)/python -m pytest -m 'not vm and not slow' $(ARGS)

.PHONY: check
check: setup lint types layers host-side docs changelog ## run every check that is not a test
	@$(BIN)/python -m tools.size_nudge $(SOURCES)

.PHONY: lint types layers host-side docs changelog
lint: setup
	@$(BIN)/ruff format --check $(SOURCES)
	@$(BIN)/ruff check --output-format concise $(SOURCES)

types: setup
	@$(BIN)/mypy $(SOURCES)

layers: setup
	@$(BIN)/lint-imports --no-logo

# The host side against Python 3.9: syntax by ruff (lint), types by mypy, library by vermin.
host-side: setup
	@$(BIN)/mypy --python-version 3.9 --cache-dir .mypy_cache/host-side $(HOST_SIDE)
	@$(BIN)/vermin --quiet --no-tips --violations --target=3.9- $(HOST_SIDE)

# Every relative link in a Markdown file leads somewhere.
docs: setup
	@$(BIN)/python -m tools.links

# On a branch, a change to the product comes with a fragment (changelog/unreleased/README.md).
changelog: setup
	@report=$$($(BIN)/towncrier build --draft --version unreleased 2>&1) || { echo "$$report"; exit 1; }
	@if git rev-parse --verify --quiet origin/main >/dev/null 2>&1; then \
	  $(BIN)/towncrier check --compare-with origin/main; fi

.PHONY: format
format: setup ## format the code and mend what can be mended
	@$(BIN)/ruff check --fix --quiet $(SOURCES) || true
	@$(BIN)/ruff format $(SOURCES)

# --- Real machines

.PHONY: lab
lab: setup ## start the lab: a private libvirt with small guests
	@$(BIN)/python -m sendense_lab up $(ARGS)

.PHONY: lab-down
lab-down: setup ## stop the lab and remove what it left
	@$(BIN)/python -m sendense_lab down $(ARGS)

.PHONY: lab-cluster
lab-cluster: setup ## start whole KVM hosts in containers, with guests
	@$(BIN)/python -m sendense_lab.cluster up $(ARGS)

.PHONY: lab-cluster-down
lab-cluster-down: setup ## stop those hosts and remove what they left
	@$(BIN)/python -m sendense_lab.cluster down $(ARGS)

.PHONY: lab-cloud
lab-cloud: setup ## have hosts with CloudStack's API in front, until Ctrl-C
	@$(BIN)/python -m sendense_lab.simulator --cluster $(ARGS)

.PHONY: bench
bench: setup ## measure speed and size, beside the peers
	@tools/install-debian-packages packaging/debian-packages-bench.txt
	@$(BIN)/python bench/bench.py $(ARGS)

# --- Upkeep

.PHONY: constraints
constraints: ## resolve the newest Python packages into constraints.txt
	@tools/resolve-constraints $(PYTHON)

.PHONY: clean
clean: ## remove what is made by the targets above
	@rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage htmlcov
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
