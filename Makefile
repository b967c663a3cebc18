# Two commands set everything up on a machine with Python 3.11 and make: `make demo` and `make test`.
PYTHON ?= python3
BIN := $(if $(filter Windows_NT,$(OS)),.venv/Scripts,.venv/bin)
PYTEST := $(BIN)/python -m pytest
# Small matrices: several threads would wait for each other more than they work.
export OPENBLAS_NUM_THREADS ?= 1
export OMP_NUM_THREADS ?= 1

.PHONY: demo test test-full test-lite test-light lint site lite course slides clean tiny-release

demo: .venv/.demo            ## install minivl and let the embedded model look at sample pictures
	$(BIN)/minivl demo

test: .venv/.dev lint        ## everything that CI runs, a quarter to half an hour on 2 cores
	$(PYTEST) -n 2 -m "not full"

test-light: .venv/.light     ## the tests that need no PyTorch: all but tests/oracle; others say what they skip
	$(PYTEST) -n 2 -m "not full" -rs --ignore tests/oracle

test-full: .venv/.dev .venv/.site .venv/.real lint   ## the slow sweeps too, on real weights out of packages
	HYPOTHESIS_PROFILE=full $(PYTEST) -n 2

test-lite: .venv/.dev .venv/.site     ## lesson 0 in headless Chromium, with a Pyodide put together from wheels
	$(PYTEST) -n 0 -m "full or not full" -rs tests/tools/test_lite.py

site: .venv/.site            ## lessons as they ran, pages and the package's reference: build/site, build/site-teachers
	$(BIN)/python -m tools.pages.site

lite: .venv/.site            ## the course in a browser, into build/lite; PYODIDE=folder puts a Pyodide inside
	$(BIN)/python -m tools.pages.lite $(if $(PYODIDE),--pyodide "$(PYODIDE)")

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/mypy

.venv/.demo: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -e ".[plot]"
	touch $@

.venv/.dev: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -e ".[plot,lessons,oracle,test,dev]"
	touch $@

.venv/.real: tests/real/requirements.txt .venv/.dev
	$(BIN)/python -m pip install --quiet --no-deps -r tests/real/requirements.txt
	touch $@

.venv/.light: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -e ".[plot,lessons,test]"
	touch $@

# nbgrader brings a whole Jupyter, whose extensions would be swept into other builds: it has an environment of its own.
COURSE := .venv/course/$(notdir $(BIN))/python

course: .venv/.course        ## the course for nbgrader in build/course: make course [ROSTER=class.txt] [SUBMITTED=folder]
	$(COURSE) -m tools.course.nbgrader build/course $(if $(ROSTER),--roster "$(ROSTER)")
	$(if $(SUBMITTED),$(COURSE) -m minivl.cli course grade "$(SUBMITTED)" $(if $(ROSTER),--roster "$(ROSTER)") -o build/course/graded)

slides: .venv/.slides        ## slides of every lesson, as pages that need no network, into build/slides
	$(BIN)/python -m tools.teaching slides build/slides

.venv/.slides: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -e ".[slides]"
	touch $@

.venv/.course: pyproject.toml
	$(PYTHON) -m venv .venv/course
	$(COURSE) -m pip install --quiet -e ".[teacher]"
	touch $@

.venv/.site: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -e ".[site]"
	touch $@

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

tiny-release: .venv/.dev     ## put a trained checkpoint into the package: make tiny-release CKPT=runs/a/checkpoint
	$(BIN)/python -m tools.train_tiny release $(CKPT)
