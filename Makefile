# The README's commands: `make demo`, `make serve`, `make test`. Each makes .venv if need be.
PYTHON ?= python3
BIN := .venv/bin
EXTRAS := train,data,report,cpu,serve,cluster,dev
PIP := -m pip install --quiet --disable-pip-version-check

.PHONY: install demo serve test lint links types unit cluster-test docs torture gpu-try
.PHONY: bundles pretrained lowest lowest-lock pythons dist format clean

install: .venv/installed

# constraints.txt pins every package, so next year's install is this year's.
.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python $(PIP) -c constraints.txt -e '.[$(EXTRAS)]'
	touch $@

demo: install
	$(BIN)/hficma demo

# The page, at http://127.0.0.1:8000: over the newest indexes of the workspace.
serve: install
	$(BIN)/hficma serve

test: lint types unit

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Neither mypy nor the docs' reference run import hooks (hficma/checkout.py): they get the layout of a
# wheel as links.
links:
	rm -rf .build/types && mkdir -p .build/types/hficma
	ln -s $(addprefix $(CURDIR)/,$(wildcard hficma/*)) .build/types/hficma/
	ln -s $(addprefix $(CURDIR)/,training export engine benchmarks) .build/types/hficma/

types: install links
	cd .build/types && $(CURDIR)/$(BIN)/mypy --config-file $(CURDIR)/pyproject.toml -p hficma

# Tests of one group, those over a Ray cluster, run in one process, which starts it once.
unit: install
	$(BIN)/python -m pytest -n 2 --dist loadgroup

# Not in `test`: machines that die while an index is built or searched, over and over.
cluster-test: install
	$(BIN)/python -m pytest -m cluster tests/engine/cluster

# The site of docs/, into .build/site: open index.html there.
docs: install links
	$(BIN)/python $(PIP) -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

# What the package brings, learnt from pairs of one's own (make pretrained DATA=pairs.jsonl): a model
# by PRESET and OPTIONS, slim, and the cookbook's index by it. Both move together, for the index names
# its bundle as ../bundle. An hour or two; the tests then say whether it may ship.
PRESET ?= photos
OPTIONS ?= trunk.weights=torchvision
pretrained: install
	@test -n "$(DATA)" || { echo "pretrained: DATA is missing, the pairs to learn from"; exit 2; }
	rm -rf .build/pretrained
	$(BIN)/hficma --home .build/pretrained train --preset $(PRESET) --data "$(DATA)" \
		--run .build/pretrained/run $(OPTIONS)
	$(BIN)/hficma --home .build/pretrained calibrate --run .build/pretrained/run
	$(BIN)/hficma export --run .build/pretrained/run --precision int8 --weight-only \
		--out .build/pretrained/whole
	$(BIN)/hficma export --slim .build/pretrained/whole --out .build/pretrained/bundle
	rm -rf hficma/pretrained/bundle hficma/pretrained/index
	mv .build/pretrained/bundle hficma/pretrained/
	$(BIN)/hficma index --bundle hficma/pretrained/bundle --data cookbook --out hficma/pretrained/index
	$(BIN)/python -m pytest tests/pretrained

# Not in `test`: attacks on every promise about damage, kills and hostile input, at random.
SECONDS ?= 1200
torture: install
	$(BIN)/python -m tests.torture --seconds $(SECONDS)

# Not in `test`: the whole benchmark of a card, on the processors at a tiny size.
gpu-try: install
	$(BIN)/hficma bench gpu --device cpu --seconds 60

# What tests need besides the extras [data,cpu,report,dev] where torch is not installed.
TEST_TOOLS := gensim onnx safetensors scipy

# Bundles to serve where torch is not installed, and so nothing can be exported.
bundles: install
	$(BIN)/python -W ignore -m tests.engine.factories .build/bundles

# Serving and data on the lowest versions that pyproject.toml allows, without torch. PYTHON is the
# lowest Python too: wheels of those versions for later ones do not all exist.
lowest: bundles
	rm -rf .build/lowest && $(PYTHON) -m venv .build/lowest
	.build/lowest/bin/python $(PIP) --no-deps -r tests/packaging/lowest.txt
	.build/lowest/bin/python $(PIP) --no-deps --no-build-isolation -e .
	.build/lowest/bin/python -m pip check
	HFICMA_TEST_BUNDLES=$(CURDIR)/.build/bundles .build/lowest/bin/python -m pytest -n 2

# Write the pins of `lowest`, after a bound in pyproject.toml has changed.
lowest-lock: install
	rm -rf .build/lowest && $(PYTHON) -m venv .build/lowest
	$(BIN)/python -m tests.packaging.lowest > .build/lowest/pins.txt
	.build/lowest/bin/python $(PIP) -c .build/lowest/pins.txt '.[data,cpu,report]' $(TEST_TOOLS) \
		pytest pytest-xdist hypothesis pillow-heif 'setuptools>=77'
	.build/lowest/bin/python -m pip freeze --all --exclude hficma --exclude pip \
		> tests/packaging/lowest.txt

# The same tests on later Pythons with the versions of constraints.txt, where the path or pyenv has
# such a Python; one that is missing is said and left out. Without torch, whose builds for them are
# CUDA's.
PYTHONS ?= 3.12 3.13
pythons: $(addprefix python-,$(PYTHONS))
python-%: bundles
	@python=$$(python$* -c 'import sys; print(sys.executable)' 2>/dev/null \
		|| ls -d "$$(pyenv root 2>/dev/null)"/versions/$*.*/bin/python 2>/dev/null | tail -n 1); \
	if [ -z "$$python" ]; then echo "Python $*: not found, so not tested"; exit 0; fi; \
	set -ex; rm -rf .build/python-$*; $$python -m venv .build/python-$*; \
	.build/python-$*/bin/python $(PIP) -c constraints.txt -e '.[data,cpu,report,serve,dev]' $(TEST_TOOLS); \
	HFICMA_TEST_BUNDLES=$(CURDIR)/.build/bundles .build/python-$*/bin/python -m pytest -n 2

# Both distributions, each installed and answering in an empty folder.
dist: install
	rm -rf dist build hficma.egg-info .build/dist && $(PYTHON) -m venv .build/dist
	.build/dist/bin/python $(PIP) -c constraints.txt build twine setuptools
	.build/dist/bin/python -m build --no-isolation > .build/dist/log || (cat .build/dist/log; exit 1)
	.build/dist/bin/python -m twine check --strict dist/*
	$(BIN)/python -m tests.packaging.answers dist/*

format: install
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

clean:
	rm -rf .venv .build build dist *.egg-info
