# Each target sets itself up in .venv; nothing but Python 3.11+ and pip is needed.

PYTHON ?= python3
BIN = .venv/bin
PYTEST = $(BIN)/python -m pytest -n auto --dist worksteal

.PHONY: demo earth-site test test-all check docs docs-serve benchmark clean

demo: .venv/demo
	$(BIN)/cyclegan demo

earth-site: .venv/dev  ## a page in build/earth-site/ that translates with the installed generators, for any web server
	rm -rf build/earth-data build/earth-site
	$(BIN)/cyclegan download earth --out build/earth-data
	$(BIN)/cyclegan export src/cyclegan/demo/earth --format web --out build/earth-site --examples build/earth-data \
		--words "satellite photo" map --credits "Photos: NASA Blue Marble; maps: shaded relief by Tom Patterson. Both are in the public domain."

test: check  ## what developers run: every test but the slow ones
	$(PYTEST) -m "not slow"

test-all: test  ## the slow ones too, as CI does
	$(PYTEST) -m slow

check: .venv/dev  ## style, types and the layers of the packages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: .venv/docs  ## the documentation in site/; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --clean

docs-serve: .venv/docs  ## the documentation at http://127.0.0.1:8000, built anew as you write
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve --watch src

benchmark: .venv/dev
	$(BIN)/python benchmarks/step.py

clean:
	rm -rf .venv build dist site

.venv/pip:
	$(PYTHON) -m venv .venv
	touch $@

.venv/demo: .venv/pip pyproject.toml constraints.txt
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[earth]'
	touch $@

.venv/dev: .venv/pip pyproject.toml constraints.txt
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	touch $@

.venv/docs: .venv/pip pyproject.toml constraints.txt
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[docs]'
	touch $@
