# Everything a newcomer needs is `make demo` and `make test`; `make help` lists the rest.
# Another interpreter: make test PYTHON=/path/to/python3.12

VENV := .venv
# Tests wait for processes and sockets more than they compute, so more of them run than there are cores.
# Workers take files in the order of tests/conftest.py: by themselves they would leave those with few tests, which are
# the longest, to the end.
WORKERS := 4
# Of make chaos and make fuzz; a seed repeats a run: make chaos SECONDS=60 SEED=7
SECONDS := 300
SEED :=
PYTHON ?=
export PYTHON
# Tests start hundreds of processes; without kept bytecode each of them would compile every library anew.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help demo test test-all chaos fuzz bench roots check format lock proto clean setup

help: ## this list
	@awk -F ':[^#]*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile

demo: setup ## a collector and an agent on this machine, until Ctrl-C
	@exec $(VENV)/bin/python deploy/demo.py

test: setup ## all tests, on the default interpreter
	$(VENV)/bin/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

test-all: ## all tests, on every one of Python 3.11, 3.12 and 3.13 that this machine has
	@.ci/test-all $(ARGS)

chaos: setup ## kill, stop, cut, fill and set back both sides under load, and count every report
	$(VENV)/bin/python tests/chaos/chaos.py --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) $(ARGS)

fuzz: setup ## feed every parser of outside data with senseless input; what is found is kept in tests/fuzz/kept
	$(VENV)/bin/python tests/fuzz/fuzz.py --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) $(ARGS)

bench: setup ## every measurement: speed, latency, size
	$(VENV)/bin/python tests/bench/run.py $(ARGS)

roots: setup ## the agent in small systems of several releases and in a virtual machine (as root; half an hour)
	$(VENV)/bin/python tests/roots/roots.py $(ARGS)

check: setup ## lint, formatting, types, import rules, generated code, house rules
	$(VENV)/bin/ruff check --quiet
	$(VENV)/bin/ruff format --check --quiet
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo
	$(VENV)/bin/python proto/generate.py --check
	$(VENV)/bin/python -m pytest -q tests/house

format: setup ## put the code into the house format, mending what can be mended by itself
	$(VENV)/bin/ruff check --fix --quiet
	$(VENV)/bin/ruff format --quiet

lock: setup ## lock every dependency anew, with hashes, into requirements/dev.txt
	$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --extra all --group dev --upgrade --output-file requirements/dev.txt pyproject.toml

proto: setup ## write the Python code of proto/gengfu_proto/v1/*.proto
	$(VENV)/bin/python proto/generate.py

clean: ## remove everything that make made
	rm -rf .venv .venv-3.* .demo build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

setup:
	@.ci/setup $(VENV)
