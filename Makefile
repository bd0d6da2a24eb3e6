# The README's two commands: `make demo` and `make test`. Each makes .venv if need be.
PYTHON ?= python3
BIN := .venv/bin
EXTRAS := train,data,report,cpu,dev

.PHONY: install demo test lint links types unit docs torture format clean

install: .venv/installed

# constraints.txt pins every package, so next year's install is this year's.
.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	touch $@

demo: install
	$(BIN)/hficma demo

test: lint types unit

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Neither mypy nor the docs' reference follow setuptools' import hooks: they get the installed layout
# as links.
links:
	rm -rf .build/types && mkdir -p .build/types/hficma
	ln -s $(addprefix $(CURDIR)/,$(wildcard hficma/*)) .build/types/hficma/
	ln -s $(addprefix $(CURDIR)/,training export engine benchmarks) .build/types/hficma/

types: install links
	cd .build/types && $(CURDIR)/$(BIN)/mypy --config-file $(CURDIR)/pyproject.toml -p hficma

unit: install
	$(BIN)/python -m pytest -n 2

# The site of docs/, into .build/site: open index.html there.
docs: install links
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

# Not in `test`: attacks on every promise about damage, kills and hostile input, at random.
SECONDS ?= 1200
torture: install
	$(BIN)/python -m tests.torture --seconds $(SECONDS)

format: install
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

clean:
	rm -rf .venv .build build *.egg-info
