# Two commands do all set-up on a machine that has Python >= 3.11, make and a package index:
#   make demo   the main job on the simulated screen, into results/
#   make test   the test suite
# and for developers: docs, lint, types, test-slow, test-latest, test-lowest, coverage, deps, package, clean
PYTHON ?= python3
PYTHON_LATEST ?= python3.12
UV ?= .venv/bin/uv
OUT ?= results
# one process a core, one thread a process: processes of several threads that share a core are many times slower
PYTEST = OMP_NUM_THREADS=1 $(1)/bin/python -m pytest --numprocesses auto

.PHONY: demo test test-slow test-latest test-lowest coverage docs lint types deps package clean

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

.venv/bin/uv: .venv/installed
	.venv/bin/python -m pip install --quiet uv

.venv-lowest/installed: pyproject.toml $(UV)
	$(UV) venv --quiet --python 3.11 .venv-lowest
	$(UV) pip install --quiet --python .venv-lowest --resolution lowest-direct --editable . --group test
	touch $@

.venv/installed-docs: .venv/installed
	.venv/bin/python -m pip install --quiet --group docs
	touch $@

demo: .venv/installed
	.venv/bin/python -m dbdiffusion --out $(OUT) --overwrite

test: .venv/installed-dev
	$(call PYTEST,.venv)

test-slow: .venv/installed-dev
	$(call PYTEST,.venv) --slow

test-latest: .venv-latest/installed
	$(call PYTEST,.venv-latest)

# the oldest versions that pyproject.toml allows
test-lowest: .venv-lowest/installed
	$(call PYTEST,.venv-lowest)

# how much of the package the suite runs, by line and branch
coverage: .venv/installed-dev
	$(call PYTEST,.venv) --cov --cov-report=term --cov-report=xml

# warnings are errors; inventories of other projects that cannot be reached are none
docs: .venv/installed-docs
	.venv/bin/python -m sphinx -W --keep-going -b html docs docs/_build/html

lint: .venv/installed-dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

types: .venv/installed-dev
	.venv/bin/mypy

# what is imported is declared, and what is declared is imported
deps: .venv/installed-dev
	.venv/bin/deptry src

# both files of a release; the wheel says its version and its options, for which it needs nothing else, and does the main job
package:
	rm -rf dist .venv-package
	$(PYTHON) -m venv .venv-package
	.venv-package/bin/python -m pip install --quiet build twine
	.venv-package/bin/python -m build --outdir dist .
	.venv-package/bin/python -m twine check --strict dist/*
	.venv-package/bin/python -m pip install --quiet --no-deps dist/*.whl
	cd .venv-package && bin/dbdiffusion --version && bin/dbdiffusion --help >/dev/null
	.venv-package/bin/python -m pip install --quiet dist/*.whl
	cd .venv-package && bin/dbdiffusion --out demo --overwrite --quiet && test -s demo/report.html && bin/python -m pip check

clean:
	rm -rf .venv .venv-latest .venv-lowest .venv-package dist .coverage coverage.xml docs/_build docs/api/generated $(OUT)
