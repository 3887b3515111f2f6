# The commands for developers and first-time users. Python packages are in .venv. tools/prepare.py installs what a target
# needs: `run` needs only the packages of requirements-run.lock, all other targets those of requirements.lock.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
LOCK_OPTIONS := --quiet --upgrade --generate-hashes --allow-unsafe --strip-extras \
  --no-header --no-emit-index-url --no-emit-find-links --no-emit-trusted-host
# The tests of one file run in one process, because they share what they start.
WHOLE_RUN := --numprocesses auto --maxprocesses 4 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help run test lint format bench fuzz docs schema lock release-check clean

help: ## show this list
	@grep -E '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

run: $(if $(filter-out 0,$(COMPILE)),compiled,runnable) ## run the sidecar with three small services behind it; `make run COMPILE=1` compiles it first
	@exec $(BIN)/sidecar demo $(ARGS)

test: built ## run all tests; for some of them: `make test ARGS="tests/policy -k breaker"`
	@SIDECAR_COMMAND="'$(CURDIR)/$(BIN)/sidecar'" $(BIN)/python -m pytest $(if $(ARGS),$(ARGS),$(WHOLE_RUN))

lint: installed ## check style, formatting, types and import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: installed ## correct style and formatting
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: built ## measure the cost beside nginx, HAProxy and Envoy; `make bench ARGS=--help`
	@$(BIN)/python -m benchmarks --sidecar $(BIN)/sidecar $(ARGS)

fuzz: installed ## fuzz the head scanner and the HTTP/2 engine, a minute each; the scanner under sanitizers: `make fuzz ARGS=--sanitize`
	@$(BIN)/python -m tools.fuzz_scan $(ARGS)
	@$(BIN)/python -m tools.fuzz_h2 $(filter-out --sanitize,$(ARGS))

docs: installed ## build the documentation site in site/; `make docs ARGS=serve` shows it at http://127.0.0.1:8000/
	@$(BIN)/python -m tools.docs $(ARGS)

clean: ## remove .venv, caches and build output
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find sidecar tests benchmarks tools -name __pycache__ -type d -prune -exec rm -rf {} +

release-check: installed ## make a release, all but publishing it (docs/release.md): every check, then the files in dist/
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory test ARGS=
	@$(BIN)/python -m tools.release $(ARGS)

# What a target needs. These use the Python of .venv if it works, else $(PYTHON).
.PHONY: runnable installed built compiled
runnable: WANTED := run
installed: WANTED := packages
built compiled: WANTED := build
compiled: export SIDECAR_COMPILE := 1
runnable installed built compiled:
	@python=$(BIN)/python; "$$python" -c '' 2>/dev/null || python=$(PYTHON); \
	  command -v $$python >/dev/null || { echo "make: $$python not found; install Python 3.11 or newer, or name one: make PYTHON=python3.12" >&2; exit 1; }; \
	  $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "make: $$($$python -V) is too old, 3.11 or newer is needed; name one: make clean, then make PYTHON=python3.12" >&2; exit 1; }; \
	  $$python tools/prepare.py $(WANTED)

schema: installed ## write config/sidecar.schema.json again, after a change of a key, a default or a docstring
	@$(BIN)/python -m sidecar schema > config/sidecar.schema.json
	@git diff --stat config/sidecar.schema.json 2>/dev/null || true # in an unpacked sdist there is no git

lock: installed ## pin the packages of pyproject.toml again (run it with Python 3.11)
	@rm -rf build/lock && $(BIN)/python -m venv build/lock
	@build/lock/bin/python -m pip install --quiet --disable-pip-version-check pip-tools
	@sed -n '/^#/!q;p' requirements.lock > build/lock/header
	@SIDECAR_COMPILE=0 build/lock/bin/pip-compile $(LOCK_OPTIONS) --extra dev --all-build-deps --output-file build/lock/requirements.lock pyproject.toml
	@cat build/lock/header build/lock/requirements.lock > requirements.lock
	@sed -n '/^#/!q;p' requirements-run.lock > build/lock/header
	@SIDECAR_COMPILE=0 build/lock/bin/pip-compile $(LOCK_OPTIONS) --constraint requirements.lock --output-file build/lock/requirements-run.lock pyproject.toml
	@cat build/lock/header build/lock/requirements-run.lock > requirements-run.lock
	@sed -n '/^#/!q;p' deploy/requirements-image.lock > build/lock/header
	@printf "mypy\nsetuptools\n" > build/lock/compiler.in
	@SIDECAR_COMPILE=0 build/lock/bin/pip-compile $(LOCK_OPTIONS) --constraint requirements.lock --extra dns,injector,otel --output-file build/lock/requirements-image.lock pyproject.toml build/lock/compiler.in
	@cat build/lock/header build/lock/requirements-image.lock > deploy/requirements-image.lock
	@git diff --stat requirements.lock requirements-run.lock deploy/requirements-image.lock 2>/dev/null || true # in an unpacked sdist there is no git
