# Needs make and a Python of 3.11 to 3.13; all else goes into .venv. Another Python, or one more environment:
#   make test PYTHON=python3.13 VENV=.venv-3.13
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python -m

.DEFAULT_GOAL := help
.PHONY: help demo test gate

help:
	@echo "make demo    install, write a synthetic steel set to demo/ and run every stage on it"
	@echo "make test    install, run the tests"
	@echo "make gate    install, check style, format and types"

demo: $(VENV)/installed
	$(RUN) severstal_cli demo demo --seed 0

test: $(VENV)/installed-dev
	$(RUN) pytest -n 2 --dist loadfile

gate: $(VENV)/installed-dev
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy

# Both are written last: an installation that failed is tried again, one that is whole is left alone.
$(VENV)/installed: pyproject.toml constraints.txt
	$(call install,.)
	@touch $@

$(VENV)/installed-dev: pyproject.toml constraints.txt
	$(call install,.[dev])
	@touch $@ $(VENV)/installed

# An installation that was killed may have left half a package, so it begins again in an empty environment.
define install
@{ test ! -e $(VENV)/unfinished && $(RUN) pip --version >/dev/null 2>&1; } \
  || { $(check_python) && $(PYTHON) -m venv --clear $(VENV); }
@touch $(VENV)/unfinished
$(RUN) pip install -c constraints.txt -e '$(1)' || { rm $(VENV)/unfinished; exit 1; }
@rm $(VENV)/unfinished
endef

define check_python
{ $(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || { \
    echo "severstal needs Python 3.11 to 3.13; $(PYTHON) is: $$($(PYTHON) --version 2>&1)." \
      "Name another one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }; } \
&& { $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
    echo "$(PYTHON) cannot make a virtual environment: venv is missing." \
      "On Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }; }
endef
