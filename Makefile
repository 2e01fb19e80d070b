# Everything needs only Python (3.11 or newer), pip and make. `make demo SEED=1` takes another seed.
PYTHON ?= python3
SEED ?= 0
BIN := .venv/bin

.PHONY: demo test test-vllm test-engines lint bench bench-teacher docs reference wheel clean

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,hub,lm-eval,lora,plot,qlora,ray,rl,serve,tensorboard,trackio]'
	touch .venv/installed

demo: .venv/installed
	$(BIN)/reward-distiller demo --seed $(SEED)

test: .venv/installed
	tests/report/install_chromium.sh
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# TRL stands in an environment of its own.
.venv-trl/installed: bench/trl-requirements.txt
	$(PYTHON) -m venv .venv-trl
	.venv-trl/bin/pip install --quiet --disable-pip-version-check -r bench/trl-requirements.txt
	touch .venv-trl/installed

bench: .venv/installed .venv-trl/installed
	$(BIN)/python -m bench

# Curator, too.
.venv-curator/installed: bench/curator-requirements.txt
	$(PYTHON) -m venv .venv-curator
	.venv-curator/bin/pip install --quiet --disable-pip-version-check -r bench/curator-requirements.txt
	touch .venv-curator/installed

bench-teacher: .venv/installed .venv-curator/installed
	$(BIN)/python -m bench.teacher

# And vLLM, for tests of the real server on this machine's CPU; `make test-vllm VLLM=/path/to/vllm` takes one that is there.
VLLM ?= .venv-vllm/bin/vllm
.venv-vllm/bin/vllm: tests/real_vllm/install.sh
	tests/real_vllm/install.sh .venv-vllm
	touch .venv-vllm/bin/vllm

test-vllm: .venv/installed $(VLLM)
	VLLM=$(abspath $(VLLM)) $(BIN)/python -m pytest tests/real_vllm

# What verl and OpenRLHF take of the launch scripts that are written for them.
.venv-engines/installed: tests/rl/engines/install.sh
	tests/rl/engines/install.sh .venv-engines
	touch .venv-engines/installed

test-engines: .venv/installed .venv-engines/installed
	ENGINES_PYTHON=$(abspath .venv-engines/bin/python) $(BIN)/python -m pytest tests/rl/engines

# The guide as a site in build/docs. It needs nothing of the package: the reference pages stand in docs/reference.
.venv-docs/installed: docs/requirements.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/pip install --quiet --disable-pip-version-check -r docs/requirements.txt
	touch .venv-docs/installed

docs: .venv-docs/installed
	.venv-docs/bin/sphinx-build -W --keep-going -q -b html -d build/doctrees docs build/docs
	@echo "build/docs/index.html"

# The reference pages, from the schema of configs and the parser of the command line.
reference: .venv/installed
	$(BIN)/python docs/generate.py

wheel: .venv/installed
	$(BIN)/python -m build --wheel --outdir dist

clean:
	rm -rf .venv .venv-trl .venv-curator .venv-docs .venv-engines .venv-vllm build dist runs
