PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
MINUTES ?= 10
DATA ?= ../shared/data/magnetic_tile
WORKERS ?= 2
ONLY ?= *
# Each worker computes in one thread: workers with several threads each would wait for one another.
WORK := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --durations=15
PYTEST := $(WORK) --dist worksteal

.PHONY: demo test test-thorough floors lint bench soak matrix families deletion reference results runs cpp cpp-thorough fuzz clean

demo: $(VENV)/demo.installed
	$(BIN)/lrp-edge demo -o demo-line

test: $(VENV)/dev.installed lint
	$(PYTEST) tests

# All tests, also those that repeat a quicker one on whole networks, for more GPUs or for longer.
test-thorough: $(VENV)/dev.installed lint cpp-thorough
	$(PYTEST) tests -m 'not benchmark and not cpp' --timeout 3600

# What strangers can reach, with the oldest versions that pyproject.toml allows.
floors: $(VENV)/dev.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m tools.floors

lint: $(VENV)/dev.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/dev.installed
	$(BIN)/python -m pytest tests/benchmarks -m benchmark -s --timeout 0

# A line with a camera, a broker and a viewer's client, for MINUTES; what grows, and whether results get older.
soak: $(VENV)/dev.installed
	$(BIN)/python -m tools.soak --minutes $(MINUTES)

# Which precision, shape and gate TensorRT-RTX builds for which GPU; resumes where it was stopped.
matrix: $(VENV)/dev.installed
	$(BIN)/python -m tools.matrix -o build/matrix $(if $(CHECKPOINT),--checkpoint $(CHECKPOINT))

# Which networks are unrolled, exported, verified and compiled: measures what is not stored, for hours, and writes the page.
# It may be stopped at any time and goes on where it was; ONLY='timm/*' takes some, QUICK=1 only unrolls and compares.
families: $(VENV)/dev.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m tools.families measure --only '$(ONLY)' $(if $(QUICK),--quick)
	$(BIN)/python -m tools.families page

# How soon a pretrained network loses the class of photographs that are deleted by relevance; draws docs/deletion.png.
deletion: $(VENV)/dev.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m tools.deletion -o docs/deletion.png

# The page of options and the C++ table of the card's fields, from what declares them.
reference: $(VENV)/dev.installed
	$(BIN)/python -m tools.reference

# The page and the README's figures from what is stored; `make runs` trains and measures what is not, for hours. It may be
# stopped at any time and goes on where it was; ONLY='random-*-0' takes some of the runs.
results: $(VENV)/dev.installed
	$(BIN)/python -m tools.results page

runs: $(VENV)/dev.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m tools.results runs $(DATA) --only '$(ONLY)'

# The C++ library and its programs, with the ONNX Runtime that Python has or that ONNXRUNTIME_ROOT names.
cpp: $(VENV)/dev.installed
	$(WORK) --dist loadfile tests/cpp -m 'cpp and not thorough'

cpp-thorough: $(VENV)/dev.installed
	$(WORK) --dist loadfile tests/cpp -m cpp --timeout 3600

# The card and the frames that the C++ library takes, fuzzed for MINUTES each.
fuzz: $(VENV)/dev.installed
	LRP_EDGE_FUZZ_SECONDS=$$(($(MINUTES) * 60)) $(BIN)/pytest tests/cpp/test_fuzz.py -m cpp -s --timeout 0

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
	# The tests need the rules of the one and the brushes of the other alone, not language models and a server's client.
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps lxt label-studio-sdk
	if pkg-config --exists gobject-introspection-1.0 cairo; then \
		$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[gobject]'; \
	else echo 'GStreamer and Aravis are not tested: their headers are not installed'; fi
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info demo-line
