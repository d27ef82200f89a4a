# Every target sets up what it needs: a virtual environment in .venv, made once and
# again when pyproject.toml changes. PYTHON=/path/to/python picks the interpreter.

.DEFAULT_GOAL := help
.PHONY: help setup demo deploy-demo test test-slow docs reproduce-quick lint format usage web clean

ready := .venv/.ready
demo_ready := .venv/.demo

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*##/\1\t/p' Makefile | expand -t 18

setup: $(ready)  ## make the environment in .venv, with all that tests and pages need

$(ready): pyproject.toml scripts/setup.sh
	@sh scripts/setup.sh test
	@touch $@ $(demo_ready)

$(demo_ready): pyproject.toml scripts/setup.sh
	@sh scripts/setup.sh demo
	@touch $@

demo: $(demo_ready)  ## install the package and Open3D, condense the built-in set and draw the result
	@.venv/bin/pcdistill demo --force

deploy-demo: $(ready)  ## from a condensed set to an int8 network that names meshes: two minutes
	@PATH="$(CURDIR)/.venv/bin:$$PATH" sh scripts/deploy_demo.sh

test: $(ready)  ## run the tests
	.venv/bin/pytest -n 2

test-slow: $(ready)  ## run the tests that take longest: pages built, clusters, processes killed
	.venv/bin/pytest -n 2 -m slow

docs: $(ready)  ## build the documentation in docs/_build/html
	.venv/bin/sphinx-build -q -W --keep-going -b html docs docs/_build/html
	@echo docs/_build/html/index.html

reproduce-quick: $(ready)  ## measure some committed records anew and compare: below half an hour
	@.venv/bin/python -m benchmarks.reproduce

lint: $(ready)  ## check style, types and the direction of imports
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports

format: $(ready)  ## put the code into form
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

usage: $(ready)  ## list flags and examples of all commands anew, for their help
	@.venv/bin/python scripts/write_usage.py

web:  ## bundle the scripts of the page for the browser anew (takes Node.js)
	cd pcdistill/viewing/browser/web && npm ci && npm run build

clean:  ## remove the environment, caches and build output
	rm -rf .venv .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache build dist docs/_build
	find pcdistill tests benchmarks scripts docs -name __pycache__ -prune -exec rm -rf {} +
