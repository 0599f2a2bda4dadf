# Two commands do all the set-up on a fresh machine: `make demo` and `make test`.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

CLUSTER ?= auto
VENV    := .venv
BIN     := $(VENV)/bin
STAMP   := $(VENV)/.installed
UV      := .build/uv/bin/uv
export PYTHONDONTWRITEBYTECODE = 1

.PHONY: help
help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  \033[1m%-18s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --- environment -----------------------------------------------------------------------------------------------------
$(UV):
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: Python 3.11 or newer is needed (found $$(python3 --version 2>&1))" >&2; exit 2; }
	@python3 -m venv .build/uv 2>/dev/null || { echo "error: python3 cannot create virtual environments; fix: apt-get install python3-venv" >&2; exit 2; }
	@.build/uv/bin/python -m pip install --quiet --disable-pip-version-check uv

$(STAMP): requirements.lock pyproject.toml operator/pyproject.toml runtime-image/pyproject.toml | $(UV)
	@$(UV) venv --quiet --allow-existing --python python3 $(VENV)
	@VIRTUAL_ENV=$(VENV) $(UV) pip sync --quiet --require-hashes requirements.lock
	@VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet --no-deps --editable operator --editable runtime-image
	@touch $@

.PHONY: install
install: $(STAMP) ## create .venv from requirements.lock

COMPILE = $(UV) pip compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header --python-version 3.11
.PHONY: lock
lock: $(UV) ## recompile requirements.lock and the locks of the two images
	@$(COMPILE) pyproject.toml operator/pyproject.toml runtime-image/pyproject.toml --group dev --extra gateway -o requirements.lock
	@$(COMPILE) operator/pyproject.toml -c requirements.lock -o operator/requirements.lock
	@$(COMPILE) runtime-image/pyproject.toml --extra gateway -c requirements.lock -o runtime-image/requirements.lock
	@$(COMPILE) runtime-image/pyproject.toml -c requirements.lock -o runtime-image/requirements-sandbox.lock
	@echo 'hatchling>=1.27' | $(COMPILE) - -o operator/requirements-build.lock
	@cp operator/requirements-build.lock runtime-image/requirements-build.lock

# --- checks and tests ------------------------------------------------------------------------------------------------
.PHONY: check
check: $(STAMP) ## ruff, mypy strict, import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

.PHONY: format
format: $(STAMP) ## format and fix what ruff can
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format --quiet .

.PHONY: test-unit
test-unit: $(STAMP) ## pure tests: seconds
	@$(BIN)/pytest tests/unit skills -q $(ARGS)
