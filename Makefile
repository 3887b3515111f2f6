# Everything a developer or a first-time user types. Python packages live in .venv, exactly as requirements.lock says.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
BUILT := $(VENV)/.built
SOURCES := pyproject.toml setup.py $(wildcard config/*) $(shell find sidecar -name '*.py' -o -name '*.yaml' -o -path '*/admin/ui/*' -type f)
ARGS ?=
# All tests share the cores, a file of them at a time, for those of one file share what they start.
LOCK_OPTIONS := --quiet --upgrade --generate-hashes --allow-unsafe --strip-extras \
  --no-header --no-emit-index-url --no-emit-find-links --no-emit-trusted-host
WHOLE_RUN := --numprocesses auto --maxprocesses 4 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help run test lint format bench docs schema lock clean

help: ## this list
	@grep -E '^[a-z]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 18

run: $(BUILT) ## the sidecar with three small services behind it; Ctrl-C ends it
	@exec $(BIN)/sidecar demo $(ARGS)

test: $(BUILT) ## all tests; `make test ARGS="tests/policy -k breaker"` for some
	@SIDECAR_COMMAND=$(CURDIR)/$(BIN)/sidecar $(BIN)/python -m pytest $(if $(ARGS),$(ARGS),$(WHOLE_RUN))

lint: $(INSTALLED) ## style, formatting, types, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: $(INSTALLED) ## put style and formatting right
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(BUILT) ## cost beside nginx, HAProxy and Envoy; `make bench ARGS=--help`
	@$(BIN)/python -m benchmarks --sidecar $(BIN)/sidecar $(ARGS)

docs: $(INSTALLED) ## the documentation as a site, in site/; `make docs ARGS=serve` shows it at http://127.0.0.1:8000/
	@$(BIN)/python -m tools.docs $(ARGS)

clean: ## remove .venv, caches and build output
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find sidecar tests benchmarks tools -name __pycache__ -type d -prune -exec rm -rf {} +

# The first line checks the Python that will do the work: the one of .venv if that exists, else $(PYTHON). Debian ships
# Python without ensurepip, and `python -m venv` then leaves half a .venv behind; asking first avoids both.
$(INSTALLED): requirements.lock pyproject.toml
	@python=$(BIN)/python; test -x $$python || python=$(PYTHON); \
	  command -v $$python >/dev/null || { echo "make: $$python not found; install Python 3.11 or newer, or name one: make PYTHON=python3.12" >&2; exit 1; }; \
	  $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "make: $$($$python -V) is too old, 3.11 or newer is needed; name one: make clean, then make PYTHON=python3.12" >&2; exit 1; }; \
	  test -x $(BIN)/python || $$python -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "make: $$python cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "make: installing into $(VENV) what requirements.lock says"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@

# Not an editable install: the `sidecar` command is the compiled one (see setup.py), while tests of modules, and
# `python -m sidecar` in this folder, run the sources as they stand. SIDECAR_COMPILE=0 leaves the compiling out.
$(BUILT): $(INSTALLED) $(SOURCES)
	@echo "make: building the sidecar"
	@rm -rf build/lib* build/bdist*
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --force-reinstall . \
	  || { echo "make: compiling failed; SIDECAR_COMPILE=0 make ... does without" >&2; exit 1; }
	@touch $@

schema: $(INSTALLED) ## write config/sidecar.schema.json anew, after a change of a key, a default or a docstring
	@$(BIN)/python -m sidecar schema > config/sidecar.schema.json
	@git diff --stat config/sidecar.schema.json

lock: $(INSTALLED) ## pin anew what pyproject.toml asks for (run it with Python 3.11)
	@rm -rf build/lock && $(BIN)/python -m venv build/lock
	@build/lock/bin/python -m pip install --quiet --disable-pip-version-check pip-tools
	@sed -n '/^#/!q;p' requirements.lock > build/lock/header
	@SIDECAR_COMPILE=0 build/lock/bin/pip-compile $(LOCK_OPTIONS) --extra dev --all-build-deps --output-file build/lock/requirements.lock pyproject.toml
	@cat build/lock/header build/lock/requirements.lock > requirements.lock
	@sed -n '/^#/!q;p' requirements-run.lock > build/lock/header
	@SIDECAR_COMPILE=0 build/lock/bin/pip-compile $(LOCK_OPTIONS) --constraint requirements.lock --output-file build/lock/requirements-run.lock pyproject.toml
	@cat build/lock/header build/lock/requirements-run.lock > requirements-run.lock
	@git diff --stat requirements.lock requirements-run.lock
