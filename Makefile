# One door for developers: `make` lists what there is; each target sets up .venv when it needs to.

PYTHON ?= python3.11
BIN := .venv/bin
.DEFAULT_GOAL := help
# What is imported is compiled once, where the environment says otherwise, too.
export PYTHONDONTWRITEBYTECODE :=
.PHONY: help demo dev test wheel lean newest-sdk search soak lint types imports openapi docs image check bench bench-full walk lock clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

demo: .venv/ready  ## show a tenant's life on an embedded AWS
	$(BIN)/orchestrator demo

dev: .venv/ready  ## run the service with an embedded AWS on http://127.0.0.1:8080
	$(BIN)/orchestrator dev

test: .venv/ready .venv/ministack/ready  ## run the tests
	$(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

wheel: .venv/ready  ## run the examples, the snippets of the docs and the test kit from the wheel, without the checkout's package
	rm -rf .venv/wheel && mkdir -p .venv/wheel/package .venv/wheel/run
	$(BIN)/python -m hatchling build -t wheel -d .venv/wheel
	$(BIN)/python -m zipfile -e .venv/wheel/*.whl .venv/wheel/package
	git ls-files -z -- ':!orchestrator' | tar -c --null -T - | tar -x -C .venv/wheel/run
	cd .venv/wheel/run && export PYTHONPATH=$(CURDIR)/.venv/wheel/package && \
	  ../../bin/python -c 'import orchestrator; assert "wheel/package" in orchestrator.__file__' && \
	  ../../bin/python -m pytest -n auto --dist worksteal tests/acceptance/test_examples.py \
	  tests/acceptance/test_getting_started.py tests/acceptance/test_kit.py tests/meta/test_snippets.py

lean: .venv/ready .venv/ministack/ready  ## run what depends on the transport to AWS on the opt-in one
	ORCHESTRATOR_TESTS_TRANSPORT=lean $(BIN)/python -m pytest -n auto --dist worksteal \
	  -k "not memory" tests/contracts/dynamodb tests/contracts/test_ledger.py \
	  tests/acceptance/test_faults_table.py tests/acceptance/test_aws_faults.py \
	  tests/integration/test_races.py

newest-sdk: .venv/aiobotocore/ready  ## run the contract suites on the newest aiobotocore, without aioboto3
	.venv/aiobotocore/bin/python -m pytest -n auto --dist worksteal -k "not memory and not Local" \
	  tests/contracts/dynamodb tests/contracts/test_codebuild.py tests/contracts/test_inbox.py \
	  tests/contracts/test_publisher.py tests/contracts/test_secret_store.py tests/contracts/test_parameter_store.py \
	  tests/contracts/test_step_functions.py tests/contracts/test_tier_catalog.py

search: .venv/ready .venv/ministack/ready  ## search the model, a crowd and simulated days further than `make test`, and try other examples
	SOAK=1 SOAK_OPERATIONS=20 SOAK_TENANTS=120 $(BIN)/python -m pytest -n auto --dist worksteal \
	  tests/integration/test_ledger_model.py tests/integration/test_races.py \
	  tests/integration/test_simulated_days.py
	SOAK=1 $(BIN)/python -m pytest -n auto --dist worksteal -m hypothesis tests

soak: .venv/ready .venv/ministack/ready  ## races, the model, workers, look-ups, sweeps, simulated days and fuzzers, in large counts
	SOAK=20 SOAK_OPERATIONS=100 SOAK_MESSAGES=10000 SOAK_TENANTS=1500 $(BIN)/python -m pytest \
	  -n auto --dist worksteal \
	  tests/integration/test_races.py tests/integration/test_ledger_model.py \
	  tests/integration/test_worker.py tests/integration/test_simulated_days.py \
	  tests/integration/test_sweeps_under_load.py tests/acceptance/test_any_events.py \
	  tests/acceptance/test_shared_look_ups.py tests/acceptance/test_any_bytes.py

lint: .venv/ready  ## ruff and hadolint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/hadolint Dockerfile deploy/lambda.Dockerfile

types: .venv/ready  ## mypy, strict
	$(BIN)/mypy

imports: .venv/ready  ## the layer rule
	$(BIN)/lint-imports --no-logo

openapi: .venv/ready  ## write openapi/openapi.json anew
	$(BIN)/orchestrator openapi --config local.toml --output openapi/openapi.json

docs: .venv/ready  ## write the generated pages of docs/ anew
	$(BIN)/python -m tests.reference.pages

check: lint types imports  ## all that needs no test run: lint, types, imports, OpenAPI
	$(BIN)/orchestrator openapi --config local.toml --check --output openapi/openapi.json

image:  ## build and check the image without an engine (buildah, as root): BASE_IMAGE=NAME@sha256:…
	deploy/build-image.sh $(ARGS)

bench: .venv/bench/ready  ## measure what an event costs, against others: some minutes
	$(BIN)/python -m benchmarks $(ARGS)

bench-full: .venv/bench/ready  ## the same at full length, written to docs/ and benchmarks/results/
	$(BIN)/python -m benchmarks --full --write $(ARGS)

walk: .venv/ready  ## count the files that an event's way leads a reader through
	$(BIN)/python benchmarks/walk.py --ways

lock: .venv/ready  ## resolve requirements/*.txt anew from pyproject.toml
	$(PYTHON) -m venv .venv/uv && .venv/uv/bin/pip install -q uv
	.venv/uv/bin/uv pip compile pyproject.toml $(LOCK) --extra dev --extra jwt --extra otel --group test --group lint -o requirements/dev.txt
	.venv/uv/bin/uv pip compile pyproject.toml $(LOCK) --extra service --extra jwt --extra otel -c requirements/dev.txt -o requirements/runtime.txt
	.venv/uv/bin/uv pip compile --group build $(LOCK) -c requirements/dev.txt -o requirements/build.txt
	.venv/uv/bin/uv pip compile --group ministack $(LOCK) -o requirements/ministack.txt
	.venv/uv/bin/uv pip compile pyproject.toml $(LOCK) --extra dev --group aiobotocore \
	  --override requirements/without-aioboto3.in -o requirements/aiobotocore.txt
	.venv/uv/bin/uv pip compile --group bench $(LOCK) -o requirements/bench.txt

PIP := -q --disable-pip-version-check
# Shows how many packages pip has found so far, on one line. With bash, since a failure of pip must
# not be hidden: `.SHELLFLAGS` would be later than the make of macOS.
SHELL := bash
install = set -o pipefail; \
  $(BIN)/pip $(1) install --disable-pip-version-check --progress-bar off --require-hashes $(2) | \
  awk '/^Collecting/ {printf "\r    %d packages", ++n; fflush()} \
    /^Installing/ {printf ", being installed"; fflush()} END {if (n) print ""}'
# Another environment, without a pip of its own.
into = --python .venv/$(1)
LOCK := -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header

clean:  ## remove what the targets made
	rm -rf .venv dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

.venv/ready: requirements/build.txt requirements/dev.txt pyproject.toml
	@echo "Setting up .venv, once: a minute or two."
	@echo "1/3 an environment of $(PYTHON)"
	@$(PYTHON) -m venv .venv
	@echo "2/3 what builds the packages"
	@$(call install,,-r requirements/build.txt)
	@echo "3/3 the service and its tools"
	@$(call install,,--no-compile --no-build-isolation -r requirements/dev.txt)
	@# With all processors, where pip takes one; some packages carry files of Python 2.
	@$(BIN)/python -m compileall -qq -j 0 .venv/lib || true
	@$(BIN)/pip install $(PIP) --no-deps --no-build-isolation -e .
	@touch $@

.venv/ministack/ready: requirements/ministack.txt | .venv/ready
	@echo "Setting up another AWS for the tests, once."
	@$(PYTHON) -m venv .venv/ministack --without-pip
	@$(call install,$(call into,ministack),-r requirements/ministack.txt)
	@touch $@

.venv/aiobotocore/ready: .venv/ready .venv/ministack/ready requirements/aiobotocore.txt
	$(PYTHON) -m venv .venv/aiobotocore --without-pip
	$(BIN)/pip $(call into,aiobotocore) install $(PIP) --no-compile --require-hashes -r requirements/build.txt
	$(BIN)/pip $(call into,aiobotocore) install $(PIP) --no-compile --require-hashes --no-build-isolation -r requirements/aiobotocore.txt
	$(BIN)/pip $(call into,aiobotocore) install $(PIP) --no-deps --no-build-isolation -e .
	ln -sfn ../ministack .venv/aiobotocore/ministack
	touch $@

.venv/bench/ready: .venv/ready requirements/bench.txt
	$(PYTHON) -m venv .venv/bench --without-pip
	$(BIN)/pip $(call into,bench) install $(PIP) --require-hashes -r requirements/bench.txt
	touch $@
