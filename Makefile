# On a fresh machine two commands are enough, including all setup: `make demo` shows the product at work, `make test` runs
# every test. `make check` runs the fast tests only; `make help` lists everything.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
DEMO   := $(VENV)/.installed-demo
TOOLS  := .venv-tools/.installed
ARGS   ?=

.DEFAULT_GOAL := help

.PHONY: help
help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

$(STAMP): requirements/dev.txt pyproject.toml
	@echo "creating $(VENV) and installing what the lock file names (once)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# The demo needs only a third of these packages, so it starts sooner. If everything is installed already, nothing is added.
$(DEMO): requirements/sandbox.txt requirements/build.txt pyproject.toml
	@test -f $(STAMP) || { echo "creating $(VENV) and installing what the demo needs (once)"; $(PYTHON) -m venv $(VENV); }
	@test -f $(STAMP) || $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes \
		-r requirements/sandbox.txt -r requirements/build.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: install
install: $(STAMP)  ## the environment in .venv

.PHONY: demo
demo: $(DEMO)  ## the whole product on this machine for about five minutes (ARGS="--help" lists the options)
	@$(BIN)/tidegate sandbox $(ARGS)

.PHONY: test
test: check  ## every test this machine can run, the real control plane included
	@$(BIN)/tidegate sandbox binaries || echo "tests that need what is missing are skipped, and say so"
	@$(BIN)/python -m pytest tests -m "slow or cluster or browser" $(ARGS)

.PHONY: vllm
vllm: $(STAMP)  ## the emulated vLLM against the real one (opt-in: 3 GB into the user's cache, once; then 10 minutes)
	@$(BIN)/tidegate sandbox vllm-env
	@$(BIN)/python -m pytest tests/sandbox -m vllm $(ARGS)

.PHONY: check
check: $(STAMP) lint  ## the fast part: lint, types, contracts, unit and property tests
	@$(BIN)/python -m pytest tests -m "not slow and not cluster and not browser and not vllm" -n 2 $(ARGS)

.PHONY: lint
lint: $(STAMP)  ## style, types, import contracts
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/mypy -p tidegate
	@$(BIN)/lint-imports

.PHONY: format
format: $(STAMP)  ## rewrite the code in house style
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

.PHONY: binaries
binaries: $(STAMP)  ## the real control plane, Prometheus and Helm: found, downloaded or built (minutes, once)
	@$(BIN)/tidegate sandbox binaries

.PHONY: crds
crds: $(STAMP)  ## write crds/, the chart's copy and the API reference from the models
	@$(BIN)/tidegate crds --write crds && $(BIN)/tidegate crds --write charts/tidegate/files/crds
	@$(BIN)/tidegate crds --docs --write docs/reference

$(TOOLS): requirements/tools.txt
	@$(PYTHON) -m venv .venv-tools
	@.venv-tools/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/tools.txt
	@touch $@

LOCK := .venv-tools/bin/pip-compile --quiet --strip-extras --generate-hashes --no-header --allow-unsafe \
	--no-emit-index-url --no-emit-find-links --no-emit-options

.PHONY: manifests
manifests: crds  ## write the chart's README and deploy/base from the chart
	@$(BIN)/python -m tools.generate

.PHONY: lock
lock: $(TOOLS)  ## write requirements/*.txt anew
	@$(LOCK) --output-file requirements/run.txt pyproject.toml
	@$(LOCK) --extra sandbox --output-file requirements/sandbox.txt pyproject.toml
	@$(LOCK) --extra dev --output-file requirements/dev.txt pyproject.toml
	@$(LOCK) --output-file requirements/build.txt requirements/build.in
	@$(LOCK) --output-file requirements/tools.txt requirements/tools.in

.PHONY: sbom
sbom: $(TOOLS)  ## list what is in the image (CycloneDX, sbom.json)
	@.venv-tools/bin/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible --of JSON -o sbom.json requirements/run.txt
	@echo "wrote sbom.json"

.PHONY: audit
audit: $(TOOLS)  ## look the locked dependencies up in the published advisories (needs the network)
	@.venv-tools/bin/pip-audit --disable-pip --require-hashes -r requirements/run.txt

.PHONY: clean
clean:  ## remove what the commands above made here
	@rm -rf $(VENV) .venv-tools build dist .pytest_cache .mypy_cache .ruff_cache
