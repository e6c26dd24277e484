# make lab   learn: installs into .venv if needed, then opens JupyterLab on the first notebook
# make test  every check there is
# make run   executes the notebooks without a browser, into build/run   (make run ARGS="02 -p workers 4")
# make bench measures every pool on this machine
#
# PYTHON=python3.12   which Python makes .venv
# PIP_ARGS=...        goes to `pip install`, e.g. an index of CPU wheels

PYTHON ?= python3
PIP_ARGS ?=
ARGS ?=
INSTALLED := .venv/.installed
RUN := .venv/bin/python -m

# Without this, ultralytics installs packages by itself while a lesson runs.
export YOLO_AUTOINSTALL ?= false

.DELETE_ON_ERROR:
.PHONY: lab test run bench lint install clean

lab: $(INSTALLED)
	@$(RUN) yolothreads lab -- $(ARGS)

test: export YOLOTHREADS_QUICK = 1
test: lint
	$(RUN) pytest --nbval-lax tests notebooks $(ARGS)

run: $(INSTALLED)
	@$(RUN) yolothreads run $(ARGS)

bench: $(INSTALLED)
	@$(RUN) yolothreads bench $(ARGS)

lint: $(INSTALLED)
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy yolothreads

install: $(INSTALLED)

# The stamp is taken away first and made last, so an installation that failed never looks finished.
$(INSTALLED): constraints.txt pyproject.toml
	@rm -f $@
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo 'yolothreads needs Python 3.11 or newer, and "$(PYTHON)" is none; name one, e.g. make PYTHON=python3.12 lab' >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(RUN) pip install $(PIP_ARGS) -c constraints.txt -e '.[test]'
	@touch $@

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
