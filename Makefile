# Everything needs only Python (3.11 or newer), pip and make. `make demo SEED=1` takes another seed.
PYTHON ?= python3
SEED ?= 0
BIN := .venv/bin

.PHONY: demo test lint wheel clean

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,hub,lora,qlora,tensorboard,trackio]'
	touch .venv/installed

demo: .venv/installed
	$(BIN)/reward-distiller demo --seed $(SEED)

test: .venv/installed
	$(BIN)/python -m pytest

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

wheel: .venv/installed
	$(BIN)/python -m build --wheel --outdir dist

clean:
	rm -rf .venv build dist runs
