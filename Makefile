# make train: train, test and print the run directory.
# make test: ruff, mypy and the tests, without those marked slow or gpu; those of the page are skipped
# without Chromium. .ci/run also runs the slow ones, and those of the packages, in a new .venv.
# make test-floors: the tests on the lowest versions that pyproject.toml allows, in .venv-floors;
# TESTS="FILE ..." runs a part.
# make test-gpu: the tests that need a GPU; skipped without one.
# make test-postgres: the tests of shared studies, on a PostgreSQL server that it starts (as root).
# make model: train a classifier and a detector by the recipes of the packaged ones, and replace those;
# make classifier and make detector: one of them. Without bf16 instructions, remove configs/fast.yaml
# from the first, and add --trainer.precision 32-true to the second.
PYTHON ?= python3
BIN = .venv/bin

.PHONY: train test test-floors test-gpu test-postgres model classifier detector

train: .venv/installed
	$(BIN)/python -m mnist_lit fit --config configs/default.yaml
	$(BIN)/python -m mnist_lit test --ckpt_path best
	@echo "Run directory: $$(ls -td lightning_logs/version_* | head -n 1)"
	@echo "To view it in TensorBoard: $(BIN)/tensorboard --logdir lightning_logs"

model: classifier detector

classifier: .venv/installed
	$(BIN)/python -m mnist_lit fit --config configs/default.yaml --config configs/strong.yaml \
		--config configs/fast.yaml --seed_everything 0 --name model
	$(BIN)/python -m mnist_lit export --ckpt_path last --output mnist_lit/assets/digits.onnx \
		--weights mnist_lit/assets/digits.ckpt

detector: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m mnist_lit.detection fit --config configs/detector.yaml
	$(BIN)/python -m mnist_lit.detection export --output mnist_lit/assets/detector.onnx \
		--ckpt_path $$(ls -td detector/lightning_logs/version_* | head -n 1)/checkpoints/best.ckpt

test: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 -rs -m "not slow and not gpu"

test-floors: .venv-floors/installed
	.venv-floors/bin/python -m pytest -n 2 -rs -m "not slow and not gpu" $(TESTS)

test-gpu: .venv/installed-dev
	$(BIN)/python -m pytest -q -rs tests/test_gpu.py || [ $$? = 5 ]  # 5: no tests were collected

test-postgres: .venv/installed-dev
	PYTHON=$(BIN)/python .ci/postgres

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	@echo "Installing into .venv; torch alone takes a minute or more."
	$(BIN)/pip install --quiet --editable .
	touch $@

.venv/installed-dev: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@ .venv/installed

.venv-floors/installed: pyproject.toml .ci/floors
	$(PYTHON) -m venv --clear .venv-floors
	.venv-floors/bin/pip install --quiet packaging
	.venv-floors/bin/python .ci/floors > .venv-floors/requirements.txt
	.venv-floors/bin/pip install --quiet --requirement .venv-floors/requirements.txt
	.venv-floors/bin/pip install --quiet --no-deps --editable .
	touch $@
