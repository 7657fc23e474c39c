# Each target does its own set-up in .venv; nothing but Python 3.11+ and pip is needed.

PYTHON ?= python3
BIN = .venv/bin

.PHONY: demo test quick check benchmark clean

demo: .venv/demo
	$(BIN)/cyclegan demo

test: check  ## everything that CI runs
	$(BIN)/python -m pytest

quick: .venv/dev  ## the tests that take seconds
	$(BIN)/python -m pytest -m "not slow"

check: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

benchmark: .venv/dev
	$(BIN)/python benchmarks/step.py

clean:
	rm -rf .venv build dist

.venv/pip:
	$(PYTHON) -m venv .venv
	touch $@

.venv/demo: .venv/pip pyproject.toml constraints.txt
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[earth]'
	touch $@

.venv/dev: .venv/pip pyproject.toml constraints.txt
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	touch $@
