# `make` alone lists the targets.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help demo install test test-slow test-docs test-wheel test-browser test-exports test-faults test-cluster test-peers \
    check docs format bench bench-gpu bench-scale bench-reports pictures clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(BIN)/vgx ## train a deep net on handwritten digits, and show where its gradient goes
	$(BIN)/vgx train configs/quickstart.yaml --overwrite
	@echo 'to say vgx alone:  . $(BIN)/activate'

install: .venv/dev ## .venv with vgx (as it stands here) and the tools to develop it

test: .venv/dev ## the tests
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

test-slow: .venv/dev ## the tests that take minutes
	$(BIN)/python -m pytest -m slow --numprocesses auto --dist worksteal

test-docs: .venv/dev .venv/docs ## the tutorial and all other commands of README and docs, and the links of the site
	$(BIN)/python -m pytest -m docs

test-wheel: .venv/dev ## `uvx vgx` from the built wheel, with nothing but a folder of wheels
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --wheel-dir .wheels .
	$(BIN)/python -m pytest -m wheel tests/test_wheel.py

test-exports: .venv/dev ## the tests against Weights & Biases and MLflow, which it installs
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[exports]'
	$(BIN)/python -m pytest -m slow tests/export/test_export.py

test-browser: .venv/browser ## the tests of pages in a browser; they need Chromium (apt-get install chromium)
	$(BIN)/python -m pytest -m browser

test-faults: .venv/dev ## hostile configs and data, damaged runs, kills, full disks; VGX_FAULT_SEED=n for other ones
	$(BIN)/python -m pytest -m faults tests/faults --numprocesses auto --dist worksteal

test-cluster: .venv/ray ## sweeps on Ray clusters of this machine, with kills; installs Ray
	$(BIN)/python -m pytest -m cluster tests/runner

test-peers: .venv/dev .venv-peers/ready ## theory and parts against neural-tangents and PyTorch; installs the former in .venv-peers
	$(BIN)/python -m pytest -m peers tests/peers

docs: .venv/docs ## the site, in site/index.html: every link checked, nothing fetched
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

check: .venv/dev ## format, lint and types
	$(BIN)/ruff format --check vgx tests benchmarks docs
	$(BIN)/ruff check vgx tests benchmarks docs
	$(BIN)/pyright

format: .venv/dev ## put the code in shape
	$(BIN)/ruff format vgx tests benchmarks docs
	$(BIN)/ruff check --fix vgx tests benchmarks docs

bench: .venv/dev ## measure, and write benchmarks/RESULTS.md
	$(BIN)/python -m benchmarks.run

bench-gpu: .venv/dev ## the same on a GPU that jax sees (pip install 'vgx[cuda]'), under its name in benchmarks/
	$(BIN)/python -m benchmarks.gpu

bench-scale: .venv/ray ## measure a sweep on two nodes of a Ray cluster, and write benchmarks/SCALE.md
	$(BIN)/python -m benchmarks.scale

bench-reports: .venv/browser ## measure how large pages are and how soon they open, and write benchmarks/REPORTS.md
	$(BIN)/python -m benchmarks.reports

pictures: .venv/dev ## run the tutorial, write its output and pictures anew, and the README's
	$(BIN)/python -m benchmarks.pictures

clean: ## remove .venv, .venv-peers and what tools leave behind (runs stay)
	rm -rf .venv .venv-peers .wheels site .pytest_cache .ruff_cache .hypothesis build dist
	find vgx tests benchmarks docs -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "vgx needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv

$(BIN)/vgx: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

.venv/dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $(BIN)/vgx $@

.venv/browser: pyproject.toml .venv/dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,browser]'
	@touch $@

.venv/docs: pyproject.toml $(BIN)/vgx
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@

.venv/ray: pyproject.toml .venv/dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,ray]'
	@touch $@

.venv-peers/ready: tests/peers/requirements.txt
	$(PYTHON) -m venv --clear .venv-peers
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@
