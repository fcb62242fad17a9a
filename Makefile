# `make demo` and `make test` set up .venv by themselves.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test mutants kills fuzz lint docs bench clean

demo: .venv/ready
	$(BIN)/python -m trainers compare

test: .venv/ready
	$(BIN)/python -m pytest

mutants: .venv/ready
	$(BIN)/python tests/mutants run

kills: .venv/ready
	DROPOUT_ZOO_KILLS=all $(BIN)/python -m pytest tests/test_kills.py tests/test_full_disk.py

fuzz: .venv/ready
	$(BIN)/python tests/fuzz

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo --no-cache
	$(BIN)/mypy

docs: .venv/ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "site build/site/index.html"

bench: .venv/ready
	$(BIN)/python -m benchmarks

clean:
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache .cache build *.egg-info

.venv/ready: requirements.txt constraints.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else "Python must be 3.11 to 3.13, got " + sys.version.split()[0] + "; name another: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt --constraint constraints.txt
	touch $@
