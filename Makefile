# make lab        opens JupyterLab on the first notebook
# make test       runs the tests that belong to every change, and the linters  (make test ARGS="-k word")
# make test-all   runs every test there is, the nightly ones too
# make run        executes the notebooks without a browser, into build/run     (make run ARGS="02 -p workers 4")
# make bench      measures every pool on this machine
# make lint       runs the linters; make install, make clean: as usual
# The first time, lab, run, bench and install put the extra `lessons` into .venv, and test and lint the extra `test`.
#
# PYTHON=python3.12   the Python that makes .venv
# PIP_ARGS=...        further options of `pip install`, for example an index of CPU wheels

PYTHON ?= python3
PIP_ARGS ?=
ARGS ?=
LESSONS := .venv/.lessons
TEST := .venv/.test
RUN := .venv/bin/python -m
# Three workers keep two cores busy, because the tests of Ray and of killed processes mostly wait.
PYTEST := $(RUN) pytest -n 3 --dist loadfile --no-loadscope-reorder

# Without this, ultralytics installs packages by itself while a lesson runs.
export YOLO_AUTOINSTALL ?= false

.DELETE_ON_ERROR:
.PHONY: lab test test-all run bench lint install clean

lab: $(LESSONS)
	@$(RUN) yolothreads lab -- $(ARGS)

test test-all: export YOLOTHREADS_QUICK = 1
# Some hundred processes import the package: without compiled files, each would compile it again.
test test-all: export PYTHONDONTWRITEBYTECODE =
test: lint
	$(PYTEST) -m "not nightly" tests $(ARGS)

test-all: lint
	$(PYTEST) --nbval-lax tests notebooks $(ARGS)

run: $(LESSONS)
	@$(RUN) yolothreads run $(ARGS)

bench: $(LESSONS)
	@$(RUN) yolothreads bench $(ARGS)

lint: $(TEST)
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy yolothreads

install: $(LESSONS)

# The extra `test` includes `lessons`. The stamps are removed first and made last, so that an installation that failed
# never looks finished.
$(LESSONS): STAMPS = $(LESSONS)
$(TEST): STAMPS = $(LESSONS) $(TEST)
$(LESSONS) $(TEST): constraints.txt pyproject.toml
	@rm -f $(LESSONS) $(TEST)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo '"$(PYTHON)" is not Python 3.11 or newer; set PYTHON to one that is: make PYTHON=python3.12 lab' >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(RUN) pip install $(PIP_ARGS) -c constraints.txt -e '.[$(subst .,,$(suffix $@))]'
	@touch $(STAMPS)

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
