# make demo   installs into .venv and runs the whole pipeline on synthetic cases (CPU)
# make test   installs what the tests need and runs them
# make check  reads the code without running it: ruff, and mypy on diffusion/ and networks/
VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin

.PHONY: demo test check clean

demo: $(VENV)/.installed
	$(BIN)/medsegdiff_demo -o demo_output

test: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

check: $(VENV)/.installed-test
	$(BIN)/ruff check
	$(BIN)/mypy

$(VENV)/.installed: requirements.lock pyproject.toml setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed requirements-test.lock
	$(BIN)/python -m pip install --quiet --requirement requirements-test.lock
	touch $@

clean:
	rm -rf $(VENV) demo_output
