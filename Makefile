# make train: train, test and show where the run lies.   make test: check everything; the page
# only where there is a Chromium, or it says that it did not.
# make test-gpu: the tests of what only a GPU can break; without one it says so.
# make test-postgres: the tests of shared studies, on a PostgreSQL server that it starts (as root).
# make model: train the model that comes with the package, and put it there.
PYTHON ?= python3
BIN = .venv/bin

.PHONY: train test test-gpu test-postgres model

train: .venv/installed
	$(BIN)/python -m mnist_lit fit --config configs/default.yaml
	$(BIN)/python -m mnist_lit test --ckpt_path best
	@echo "The run lies in $$(ls -td lightning_logs/version_* | head -n 1)"
	@echo "To look at it in TensorBoard: $(BIN)/tensorboard --logdir lightning_logs"

model: .venv/installed
	$(BIN)/python -m mnist_lit fit --config configs/default.yaml --config configs/strong.yaml \
		--seed_everything 0 --name model
	$(BIN)/python -m mnist_lit export --ckpt_path last --output mnist_lit/assets/digits.onnx

test: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 -rs -m "not slow and not gpu"

test-gpu: .venv/installed-dev
	$(BIN)/python -m pytest -q -rs tests/test_gpu.py || [ $$? = 5 ]  # 5: there were no tests

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
