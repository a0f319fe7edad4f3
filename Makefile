PYTHON ?= python3

.PHONY: test
test: .venv/.installed-test
	@command -v redis-server >/dev/null || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq redis-server >/dev/null; }
	.venv/bin/ruff check .
	.venv/bin/pytest

.venv/.installed-test: pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/pip install -q -e '.[test]'
	touch $@
