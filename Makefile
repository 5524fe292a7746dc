# Two commands do all set-up on a machine that has Python >= 3.11, make and a package index:
#   make demo   the main job on the simulated screen, into results/
#   make test   the test suite
PYTHON ?= python3
PYTHON_LATEST ?= python3.12
OUT ?= results

.PHONY: demo test test-slow test-latest lint types clean

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	.venv/bin/python -m pip install --quiet --editable .
	touch $@

.venv/installed-dev: .venv/installed
	.venv/bin/python -m pip install --quiet --group test --group lint --group typecheck
	touch $@

.venv-latest/installed: pyproject.toml
	$(PYTHON_LATEST) -m venv .venv-latest
	.venv-latest/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	.venv-latest/bin/python -m pip install --quiet --editable . --group test "scvi-tools>=1.5"
	touch $@

demo: .venv/installed
	.venv/bin/python -m dbdiffusion --out $(OUT) --overwrite

test: .venv/installed-dev
	.venv/bin/python -m pytest

test-slow: .venv/installed-dev
	.venv/bin/python -m pytest --slow

test-latest: .venv-latest/installed
	.venv-latest/bin/python -m pytest

lint: .venv/installed-dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

types: .venv/installed-dev
	.venv/bin/mypy

clean:
	rm -rf .venv .venv-latest $(OUT)
