PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DATA ?= ../shared/data/magnetic_tile

.PHONY: demo test lint bench results clean

demo: $(VENV)/demo.installed
	$(BIN)/lrp-edge demo -o demo-line

test: $(VENV)/dev.installed lint
	$(BIN)/pytest

lint: $(VENV)/dev.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/dev.installed
	$(BIN)/python -m pytest tests/benchmarks -m benchmark -s

results: $(VENV)/dev.installed
	PATH=$(abspath $(BIN)):$$PATH sh docs/results.sh $(DATA)

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# TensorRT-RTX is left out where it has no wheel, and the demo says so. torch comes first, at its exact version.
$(VENV)/demo.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[cpu,export,rtx]'
	touch $@

$(VENV)/dev.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info demo-line
