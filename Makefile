# Each target makes the environment .venv first, if it is not there.
python = .venv/bin/python

.PHONY: demo test test-all lint env bench-training bench-engine bench-cochlea bench-compression bench-memory experiments lava docs clean

demo: env
	$(python) experiments/demo.py

test: lint
	$(python) -m pytest -n 2 --dist loadfile -m "not slow"

test-all: lint
	$(python) -m pytest -n 2 --dist loadfile

lint: env
	.venv/bin/ruff check
	.venv/bin/ruff format --check -q
	.venv/bin/mypy

env:
	@sh scripts/environment.sh

bench-training: env
	$(python) benchmarks/training.py

bench-engine: env
	$(python) benchmarks/engine.py

bench-cochlea: env
	$(python) benchmarks/cochlea.py

bench-compression: env
	$(python) benchmarks/compression.py

bench-memory: env
	$(python) benchmarks/memory.py

experiments: env
	$(python) experiments/delays.py

lava: env
	$(python) scripts/lava_check.py

docs: env
	.venv/bin/python -m pip install -q -e ".[docs]"
	.venv/bin/mkdocs build --strict

clean:
	rm -rf build dist site runs .venv .venv-peers .venv-lava *.egg-info
