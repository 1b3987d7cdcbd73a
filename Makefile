# Five commands, the same here and in CI; each sets its environment up by itself.
# Needed beforehand: python3 (3.11 or newer, with venv), make and git.
#   make demo    clips labelled by two systems, drawn and shown as tables, in about a minute;
#                make demo VIDEO=path takes a video of yours instead of the third
#   make test    every test but the long ones         make chaos   the long ones: kills, fuzzers
#                make chaos CHAOS="chaos and not endless" leaves out what takes an hour
#   make check   format, lint, types, layout          make bench   measurements
# Another Python: make PYTHON=/path/to/python3.12 test

PYTHON ?= python3
WORKERS ?= 2
CHAOS ?= chaos
VENV := .venv
PY := $(VENV)/bin/python
UV_VERSION := 0.9.5
# The caller's installation of packages, if any, is none of ours.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV
# Tests start some hundred processes: without byte code each would compile the sources again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check chaos bench clean
.DELETE_ON_ERROR:

demo: $(VENV)/.ready-all
	$(PY) -m jobs.demo demo-out $(if $(VIDEO),--video "$$VIDEO")

test: $(VENV)/.ready-all
	$(PY) -m pytest -n $(WORKERS) --dist loadgroup -m "not chaos"

check: $(VENV)/.ready-all
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(PY) -m pytest tests/unit/test_layout.py tests/unit/test_cli_flags.py

chaos: $(VENV)/.ready-all
	$(PY) -m pytest -n $(WORKERS) --dist loadgroup -m "$(CHAOS)" -rP

bench: $(VENV)/.ready-all
	$(PY) -m tests.bench.run

clean:
	rm -rf $(VENV) demo-out build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

# --- environment ----------------------------------------------------------------------------------
# Versions are those of constraints.txt, for building too. Compiling byte code at installation
# saves every later process over a second of imports where Python may not write it itself.

INSTALL = $(VENV)/bin/uv pip install --python $(PY) --compile-bytecode \
	-c constraints.txt -b constraints.txt

$(VENV)/.ready-all: $(VENV)/.uv-$(UV_VERSION) pyproject.toml constraints.txt
	$(INSTALL) -e ".[dev,train,s3,hota]"
	@touch $@

$(VENV)/.uv-$(UV_VERSION):
	@command -v "$(PYTHON)" >/dev/null || { \
	  echo "make: there is no '$(PYTHON)' here. Install Python 3.11 or newer, or name one:" \
	    "make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "make: $$("$(PYTHON)" --version 2>&1) is too old. Install Python 3.11 or newer, or name" \
	    "one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -x $(PY) || "$(PYTHON)" -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "make: '$(PYTHON) -m venv' failed. On Debian and Ubuntu, install python3-venv." >&2; \
	  exit 1; }
	$(PY) -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@touch $@
