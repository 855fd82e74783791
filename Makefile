# The four things to do here. `make demo ARGS="--users 500"` passes options on; `make PYTHON=python3.12 …` picks a Python.

PYTHON ?= python3
ARGS ?=
COVERAGE ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -c constraints.txt

.PHONY: demo test bench chaos
.DELETE_ON_ERROR:

demo: $(VENV)/installed  ## run the whole path on a simulated portfolio; ends by itself
	$(BIN)/foreshock demo --keep .foreshock/demo $(ARGS)

# The tests start hundreds of Python processes: each would compile all modules anew where bytecode is not kept.
test: export PYTHONDONTWRITEBYTECODE =
test: $(VENV)/installed-for-tests  ## lint, types, unit and integration tests; COVERAGE=1: and which lines none of them runs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	@$(BIN)/python -m compileall -q -j 0 events model stream reports bench desk foreshock migrations
	@# mypy runs beside the tests, which often wait for servers; what it found is shown after them. Most of its time goes
	@# into the types of the libraries: what it has found of them stays with them, for every clone that uses them.
	@$(BIN)/mypy --cache-dir $(VENV)/mypy >$(VENV)/mypy.log 2>&1 & mypy=$$!; trap "kill $$mypy" INT TERM; \
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(if $(COVERAGE),--cov --cov-report=term) $(ARGS); tests=$$?; \
	wait $$mypy; types=$$?; cat $(VENV)/mypy.log; exit $$((tests > types ? tests : types))

bench: $(VENV)/installed-for-bench  ## measure events per second beside other frameworks; ARGS=latency and so on for more
	$(BIN)/foreshock bench $(ARGS)

chaos: $(VENV)/installed-for-bench  ## kill and freeze workers under live arrival, judged by an oracle; ARGS="--seeds 3"
	$(BIN)/foreshock chaos $(ARGS)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Foreshock needs Python 3.11 or newer and $(PYTHON) is not: try make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# setuptools first and no build isolation: the build, too, uses the pinned version.
$(VENV)/installed: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) setuptools
	$(PIP) --no-build-isolation -e '.[embedded,desk]'
	@touch $@

$(VENV)/installed-for-tests: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) setuptools
	$(PIP) --no-build-isolation -e '.[train,dev,embedded,desk]'
	@touch $@ $(VENV)/installed

$(VENV)/installed-for-bench: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) setuptools
	$(PIP) --no-build-isolation -e '.[bench,embedded]'
	@touch $@ $(VENV)/installed
