# Two commands do everything, set-up included: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test tests test-long lint setup

demo: .venv/installed
	$(BIN)/bcrit tune examples/digits.yaml

# The tests begin some hundred processes that import the same files: they are compiled once.
unexport PYTHONDONTWRITEBYTECODE

# Four at once on two cores: tests that start Ray wait for a good part of their time. Files are handed out in the order
# of tests/conftest.py, the longest first.
PYTEST := $(BIN)/python -m pytest -q -n 4 --dist loadfile --no-loadscope-reorder

# Lint runs beside the tests, which wait for a part of their time.
test: setup
	$(MAKE) --jobs 2 lint tests

tests:
	$(PYTEST)

# What repeats a proof of `make test` more often or on more cases, and takes minutes.
test-long: setup
	$(PYTEST) -m long

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --num-workers 2

setup: .venv/developed

PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# torch comes first and alone: its pinned version has a CPU build, a looser one may bring gigabytes of CUDA.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("bcrit needs Python 3.11 or later: make PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(PIP) torch
	$(PIP) -e .
	touch $@

# What only the tests need. Without a browser of the system's, playwright's own is fetched; without either, the tests that
# open a report in one are skipped and say so, or fail with REQUIRE_ALL_DEPS=1.
.venv/developed: .venv/installed
	$(PIP) -e '.[dev]'
	$(BIN)/python -m tests.browser.chromium || $(BIN)/python -m playwright install --only-shell chromium || true
	touch $@
