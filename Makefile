# Everything runs in .venv, which `make book` and `make test` create if it is not there.
PYTHON ?= python3
BIN := .venv/bin
HTML := _build/html/index.html
NOTEBOOKS := $(wildcard book/*.ipynb) $(wildcard exercises/*/*.ipynb)
REPORTS := _build/tests
OF_PAGES := $(addprefix tests/test_,api_reference.py browser.py site.py publishing.py live_figures.py page_design.py)
NBVAL := $(BIN)/pytest --nbval --nbval-current-env --nbval-cell-timeout=600 --runxfail \
         -n 2 --dist loadfile -p no:cacheprovider $(NOTEBOOKS)

.DEFAULT_GOAL := help
.PHONY: help book serve pdf test lint unit site nbval variant-portable variants notebooks status links dist lock clean

help:  ## list these commands
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## */  make \1\t/' | expand -t 20

book: .venv/installed  ## build the book and say where to open it
	$(BIN)/jupyter-book build book -W -n --keep-going --quiet
	@echo "The book is built. Open $(CURDIR)/$(HTML) or run 'make serve'."

serve: book  ## build the book, serve it on this machine and open it
	$(BIN)/python tools/serve.py _build/html

pdf: book  ## print the whole book into one PDF beside the built pages; needs Chromium
	$(BIN)/python tools/print_book.py

test:  ## everything that CI runs; installs what it needs on Debian and Ubuntu
	@$(PYTHON) tools/system_packages.py test
	@$(MAKE) --no-print-directory lint unit book site nbval variant-portable
	@$(BIN)/python tools/summarize_tests.py $(REPORTS)

lint: .venv/installed  ## style and format of the code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/ruff format --check --config pyproject.toml exercises/*/steps.py
	$(BIN)/mypy

# Two processes share two cores: with more threads, each thread that waits keeps a core from others.
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
unit: .venv/installed  ## the tests of the package and of the notebooks' rules
	$(ONE_THREAD) $(BIN)/pytest -n 2 --dist worksteal --cov --cov-report= --junit-xml=$(REPORTS)/unit.xml $(addprefix --ignore=,$(OF_PAGES))
	@echo "Coverage of src: $$($(BIN)/coverage report --format=total) %"

site: book  ## the tests of the built pages
	$(BIN)/pytest -n 2 --dist worksteal --junit-xml=$(REPORTS)/site.xml $(OF_PAGES)

nbval: .venv/installed  ## re-execute every cell and compare with what the pages show
	$(NBVAL) --junit-xml=$(REPORTS)/nbval.xml

# The same as on the least capable machine: plain instructions, one thread.
PORTABLE := ATEN_CPU_CAPABILITY=default $(ONE_THREAD) OPENBLAS_CORETYPE=Nehalem
variant-portable: .venv/installed
	$(PORTABLE) $(NBVAL) --junit-xml=$(REPORTS)/nbval-portable.xml

variants: .venv/installed  ## nbval under every instruction set and thread count that we promise
	@set -e; for capability in default avx2; do for threads in 1 2; do \
	  echo "ATEN_CPU_CAPABILITY=$$capability, $$threads thread(s)"; \
	  ATEN_CPU_CAPABILITY=$$capability OMP_NUM_THREADS=$$threads OPENBLAS_NUM_THREADS=$$threads $(NBVAL); \
	done; done

notebooks: .venv/installed  ## re-execute all notebooks and write them in the normal form
	$(BIN)/python tools/execute_notebooks.py $(NOTEBOOKS)

status: .venv/installed  ## run all notebooks and record times and versions for the book's page
	$(BIN)/python tools/record_status.py

links: .venv/installed  ## check the links to other sites; needs a network
	$(BIN)/python tools/check_links.py

dist: .venv/installed  ## build the package as a source archive and a wheel
	rm -rf _build/dist
	$(BIN)/python -m build --quiet --outdir _build/dist

lock: .venv/installed  ## resolve requirements.in into requirements.txt
	$(BIN)/pip-compile --strip-extras --no-header --no-emit-index-url --no-emit-find-links \
	  --quiet --output-file requirements.txt requirements.in
	sed -i.bak 's/+cpu//' requirements.txt && rm requirements.txt.bak  # pin no local build of torch

clean:  ## remove what was built; the environment too
	rm -rf .venv _build

.venv/installed: requirements.txt pyproject.toml
	@$(PYTHON) tools/system_packages.py book
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps -e .
	touch $@
