# fetchq: every command sets up what it needs; none asks for a step before it.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.set-up

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow property test-redis-latest check chaos chaos-ci durability drill soak conformance conformance-http hostile differential fuzz bench bench-quick frontier frontier-sim profile security docs lint types format wheels clean

help: ## list the commands
	@echo 'fetchq: an async fetch task queue. Usage: make COMMAND'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-17s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(STAMP) ## make .venv and install what is pinned (the others do this first)

$(STAMP): pyproject.toml producer/pyproject.toml worker/pyproject.toml gateway/pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("fetchq needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.11") if sys.version_info < (3, 11) else None'
	@echo 'Setting up $(VENV) ...'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --upgrade pip
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --group dev --editable producer --editable worker --editable gateway
	@touch $@

demo: setup ## two hundred fetches of a small site, from queue to table, in seconds
	@$(BIN)/python -m examples.demo

test: setup ## run the tests in two processes, without the slow ones: WORKERS=4 for more
	@$(BIN)/python -m pytest -q -n $(or $(WORKERS),2) --dist=worksteal

test-slow: setup ## run the tests that take many seconds each: faults, memory, soak
	@$(BIN)/python -m pytest -q -n $(or $(WORKERS),2) --dist=worksteal -m slow

check: lint types ## lint, types, and the tests that need no server
	@FETCHQ_TEST_NO_SERVERS=1 $(BIN)/python -m pytest -q -n $(or $(WORKERS),2) --dist=worksteal

property: setup ## run the state machines of the scripts longer than make test does: EXAMPLES=500
	@EXAMPLES=$(or $(EXAMPLES),500) $(BIN)/python -m pytest -q -n $(or $(WORKERS),2) tests/producer/store -k machine

test-redis-latest: ## run the producer's tests on the newest redis-py, in a separate environment
	@test -x .redis-latest/bin/python || $(PYTHON) -m venv .redis-latest
	@grep -v '^redis==' constraints.txt >.redis-latest/constraints.txt
	@.redis-latest/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --upgrade pip
	@.redis-latest/bin/python -m pip install --quiet --disable-pip-version-check --constraint .redis-latest/constraints.txt --group dev --editable producer --editable worker --editable gateway
	@# arq asks for redis-py 5; only the worker uses arq, and the producer's tests must run on what `pip install fetchq` installs.
	@.redis-latest/bin/python -m pip install --quiet --disable-pip-version-check --upgrade --no-deps redis
	@.redis-latest/bin/python -c 'import redis; print("redis-py", redis.__version__)'
	@.redis-latest/bin/python -m pytest -q -n $(or $(WORKERS),2) --dist=worksteal tests/producer

chaos: setup ## inject faults into workers, network and Redis, and check that no job is lost: RUNS=10 JOBS=100000 FAULT_EVERY_S=2 SEED=... ONLY=...
	@$(BIN)/python -m harness.chaos $(if $(RUNS),--runs $(RUNS)) $(if $(JOBS),--jobs $(JOBS)) $(if $(FAULT_EVERY_S),--fault-every-s $(FAULT_EVERY_S)) $(if $(SEED),--seed $(SEED)) $(if $(ONLY),--only $(ONLY)) $(if $(WRITE),--write)

chaos-ci: setup ## the short form of chaos that CI runs, with power cuts, failovers and poisonous jobs: SEED=...
	@$(BIN)/python -m pytest -q -m slow tests/harness

durability: setup ## check what each durability survives: process killed, power cut, failover. WRITE=1
	@$(BIN)/python -m harness.durability $(if $(WRITE),--write)

drill: setup ## cause the fault of each alert, and check that it fires and no other: ten minutes. ONLY=killed WRITE=1
	@$(BIN)/python -m harness.drill $(if $(ONLY),--only "$(ONLY)") $(if $(WRITE),--write)

soak: setup ## ten million jobs; fails if a key remains or memory grew: JOBS=10000000 WRITE=1
	@$(BIN)/python -m harness.soak $(if $(JOBS),--jobs $(JOBS)) $(if $(WRITE),--write)

conformance: setup ## run arq's own test suite and tools made for arq with fetchq's worker (ONLY=suite, ONLY=tools)
	@$(BIN)/python -m harness.conformance $(if $(WORKER),--worker $(WORKER)) $(if $(ONLY),--only $(ONLY))

conformance-http: setup ## fetch from httpbin, broken servers and bad TLS, and print the outcomes
	@$(BIN)/python -m harness.http

hostile: setup ## ten thousand broken responses; fails if memory, descriptors or tasks grew
	@$(BIN)/python -m harness.http.hostile

differential: setup ## read damaged responses with this client and with the one before it
	@$(BIN)/python -m harness.http.differential

fuzz: ## every decoder under atheris, in a separate environment: SECONDS=60 each, ONLY=job,result narrows it
	@$(PYTHON) -m harness.fuzz $(if $(SECONDS),--seconds $(SECONDS)) $(if $(ONLY),--only $(ONLY))

bench: setup ## measure fetchq and its peers: ONLY=empty,fetch_2k PEERS=fetchq,arq ROUNDS=3 narrow it
	@$(BIN)/python -m bench $(if $(ONLY),--only $(ONLY)) $(if $(PEERS),--peers $(PEERS)) $(if $(ROUNDS),--rounds $(ROUNDS))

bench-quick: setup ## the most telling figures beside four peers, in three minutes; prints a table and writes no file
	@$(BIN)/python -m bench --quick $(if $(ONLY),--only $(ONLY)) $(if $(PEERS),--peers $(PEERS)) $(if $(ROUNDS),--rounds $(ROUNDS))

frontier: setup ## measure the guarantees of per-host limits: ONLY=others,rate,cost,cooling,memory narrows it
	@$(BIN)/python -m bench.frontier $(if $(ONLY),--only $(ONLY))

frontier-sim: setup ## the schedule of hosts under a simulated clock: HOSTS=1000000 for a million
	@$(BIN)/python -m bench.frontier_sim $(if $(HOSTS),--hosts $(HOSTS))

profile: setup ## the CPU time of one fetch job, by part
	@$(BIN)/python -m bench.profile

security: setup ## try every known way past the egress guard, and print the outcomes
	@$(BIN)/python -m harness.egress

docs: setup ## build docs/ as a site in site/; a broken link fails
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --group docs
	@$(BIN)/mkdocs build --quiet --clean

lint: setup ## ruff: rules and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: setup ## mypy --strict
	@$(BIN)/mypy

format: setup ## let ruff fix what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

wheels: setup ## build the three distributions into dist/
	@rm -rf dist
	@$(BIN)/python -m build --no-isolation --outdir dist producer
	@$(BIN)/python -m build --no-isolation --outdir dist worker
	@$(BIN)/python -m build --no-isolation --outdir dist gateway

clean: ## remove what setup and the tests made
	rm -rf $(VENV) .bench .conformance .fuzz .redis-latest site dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
