# Every target makes .venv first where it is missing, or where the lock or pyproject.toml changed since.

PYTHON  := .venv/bin/python
READY   := .venv/ready
THREADS ?= $(shell nproc 2>/dev/null || echo 1)
ARGS    ?=
# On a terminal, gives the command a process group of its own: Ctrl-C then ends the command, and not make with it,
# so that the exit code is the command's.
FOREGROUND := bash -mc '"$$@"; exit $$?' bash

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test check lint types generated rules bench dashboards docs clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  ARGS='...' is passed on by demo, test and bench; THREADS=N sets the CPU threads of bench"

$(READY): requirements.lock pyproject.toml
	@.ci/venv

demo: $(READY)  ## serve a small model on this machine, and say where to look: ARGS='--duration 60'
	@if [ -t 0 ]; then $(FOREGROUND) .venv/bin/hisparse demo $(ARGS); else .venv/bin/hisparse demo $(ARGS); fi

test: $(READY)  ## run the tests: ARGS='-k page'
	@$(PYTHON) -m pytest --quiet --durations=10 $(ARGS)

check: lint types generated rules  ## style, types, generated files, Prometheus rules

lint: $(READY)
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .

types: $(READY)
	$(PYTHON) -m mypy

generated: $(READY)
	$(PYTHON) -m hisparse_metrics.docs --check
	$(PYTHON) -m hisparse_engine.settings.docs --check
	$(PYTHON) -m hisparse_dashboards --check

rules: $(READY)
	@if promtool=$$($(PYTHON) -m tests.support.programs promtool); then set -ex; \
	    "$$promtool" check rules deploy/prometheus/rules/*.yml; \
	    "$$promtool" check config deploy/prometheus/prometheus.yml; \
	else echo "promtool: not checked, see the reason above"; fi

bench: $(READY)  ## measure publishing, scrapes of a busy server, serving under load, and decoding: THREADS=2 ARGS='--contexts 2048'
	OMP_NUM_THREADS=$(THREADS) $(PYTHON) benchmarks/bench_publish.py
	$(PYTHON) benchmarks/scrape_while_serving.py
	$(PYTHON) benchmarks/serving.py --rate 2 --duration 20
	OMP_NUM_THREADS=$(THREADS) $(PYTHON) benchmarks/decode_vs_transformers.py --threads $(THREADS) $(ARGS)

dashboards: $(READY)  ## write the dashboards and rules anew
	@$(PYTHON) -m hisparse_dashboards

docs: $(READY)  ## write docs/metrics.md and docs/configuration.md anew
	@$(PYTHON) -m hisparse_metrics.docs
	@$(PYTHON) -m hisparse_engine.settings.docs

clean:  ## remove .venv and everything else that make and the tools made here
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
