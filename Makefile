PYTHON ?= python3
ARGS ?=
WORKERS ?= 2
TIMED = .venv/bin/python tests/support/timed.py
TEST = .venv/bin/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

export PYTHONDONTWRITEBYTECODE =  # a test file is compiled once, and not in each process and each time

.PHONY: install train test check quick lint house

install: .venv/installed

.venv/installed: pyproject.toml
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --upgrade pip
	.venv/bin/python -m pip install --editable '.[dev]'
	touch $@

train: install  ## train, evaluate and picture a VAE; make train ARGS="experiment=vae_mnist"
	.venv/bin/python scripts/train.py $(ARGS)

test: install  ## the whole test-suite, in WORKERS processes; make test ARGS="tests/mathematics"
	$(TIMED) $(TEST) $(ARGS)

check: install  ## what to look at while one works: lint, types, mathematics and contracts
	$(TIMED) $(MAKE) --no-print-directory lint quick

quick:
	$(TEST) tests/mathematics tests/contracts tests/test_architecture.py

lint: install  ## what CI checks besides the tests
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

house: install  ## how the package is built, in numbers
	.venv/bin/python tests/support/house.py
