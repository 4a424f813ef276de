# Everything lands in the checkout: .venv/ (Python), .servers/ (Postgres, MySQL, Kafka, kcat).

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PYTEST ?=

.DEFAULT_GOAL := help
.PHONY: help venv servers lint test test-matrix unit demo demo-down bench bench-mysql bench-restore bench-restore-memory soak-restore soak-mysql lock clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

venv: $(STAMP)  ## a virtual environment with the locked dependencies

$(STAMP): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "Python 3.11 or later is needed; name it: make PYTHON=python3.12 …"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    if [ "$$(id -u)" = 0 ]; then apt-get update && apt-get install -y --no-install-recommends python3-venv; \
	    else echo "Python's venv module is missing; as root: apt-get install python3-venv"; exit 1; fi; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install -qq --no-deps --no-build-isolation --editable .
	@touch $@

servers: $(STAMP)  ## fetch the real servers into .servers/
	$(BIN)/python -m tests.servers.fetch

lint: $(STAMP)  ## ruff, mypy --strict, the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: servers lint  ## everything, against real servers; PYTEST="-k word -n 0" narrows it
	$(BIN)/python -m pytest -m "not matrix" --numprocesses 3 --dist worksteal $(PYTEST)

test-matrix: servers lint  ## that, and more of it between other engines and servers
	$(BIN)/python -m pytest --numprocesses 3 --dist worksteal $(PYTEST)

unit: $(STAMP)  ## the tests that need no server
	$(BIN)/python -m pytest tests/unit $(PYTEST)

demo: servers  ## replicate Postgres and MySQL under load, kill everything, count the money, restore
	$(BIN)/python -m tests.demo

demo-down: $(STAMP)  ## end what `KEEP=1 make demo` left running
	$(BIN)/python -m tests.demo down

bench: servers  ## throughput beside Debezium and native replication
	$(BIN)/python -m tests.bench

bench-mysql: servers  ## MySQL's log beside Debezium and pymysqlreplication
	$(BIN)/python -m tests.bench.mysql

bench-restore: servers  ## restores beside pg_restore and pgBackRest
	$(BIN)/python -m tests.bench.restore

bench-restore-memory: servers  ## peak memory of restoring 5 and 20 million rows
	$(BIN)/python -m tests.bench.restore_memory

soak-restore: servers  ## fifty restores to random moments of one load
	CDC_SOAK_RESTORES=50 $(BIN)/python -m pytest -s tests/system/test_archive_load.py

soak-mysql: servers  ## a transaction of a million rows, and a thousand tables
	$(BIN)/python -m tests.bench.mysql_soak

lock: $(STAMP)  ## renew the lock files from pyproject.toml
	$(BIN)/pip-compile $(LOCK) --output-file requirements.lock pyproject.toml
	$(BIN)/pip-compile $(LOCK) --extra dev --output-file requirements-dev.lock pyproject.toml

LOCK = --quiet --upgrade --generate-hashes --allow-unsafe --strip-extras --no-header \
       --no-emit-index-url --no-emit-trusted-host --no-emit-find-links

clean:  ## remove .venv, .servers and caches
	rm -rf $(VENV) .servers build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
