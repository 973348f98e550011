# Everything runs on a fresh clone with Python 3.11 or newer and make: the first target that needs the
# environment makes it, in .venv, from requirements-dev.lock.

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
BIN := .venv/bin
BROKERS ?= 1
JOBS ?= 2
LOCK_FLAGS ?=
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes $(LOCK_FLAGS)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z.-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --- run

.PHONY: demo
demo: .venv ## See the whole product on this machine, with nothing else running
	@$(BIN)/tidemark demo

.PHONY: stack
stack: .venv ## Start a real Kafka and Redis and print their addresses (BROKERS=3 for three brokers)
	@$(BIN)/python -m deploy.stack up --brokers $(BROKERS)

.PHONY: stack-clean
stack-clean: .venv ## Stop them and remove their data
	@$(BIN)/python -m deploy.stack clean

# --- check

.PHONY: test
test: .venv ## Run the tests, with a real Redis and, where there is Java, a real Kafka (JOBS=2 at a time)
	@$(BIN)/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

.PHONY: lint
lint: .venv ## Check style and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

.PHONY: type
type: .venv ## Check types
	@$(BIN)/mypy

.PHONY: crash
crash: .venv ## Run the slow tests: killed workers, brokers and stores (minutes)
	@$(BIN)/pytest -m slow -s

.PHONY: bench
bench: .venv ## Run the benchmarks against a stock Faust agent (4 minutes)
	@$(BIN)/python -m benchmarks

.PHONY: bench-full
bench-full: .venv ## Run all: other frameworks, what cost grows with, restart, latency (45 minutes); see its README
	@$(BIN)/python -m benchmarks --full
	@$(BIN)/python -m benchmarks.report benchmarks/results/full.json --into benchmarks/README.md

.PHONY: docs
docs: .venv ## Say where the documentation is, and check it where it can be checked
	@ls README.md ARCHITECTURE.md docs/*.md 2>/dev/null || true
	@$(BIN)/pytest tests/test_docs.py

# --- maintain

.PHONY: lock
lock: $(BIN)/.packages ## Pin what pyproject.toml asks for (LOCK_FLAGS=--upgrade for the newest versions)
	@$(LOCK) --custom-compile-command "make lock" pyproject.toml -o requirements.lock
	@$(LOCK) --custom-compile-command "make lock" --extra dev -c requirements.lock \
		pyproject.toml -o requirements-dev.lock

.PHONY: clean
clean: ## Remove the environment, builds and caches (make stack-clean stops the servers)
	@rm -rf .venv build *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

.PHONY: .venv
.venv: $(BIN)/.installed

$(BIN)/.installed: $(BIN)/.packages pyproject.toml
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# Made anew when the lock changes, so that nothing stays in it that the lock does not name.
$(BIN)/.packages: requirements-dev.lock
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "tidemark needs Python 3.11 or newer: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@echo "making .venv from requirements-dev.lock ..."
	@"$(PYTHON)" -m venv --clear .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@
