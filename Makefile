# Mathematics of deep learning: `make course` does the main job from nothing, `make test` passes the tests.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# The lab of the sample class; the others take minutes a submission, and `coursekit sample` alone grades all of them.
LAB    ?= lab1_bayesian_regression
# Tiny networks on many threads wait for each other: one thread each, and the steps side by side.
export OMP_NUM_THREADS ?= 1
export MPLBACKEND      ?= agg
# nbgrader calls `alembic` by its name, Jupyter its own commands.
export PATH := $(abspath $(BIN)):$(PATH)

.PHONY: course env release sample book print lab test check lint lock peers clean help

help:
	@echo "make course   everything from nothing: environment, labs, a sample class graded, the book"
	@echo "make test     all tests          make check   the quick part, under two minutes"
	@echo "make lab      open JupyterLab on the labs"
	@echo "make book     build the book     make release build the student notebooks"
	@echo "make print    the built book as PDF, one file a chapter (needs Chromium)"
	@echo "make peers    the other libraries, for \`coursekit bench\`"
	@echo "make lock     pin the environment anew       make clean   remove what was built"

course: env
	@$(MAKE) --no-print-directory release
	@$(MAKE) --no-print-directory sample
	@$(MAKE) --no-print-directory book
	@$(BIN)/python tools/summary.py

env: $(VENV)/.ready

$(VENV)/.ready: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is older than Python 3.11: install a newer one, or say make PYTHON=python3.12 ..."; exit 1; }
	@echo "== environment: $(VENV) (some minutes the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --progress-bar on -r requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

release: env
	@echo "== labs: solutions/ -> labs/"
	@$(BIN)/coursekit release

sample: env
	@echo "== a sample class, graded"
	@$(BIN)/coursekit sample $(LAB)

book: env
	@echo "== book: _build/html"
	@$(BIN)/jupyter-book build . -W -n --keep-going --quiet

print: book
	@echo "== print: _build/print"
	@$(BIN)/python tools/print_book.py

lab: env release
	MPLBACKEND= $(BIN)/jupyter lab labs

test: env lint
	@$(BIN)/python -m pytest -n 2 --dist loadgroup

check: env lint
	@$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not slow"

lint: env
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check --quiet

lock:
	@rm -rf $(VENV).lock && $(PYTHON) -m venv $(VENV).lock
	@$(VENV).lock/bin/python -m pip install --quiet torch==2.13.0 ".[labs,grading,cluster,book,dev]"
	@{ echo "# The whole environment, pinned. Made by \`make lock\` from pyproject.toml; do not edit."; \
	   $(VENV).lock/bin/python -m pip freeze --exclude coursekit | sed -E 's/\+[a-z0-9]+$$//' | grep -viE '^(nvidia|triton|cuda)'; } \
	   > requirements.txt
	@rm -rf $(VENV).lock

peers: .venv-peers/.ready

.venv-peers/.ready: requirements-peers.txt
	@test -x .venv-peers/bin/python || $(PYTHON) -m venv .venv-peers
	@.venv-peers/bin/python -m pip install --quiet -r requirements-peers.txt
	@.venv-peers/bin/python -m pip install --quiet --no-deps -e .
	@touch $@

clean:
	rm -rf _build sample_class solutions/*/*.ipynb
