# alerts-engine: `make` lists what there is. Everything is installed into .venv, everything else lives in .alerts-engine.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
WORKERS ?= 4
SOAK_SECONDS ?= 600

.PHONY: help install demo run migrate sandbox test lint check clean bench bench-fanout bench-digests bench-send bench-snapshot bench-deletes bench-migrate bench-size bench-health bench-tick chaos soak wheel release lowest requirements

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(INSTALLED): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("alerts-engine needs Python 3.11 or newer: make PYTHON=python3.11 …") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,fastapi,speed]'
	@touch $@

install: $(INSTALLED)  ## install the engine and its tools into .venv

demo: $(INSTALLED)  ## replay real history on an embedded PostgreSQL, and show the messages
	$(BIN)/alerts-engine demo

run: $(INSTALLED)  ## run all phases once on $$DATABASE_URL
	$(BIN)/alerts-engine run --phase all

migrate: $(INSTALLED)  ## bring $$DATABASE_URL to this version's shape
	$(BIN)/alerts-engine migrate

sandbox: $(INSTALLED)  ## serve fake providers with an inbox
	$(BIN)/alerts-engine sandbox

test: $(INSTALLED)  ## run the whole test suite on the embedded server
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(OPTIONS) tests

lint: $(INSTALLED)  ## check style, types and import contracts
	$(BIN)/ruff check alerts_engine tests
	$(BIN)/ruff format --check alerts_engine tests
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/squawk --config .ci/squawk.toml migrations/*.sql
	$(BIN)/zizmor --offline --quiet .github
	$(BIN)/pre-commit validate-config

requirements: $(INSTALLED)  ## lock what a runner installs; UPGRADE=1 takes the newest versions
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --extra speed --generate-hashes --no-config \
		--no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command 'make requirements' \
		$(if $(UPGRADE),--upgrade) --output-file requirements.txt pyproject.toml

wheel: $(INSTALLED)  ## build sdist and wheel, install the wheel into an empty environment, and run its demo
	.ci/wheel

release: $(INSTALLED)  ## build what a release consists of into dist/, and try it with each extra on each Python
	.ci/release

lowest: $(INSTALLED)  ## run the unit tests on the lowest versions that pyproject.toml allows
	.ci/lowest

check: lint wheel  ## everything but the tests

bench: bench-fanout bench-digests bench-send bench-snapshot bench-deletes bench-migrate bench-size bench-health bench-tick  ## everything that is measured, as ratios side by side

bench-fanout: $(INSTALLED)  ## fan-out beside a plain INSERT … SELECT
	$(BIN)/python -m tests.bench.bench_fanout

bench-digests: $(INSTALLED)  ## digests beside a plain INSERT … SELECT
	$(BIN)/python -m tests.bench.bench_digests

bench-send: $(INSTALLED)  ## sending beside a bare aiohttp loop, the smallest queue, pgqueuer and procrastinate
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	$(BIN)/python -m tests.bench.bench_send

bench-snapshot: $(INSTALLED)  ## sending while an old snapshot keeps vacuum from cleaning
	$(BIN)/python -m tests.bench.bench_snapshot

bench-deletes: $(INSTALLED)  ## fan-out and digests while users are deleted
	$(BIN)/python -m tests.bench.bench_deletes

bench-migrate: $(INSTALLED)  ## what a busy application notices of migrate and of its rollback
	$(BIN)/python -m tests.bench.bench_migrate

bench-size: $(INSTALLED)  ## what deliveries leave behind in their table and its indexes
	$(BIN)/python -m tests.bench.bench_size

bench-health: $(INSTALLED)  ## health, failures and metrics beside ten million deliveries
	$(BIN)/python -m tests.bench.bench_health $(if $(ROWS),--rows $(ROWS))

bench-tick: $(INSTALLED)  ## a run with nothing to do beside its imports, and the memory of one with much to do
	$(BIN)/python -m tests.bench.bench_tick $(if $(ROWS),--rows $(ROWS))

chaos: $(INSTALLED)  ## kill, cut and break sending at full size, and print a table
	$(BIN)/python -m tests.chaos

soak: $(INSTALLED)  ## a night in small, for ten minutes: everything at once, and everybody gets what they should
	$(BIN)/python -m tests.chaos.soak --seconds $(SOAK_SECONDS)

clean:  ## remove what make and the engine made here
	test ! -L .alerts-engine/workshop || rm -rf "$$(readlink .alerts-engine/workshop)"
	rm -rf .venv .alerts-engine build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
