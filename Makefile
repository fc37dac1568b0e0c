# `make demo` and `make test` set up .venv by themselves; they need Python 3.11 or newer and make.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TOOLS := build/tools

CODE := src tests benchmarks examples tools packaging

.PHONY: setup demo test test-slow test-faults test-ray test-feeds test-api conformance clients browser \
	pictures docs dist mcpb container lint types layers unit coverage bench format clean

setup: $(READY)
	@echo "Ready. Next: make demo, or $(BIN)/ktrdr-mcp train AAPL 1h"

demo: $(READY)
	$(BIN)/ktrdr-mcp demo

test: lint types layers unit

lint: $(READY)
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)

types: $(READY)
	$(BIN)/mypy

layers: $(READY)
	$(BIN)/lint-imports --no-cache

# Each of pytest's processes compiles all tests anew where nothing may be kept: 7 s of a core.
unit: $(READY)
	PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -n auto --dist worksteal -m 'not slow'

# Servers started, killed and replaced, many trainings, simulations; tests/conftest.py lists them.
test-slow: $(READY)
	$(BIN)/pytest -n auto --dist worksteal -m slow

# Which lines and branches the tests reach, in processes too; a report, no gate.
coverage: $(READY)
	$(BIN)/pytest -n auto --dist worksteal --cov --cov-report=term --cov-report=html:build/coverage

# Every step killed and refused once, 20 killed servers, 200 cycles: half an hour, and a table.
# 100 flipped bits and 62 servers in the background suffice: 200 took ten minutes more.
test-faults: $(READY)
	KTRDR_FAULTS=long $(BIN)/pytest -n logical --dist worksteal -v tests/faults

# Trainings on real Ray clusters of this machine; skipped with a word where Ray cannot be installed.
# With KTRDR_FAULTS=long each kill is tried ten times: half an hour.
test-ray: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[ray]' || \
		echo "Ray cannot be installed here; the tests on clusters are skipped."
	KTRDR_RAY=1 $(BIN)/pytest -v tests/cluster

# The feeds' real clients against a local server with faults, and calendars: installs the extras.
test-feeds: $(READY)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[ccxt,alpaca,yfinance,calendars]'
	$(BIN)/pytest -n 2 tests/feeds tests/data/test_calendars.py

# Thousands of generated requests against a real server.
test-api: $(READY)
	KTRDR_API_EXAMPLES=100 $(BIN)/pytest -s --timeout 1800 tests/http/test_generated_requests.py

# The official MCP suite and Inspector, from npm; skipped with a word where npm or Node is missing.
conformance: $(READY)
	$(BIN)/python -m tests.clients.conformance

# The pages in the system's Chromium, with axe-core from npm; skipped with a word without them.
browser: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[browser]'
	KTRDR_BROWSER=1 $(BIN)/pytest --timeout 300 tests/browser

# The pictures of README and docs, from the built-in bars; needs what make browser needs.
pictures: $(READY)
	$(BIN)/python -m tools.pictures

# The documentation as pages in build/docs: links are checked, the reference comes from the contract.
docs: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

# Every official client over stdio and HTTP; those from npm are skipped as above.
clients: $(READY)
	KTRDR_CLIENTS=all $(BIN)/pytest -n 2 --timeout 600 tests/clients

# Wheel, sdist, MCPB bundle and metadata, made, checked, and installed into empty environments.
dist: $(READY) $(TOOLS)/.ready
	$(BIN)/python -m tools.dist

mcpb: $(READY)
	$(BIN)/python -m tools.dist mcpb

# The image of the Dockerfile and the services of compose.yaml; without an engine, their steps.
container: $(READY)
	$(BIN)/python -m tools.container

# Under ten minutes; the tables, with ratios, go to build/benchmarks.md too.
bench: $(READY)
	$(BIN)/python -m benchmarks --output build/benchmarks.md

format: $(READY)
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

$(TOOLS)/.ready: constraints.txt
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt build pipx twine uv
	touch $@

clean:
	rm -rf $(VENV) build .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache
