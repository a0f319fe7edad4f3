# What a person types in a checkout; needs Python 3.11 or later, git and make. `make` alone lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The tests wait for real workers more than they compute: five at once keep two cores busy. Files go in the order
# of tests/plugins.py, not by how many tests they have.
TEST_PROCESSES ?= 5
PYTEST := $(BIN)/pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder
# Compile the test modules once, in two halves; otherwise each test process of a first run compiles all of them.
COMPILE_TESTS = @for half in 'tests/[a-d]*/' 'tests/[e-z]*/'; do $(BIN)/pytest --collect-only -q $$half >/dev/null 2>&1 & done; wait
# Types are checked beside the tests, which leave a core idle now and then; what is found comes last.
BESIDE_TYPES = @types=$$(mktemp); $(BIN)/mypy >"$$types" 2>&1 & checker=$$!; \
	$(1); tests=$$?; \
	wait $$checker || { cat "$$types"; tests=1; }; rm -f "$$types"; exit $$tests
# Where the environment sets it, each of the hundreds of processes of a run compiles every module again.
unexport PYTHONDONTWRITEBYTECODE
# Folders of Node packages that the tests and the demo run.
NODE_LOCKS := $(wildcard dashboard/demo/node/package-lock.json tests/workloads/*/package-lock.json)
NODE_STAMPS := $(patsubst %/package-lock.json,%/node_modules/.package-lock.json,$(NODE_LOCKS))

.DEFAULT_GOAL := help
.PHONY: help demo quick test soak mutants cover bench check clean test-ready test-packages

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | while IFS="$$(printf '\t')" read -r name text; do \
		printf '  make %-7s %s\n' "$$name" "$$text"; done

demo: $(VENV)/.installed-demo ## a Redis of its own, real workers and the dashboard; PORT=9181 unless given
	@folder=dashboard/demo/node; done=$$folder/node_modules/.package-lock.json; \
	if command -v npm >/dev/null && { [ ! -e $$done ] || [ $$folder/package-lock.json -nt $$done ]; }; then \
		npm ci --prefix $$folder --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null 2>&1 \
			|| echo "demo: npm could not install BullMQ for Node; going on with the Python workers"; \
	fi
	@exec $(BIN)/queuedeck demo $(if $(PORT),--port $(PORT))

quick: test-ready ## under a minute: lint, types, unit tests, rules for templates and imports, a smoke test per library
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(call BESIDE_TYPES,$(PYTEST) -q tests/contract/test_smoke.py tests/web/test_templates.py tests/unit)

test: test-ready ## install what the tests need (apt on Debian and Ubuntu), run every test whose answer is not luck
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(COMPILE_TESTS)
	$(call BESIDE_TYPES,$(PYTEST) --rerun-alone)

soak: test-ready ## races by luck, crowds, kills at random moments: ROUNDS=1 and a drawn SEED unless given
	$(BIN)/python -m tests.soak --processes $(TEST_PROCESSES) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SEED),--seed $(SEED))

mutants: test-ready ## remove the guards of the product, one by one: a test must fail each time
	$(BIN)/python -m tests.mutants.run $(MUTANTS)

cover: test-ready ## which lines and branches the tests run, by area; into docs/testing.md
	$(BIN)/python -m tests.cover --processes $(TEST_PROCESSES)

bench: $(VENV)/.installed-test ## what sampling, viewing and bulk work cost: round trips, Redis CPU, latency, jobs per second
	@.ci/packages redis
	$(BIN)/python -m tests.bench.run

check: $(VENV)/.installed-test ## ruff, mypy, the rules for templates and imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -q tests/web/test_templates.py tests/unit/test_imports.py

clean: ## remove what the other targets made in this folder
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache test-results
	rm -rf $(patsubst %/package-lock.json,%/node_modules,$(NODE_LOCKS))
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

test-ready: test-packages
	@$(MAKE) --no-print-directory -j2 $(VENV)/.installed-test $(NODE_STAMPS)

test-packages:
	@.ci/packages venv redis chromium node nginx openssl sidekiq

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Queuedeck needs Python 3.11 or later; name one with: make PYTHON=python3.11"; exit 1; }
	@PYTHON=$(PYTHON) .ci/packages venv
	$(PYTHON) -m venv $(VENV)

# --no-compile: most installed modules are never imported, and the others are compiled on first import.
$(VENV)/.installed-%: pyproject.toml $(VENV)/bin/python
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-compile -e '.[$*]'
	@touch $@

%/node_modules/.package-lock.json: %/package-lock.json
	npm ci --prefix $* --ignore-scripts --no-audit --no-fund --loglevel=error
