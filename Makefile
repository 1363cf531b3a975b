# make demo      see it work, against a simulated Meta and a throwaway SQLite file
# make test      run every test, on SQLite and on a real PostgreSQL that pip brings
# make lint      ruff, mypy --strict, the directions of imports, the GitHub workflow
# make format    let ruff fix what it can
# make messages  bring the catalogues in locale/ up to date with the source
# make bench     measure it on a simulated Meta and that PostgreSQL: benchmarks/RESULTS.md says what and why

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint format messages bench clean

demo: .venv/runtime
	$(BIN)/python -m sandbox demo

test: .venv/development
	$(BIN)/pytest -n auto --dist worksteal --cov --cov-report term-missing:skip-covered

lint: .venv/development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/refresh-tokens.yml

format: .venv/development
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# `fact` and the second argument of `Rule` are phrases of details; `counted` is this project's ngettext.
messages: .venv/development
	$(BIN)/pybabel extract --mapping pyproject.toml --keywords "fact Rule:2 counted:1,2" --no-location \
		--sort-output --width 110 --output locale/messages.pot whatsapp_tokens crypto.py meta_client.py
	$(BIN)/pybabel update --input-file locale/messages.pot --output-dir locale --no-fuzzy-matching \
		--ignore-obsolete --width 110 --ignore-pot-creation-date
	rm locale/messages.pot

bench: .venv/development benchmarks/.venv/installed
	$(BIN)/python -m benchmarks --date "$$(date +%F)"

clean:
	rm -rf .venv benchmarks/.venv .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis

# A virtual environment that was broken off half-way has no stamp, and is made again.
.venv/runtime: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/development: requirements-dev.txt .venv/runtime
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

# What the program is compared with never comes near what it needs itself.
benchmarks/.venv/installed: benchmarks/requirements.txt
	$(PYTHON) -m venv benchmarks/.venv
	benchmarks/.venv/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@
