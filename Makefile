PYTHON ?= python3
ARGS ?=

.PHONY: install train test lint

install: .venv/installed

.venv/installed: pyproject.toml
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --upgrade pip
	.venv/bin/python -m pip install --editable '.[dev]'
	touch $@

train: install  ## train, evaluate and picture a VAE; make train ARGS="experiment=vae_mnist"
	.venv/bin/python scripts/train.py $(ARGS)

test: install  ## the whole test-suite; make test ARGS="tests/mathematics"
	.venv/bin/python -m pytest $(ARGS)

lint: install  ## what CI checks besides the tests
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
