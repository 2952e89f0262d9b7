# Two commands are enough on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PLUGINS := $(sort $(wildcard plugins/*))

.PHONY: help setup demo test lint types format wheel clean

help:
	@echo "make demo    set up, then try whether stages pay on the embedded digits (studies/demo)"
	@echo "make test    set up, then lint, types and all tests"
	@echo "make format  rewrite the code in the house style"
	@echo "make wheel   build the wheel into dist/"
	@echo "make clean   remove the virtual environment and build outputs"

setup: $(STAMP)

$(STAMP): pyproject.toml $(PLUGINS:=/pyproject.toml)
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v[:2] < (3, 14) else \
	  "msdk needs Python 3.11, 3.12 or 3.13, and this is %d.%d: make PYTHON=python3.12 ..." % v[:2])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "pip>=25.1"
	# What this was called before: its command and metadata would stay beside the new ones.
	$(BIN)/python -m pip uninstall --quiet --quiet --yes msdk
	$(BIN)/python -m pip install --quiet --editable . $(addprefix --editable ,$(PLUGINS)) --group dev
	touch $(STAMP)

demo: setup
	$(BIN)/msdk study recipes/studies/demo.toml --processes 2
	@echo "both draw in studies/demo/samples.png; what longer studies found: docs/studies.md"

test: lint types
	$(BIN)/python -m pytest --quiet --numprocesses 2 --dist worksteal

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/basedpyright

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: setup
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean:
	rm -rf $(VENV) dist build
