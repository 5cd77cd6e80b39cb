PYTHON ?= python3
ARGS ?=
WORKERS ?= 2
PYTHON_VERSION ?= 3.12
HAVE ?= torch torchvision lightning tensorboard numpy pillow
TIMED = .venv/bin/python tests/support/timed.py
TEST = .venv/bin/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

export PYTHONDONTWRITEBYTECODE =  # a test file is compiled once, and not in each process and each time

.PHONY: install train test check quick lint docs published house wheels gpu reference

install: .venv/installed

.venv/installed: pyproject.toml
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --upgrade pip
	.venv/bin/python -m pip install --editable '.[dev]'
	touch $@

train: install  ## train, evaluate and picture a VAE in two minutes; make train ARGS="experiment=vae_mnist" trains another
	.venv/bin/python scripts/train.py $(or $(ARGS),experiment=vae_shapes)

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

docs: install  ## the site, in build/docs: open build/docs/index.html in a browser
	NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build --strict --quiet

published: install  ## the row of a published number, from nothing: NAME=linear_vae; LIST=1: all, and their hours; ARGS="download=true"
	.venv/bin/python tests/support/published.py $(if $(LIST),--list) $(NAME) $(ARGS)

house: install  ## how the package is built, in numbers
	.venv/bin/python tests/support/house.py

wheels:  ## what a machine lacks that has no network, but HAVE="torch lightning ..." and Python PYTHON_VERSION, in the folder wheels
	$(PYTHON) tests/support/wheels.py wheels $(PYTHON_VERSION) $(HAVE)

gpu: .gpu/installed  ## tests and benchmark on a GPU, in at most six minutes, and docs/gpu.md; PYTHON=<that has torch>
	PYTHONPATH=$(CURDIR)/src .gpu/bin/python -m vaelab benchmark benchmark.parts=[gpu] benchmark.gpu.page=docs/gpu.md $(ARGS)

# an environment that sees the packages of PYTHON, and has from wheels/ what is not among them
.gpu/installed: pyproject.toml
	$(PYTHON) -m venv --without-pip .gpu
	$(PYTHON) -c 'import site; [print(f"import site; site.addsitedir({each!r})") for each in site.getsitepackages()]' \
	  > "$$(.gpu/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/outer.pth"
	$(PYTHON) -m pip --python .gpu/bin/python install --quiet --no-index --find-links wheels \
	  $$($(PYTHON) tests/support/wheels.py)
	touch $@

reference: .reference/installed  ## the numbers of other packages that tests compare with, anew
	for script in tests/reference/make_*.py; do .reference/bin/python $$script || exit 1; done

# an environment that sees the packages of .venv, and has those of tests/reference/requirements.txt
.reference/installed: tests/reference/requirements.txt .venv/installed
	.venv/bin/python -m venv .reference
	.venv/bin/python -c 'import site; [print(f"import site; site.addsitedir({each!r})") for each in site.getsitepackages()]' \
	  > "$$(.reference/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/outer.pth"
	.reference/bin/python -m pip install --quiet --requirement tests/reference/requirements.txt
	touch $@
