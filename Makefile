# Everything below sets itself up: python3 (3.11 or newer), make and g++ are all it needs.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
PYTEST_OPTIONS ?=
KILLS ?= 20
SIGNAL ?= KILL
WORKERS ?= 2
PYTHON_VERSION ?= 3.13
OTHER := .venv-$(PYTHON_VERSION)
# Kept also where containers turn it off: each job would else compile all that it imports, for 2 s.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-long test-all test-python test-gpu test-cluster attack lint bench released-model seeds both-refshapes interruptions docs docs-site clean

demo: $(READY)  ## the whole pipeline on the embedded data set, then its table and its report
	$(BIN)/snakemake --quiet rules --cores all demo
	@cat results/refshapes_tris/scores.txt
	@echo "report: $(CURDIR)/results/refshapes_tris/report.html"

test: $(READY)  ## the tests, two at a time
	$(BIN)/pytest -n 2 --dist loadfile -m "not long" $(PYTEST_OPTIONS)

test-long: $(READY)  ## those that take half a minute or more each
	$(BIN)/pytest -n 2 -m long $(PYTEST_OPTIONS)

test-all: $(READY)  ## those too that show more cases of the same
	$(BIN)/pytest -n 2 --dist loadfile --slow $(PYTEST_OPTIONS)

test-python: $(READY)  ## golden values, engine and command on another Python, PYTHON_VERSION, if it is installed
	$(BIN)/uv venv --quiet --clear --no-python-downloads --python $(PYTHON_VERSION) $(OTHER)
	$(BIN)/uv pip install --quiet --python $(OTHER)/bin/python --editable ".[test]"
	$(OTHER)/bin/pytest -n 2 --dist loadfile -m "not workflow" $(PYTEST_OPTIONS) tests/parity tests/command \
		tests/test_config.py tests/test_engine.py tests/test_torch_crf.py tests/test_wheel.py

test-gpu: $(READY)  ## those that need a GPU, minutes: golden values, bfloat16, resuming, memory
	$(BIN)/pytest -m gpu -n 4 $(PYTEST_OPTIONS) tests/gpu tests/parity --ignore tests/gpu/test_memory.py
	$(BIN)/pytest -m gpu $(PYTEST_OPTIONS) tests/gpu/test_memory.py

test-cluster: $(READY)  ## the demo on a SLURM cluster that is started here; as root, installs SLURM by apt-get
	$(BIN)/pytest --cluster $(PYTEST_OPTIONS) tests/cluster

attack: $(READY)  ## a thousand hostile requests to the page of `risflow serve`, and what came of them
	$(BIN)/pytest -s --slow --durations=0 tests/command/test_serve_load.py -k hostile

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/mypy

bench: $(READY)  ## speed: of the CRF, the random walk, trainings, passes over data sets; whole chains
	$(BIN)/python -m benchmarks.walk
	$(BIN)/python -m benchmarks.crf
	$(BIN)/python -m benchmarks.throughput --output results/bench.json
	$(BIN)/python -m benchmarks.passes --output results/passes.json
	$(BIN)/python -m benchmarks.chain results/bench.json results/passes.json
	$(BIN)/python -m benchmarks.prepare

released-model: $(READY)  ## data/demo_segmentor.safetensors, from the results of the demo
	$(BIN)/python -m benchmarks.released_model

seeds: $(READY)  ## the demo on three seeds, as a table
	$(BIN)/python -m benchmarks.seeds

both-refshapes: $(READY)  ## all models on RefShapes and on its hard variant, as a table; hours on two cores
	$(BIN)/python -m benchmarks.both_refshapes

docs: $(READY)  ## the pages that are written from configs/ and stages/config/
	$(BIN)/python docs/write_data.py > docs/data.md
	$(BIN)/python docs/write_configuration.py > docs/configuration.md
	$(BIN)/python docs/write_results.py > docs/results.md

docs-site: $(READY)  ## docs/ as a site, in site/
	$(BIN)/mkdocs build --strict

interruptions: $(READY)  ## the small demo, ended by SIGNAL at KILLS random moments: the same results
	$(BIN)/python -m benchmarks.interruptions --kills $(KILLS) --signal $(SIGNAL) --workers $(WORKERS)

clean:  ## removes results, not data
	rm -rf results .snakemake

$(READY): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --editable ".[test]"
	@touch $@
