# `make demo` and `make test` work on a fresh clone; each keeps its own environment and reinstalls when its inputs change.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
PIP = -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
TEST_EXTRAS = all,dev,docs

.PHONY: demo test test-slow check bench docs figures constraints clean sbom audit fuzz pythons

demo: .venv/ready
	.venv/bin/mien predict examples --annotate demo-output
	@echo "annotated pictures: demo-output/"

test: .venv-test/ready
	.venv-test/bin/python -m pytest -m "not slow" $(PYTEST_ARGS)

test-slow: .venv-test/ready
	.venv-test/bin/python -m pytest -m slow $(PYTEST_ARGS)

check: .venv-test/ready
	.venv-test/bin/ruff format --check .
	.venv-test/bin/ruff check .
	.venv-test/bin/mypy
	.venv-test/bin/lint-imports
	.venv-test/bin/hadolint Dockerfile

# What a release is made of, and whether anything of it has a known vulnerability (asks the network).
sbom: .venv/ready .venv-test/ready
	@mkdir -p dist
	.venv-test/bin/cyclonedx-py environment .venv/bin/python --pyproject pyproject.toml --output-reproducible \
		--of JSON -o dist/mien-sbom.cdx.json

audit: .venv/ready .venv-test/ready
	.venv/bin/python -m pip --disable-pip-version-check freeze --exclude mien > .venv/frozen.txt
	.venv-test/bin/python -m pip_audit --disable-pip --no-deps --requirement .venv/frozen.txt

fuzz: .venv-test/ready
	.venv-test/bin/python -m tests.fuzz.campaign --minutes $(or $(MINUTES),30)

pythons: .venv-test/ready
	.venv-test/bin/python scripts/python_versions.py
	.venv-test/bin/python scripts/python_versions.py --lowest

bench: .venv-test/ready
	.venv-test/bin/python benchmarks/cold_start.py
	.venv-test/bin/python benchmarks/throughput.py

# Numbers and tables of README and docs, the pictures of the home page, and that of the architecture.
figures: .venv-test/ready
	.venv-test/bin/python scripts/figures.py
	.venv-test/bin/python scripts/action_table.py
	.venv-test/bin/python scripts/column_table.py
	.venv-test/bin/python scripts/home_pictures.py
	.venv-test/bin/python scripts/architecture.py

# The site into site/; look at it with  .venv-test/bin/mkdocs serve
docs: .venv-test/ready
	NO_MKDOCS_2_WARNING=1 .venv-test/bin/mkdocs build --strict

# The core alone, not editable: what a user gets from `pip install`.
.venv/ready: pyproject.toml constraints.txt $(shell find src -type f -not -name '*.pyc')
	@echo 'installing the core into .venv (about 200 MB to download) ...'
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@.venv/bin/python $(PIP) .
	@touch $@

# Everything, editable. torch and torchvision are pinned as a pair in constraints.txt.
.venv-test/ready: pyproject.toml constraints.txt
	@echo 'installing everything into .venv-test (torch is several GB) ...'
	@test -x .venv-test/bin/python || $(PYTHON) -m venv .venv-test
	@.venv-test/bin/python $(PIP) --editable '.[$(TEST_EXTRAS)]'
	@touch $@

# Resolve everything anew for this Python and pin it. Look at the difference before committing it.
constraints:
	rm -rf .venv-resolve && $(PYTHON) -m venv .venv-resolve
	.venv-resolve/bin/python -m pip --disable-pip-version-check install --quiet '.[$(TEST_EXTRAS)]' \
		torch==2.14.1 torchvision==0.29.1
	head -2 constraints.txt > .venv-resolve/pins
	.venv-resolve/bin/python -m pip freeze --exclude mien >> .venv-resolve/pins
	mv .venv-resolve/pins constraints.txt
	rm -rf .venv-resolve

clean:
	rm -rf .venv .venv-test .venv-resolve build dist site demo-output .mypy_cache .pytest_cache .ruff_cache
