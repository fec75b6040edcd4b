# Every target does what it needs of the ones before it. `make` alone lists them.
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
export HF_HUB_OFFLINE := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-unit test-slow check lint types imports format bench locomo wheel clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  \033[36m%-10s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null 2>&1 || { echo "$(PYTHON) is not on the PATH; name a Python 3.11+ with: make PYTHON=/path/to/python setup"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (about 2 GB with torch; 2 to 4 minutes the first time) …"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-warn-script-location -c constraints.txt -e '.[dev]'
	@touch $@

setup: $(STAMP) ## make .venv with all that the demo and the tests need

demo: $(STAMP) ## see it work on a year of conversation, with a SIGKILL in the middle
	$(BIN)/memos-ray demo

test: $(STAMP) ## run every test but those marked gpu and slow
	$(BIN)/python -m pytest -m "not gpu and not slow"

test-unit: $(STAMP) ## run the tests that need neither Ray nor storage
	$(BIN)/python -m pytest tests/unit -m "not gpu and not slow"

test-slow: $(STAMP) ## run the long stress tests
	$(BIN)/python -m pytest -m slow --timeout 3600

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

imports: $(STAMP)
	$(BIN)/lint-imports

check: lint types imports ## ruff, mypy --strict and the direction of imports

format: $(STAMP) ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP) ## measure the core: search, adds, activation, embedding
	$(BIN)/memos-ray bench core

locomo: $(STAMP) ## measure retrieval: make locomo DATA=path/to/locomo.json
	@test -n "$(DATA)" || { echo "say where the data is: make locomo DATA=path/to/locomo.json"; exit 2; }
	$(BIN)/memos-ray bench locomo --data $(DATA)

wheel: $(STAMP) ## build the wheel into dist/
	$(BIN)/python -m build --wheel

clean: ## remove caches and build output (not .venv, not data)
	rm -rf dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
