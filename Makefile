# Development commands. They require Python 3.11 or later, git and make. `make` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The tests mostly wait for real workers: five processes keep two cores busy. tests/plugins.py sets the order of files,
# not the number of tests in them.
TEST_PROCESSES ?= 5
PYTEST := $(BIN)/pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder
# Import all test modules once, in two halves: a module that cannot be imported ends the run here, and each test process of
# a first run finds the modules compiled.
IMPORT_TESTS = @import() { found=$$($(BIN)/pytest --collect-only -q "$$@" 2>&1) || { echo "$$found" | sed -n '/^==/,$$p'; return 1; }; }; \
	import tests/[a-d]*/ & first=$$!; import tests/[e-z]*/; second=$$?; wait $$first && exit $$second
# Check types in parallel with the tests, which do not always use all cores; findings are printed last.
BESIDE_TYPES = @types=$$(mktemp); $(BIN)/mypy >"$$types" 2>&1 & checker=$$!; \
	$(1); tests=$$?; \
	wait $$checker || { cat "$$types"; tests=1; }; rm -f "$$types"; exit $$tests
# If it is set, each of the hundreds of processes of a run compiles every module again.
unexport PYTHONDONTWRITEBYTECODE
# Folders of Node packages that the tests and the demo run.
NODE_LOCKS := $(wildcard dashboard/demo/node/package-lock.json tests/workloads/*/package-lock.json)
NODE_STAMPS := $(patsubst %/package-lock.json,%/node_modules/.package-lock.json,$(NODE_LOCKS))

.DEFAULT_GOAL := help
.PHONY: help demo quick test soak mutants cover bench check clean test-ready test-packages

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | while IFS="$$(printf '\t')" read -r name text; do \
		printf '  make %-7s %s\n' "$$name" "$$text"; done

demo: $(VENV)/.installed-demo ## run the demo: private Redis, real workers and the dashboard (PORT=9181)
	@folder=dashboard/demo/node; done=$$folder/node_modules/.package-lock.json; \
	if command -v npm >/dev/null && { [ ! -e $$done ] || [ $$folder/package-lock.json -nt $$done ]; }; then \
		npm ci --prefix $$folder --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null 2>&1 \
			|| echo "demo: npm could not install BullMQ for Node; continuing with the Python workers"; \
	fi
	@exec $(BIN)/queuedeck demo $(if $(PORT),--port $(PORT))

quick: test-ready ## lint, types, unit tests, template and import rules, a smoke test per library (under a minute)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(call BESIDE_TYPES,$(PYTEST) -q tests/contract/test_smoke.py tests/web/test_templates.py tests/unit)

test: test-ready ## install what the tests need (apt on Debian and Ubuntu) and run all deterministic tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(IMPORT_TESTS)
	$(call BESIDE_TYPES,$(PYTEST) --rerun-alone)

soak: test-ready ## run randomized tests: races, load, kills at random moments (ROUNDS=1, SEED random)
	$(BIN)/python -m tests.soak --processes $(TEST_PROCESSES) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SEED),--seed $(SEED))

mutants: test-ready ## remove the guards of the product one by one; a test must fail each time
	$(BIN)/python -m tests.mutants.run $(MUTANTS)

cover: test-ready ## measure line and branch coverage by area, written to docs/testing.md
	$(BIN)/python -m tests.cover --processes $(TEST_PROCESSES)

bench: $(VENV)/.installed-test ## measure sampling, viewing and bulk operations: round trips, Redis CPU, latency, jobs per second
	@.ci/packages redis
	$(BIN)/python -m tests.bench.run

check: $(VENV)/.installed-test ## run ruff, mypy, and the template and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -q tests/web/test_templates.py tests/unit/test_imports.py

clean: ## remove what the other targets created in this folder
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache test-results
	rm -rf $(patsubst %/package-lock.json,%/node_modules,$(NODE_LOCKS))
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

test-ready: test-packages
	@$(MAKE) --no-print-directory -j3 $(VENV)/.installed-test $(VENV)/.installed-oldest $(NODE_STAMPS)

test-packages:
	@.ci/packages venv redis chromium node nginx openssl sidekiq

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Queuedeck needs Python 3.11 or later; name one with: make PYTHON=python3.11"; exit 1; }
	@PYTHON=$(PYTHON) .ci/packages venv
	$(PYTHON) -m venv $(VENV)

# The oldest packages that pyproject.toml allows, in a folder of their own, for the tests of tests/console.
$(VENV)/.installed-oldest: pyproject.toml tests/oldest_packages.py $(VENV)/bin/python
	$(BIN)/python -m tests.oldest_packages
	@touch $@

# --no-compile: most installed modules are never imported, and the others are compiled on first import.
$(VENV)/.installed-%: pyproject.toml $(VENV)/bin/python
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-compile -e '.[$*]'
	@touch $@

%/node_modules/.package-lock.json: %/package-lock.json
	npm ci --prefix $* --ignore-scripts --no-audit --no-fund --loglevel=error
