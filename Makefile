# make setup && make test; PYTHON=... takes another interpreter for the environment
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup test slow check build

setup:  ## an environment with everything that developing needs
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -e '.[maintain]'

test:  ## everything but the slow tests, in two processes
	$(BIN)/python -m pytest

slow:  ## full-size networks and minutes of work
	$(BIN)/python -m pytest -n 0 -m slow

check:  ## linters and types, as continuous integration runs them
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

build:  ## wheel and source distribution, in dist/
	$(BIN)/python -m build
