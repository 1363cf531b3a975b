# make install       put what the program needs into .venv
# make demo          see it work, against a simulated Meta and a throwaway SQLite file
# make test          run every test, on SQLite and on a real PostgreSQL that pip brings
# make lint          ruff, mypy --strict, the directions of imports, the GitHub workflows, the files in deploy/
# make format        let ruff fix what it can
# make messages      bring the catalogues in locale/ up to date with the source
# make requirements  pin and hash what pyproject.toml asks for; make upgrade also takes the newest versions
# make audit         ask PyPI whether a pinned version has a known vulnerability
# make drill         six simulated years, of 2,000 channels each; docs/reliability.md says what is checked
# make bench         measure it on a simulated Meta and that PostgreSQL: benchmarks/RESULTS.md says what and why

PYTHON ?= python3
BIN := .venv/bin
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check --require-hashes -r

.PHONY: install demo test lint format messages requirements upgrade audit drill bench clean

install: .venv/runtime
	@echo 'Installed into .venv. Next: cp .env.example .env && chmod 600 .env, or see it first: make demo'

demo: .venv/runtime
	$(BIN)/python -m sandbox demo

test: .venv/development
	$(BIN)/pytest -n auto --dist worksteal --cov --cov-report term-missing:skip-covered

lint: .venv/development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/actionlint -shellcheck $(BIN)/shellcheck .github/workflows/*.yml
	$(BIN)/zizmor --quiet --offline --pedantic .github
	$(BIN)/yamllint --strict --config-file deploy/.yamllint.yaml deploy
	$(BIN)/hadolint deploy/Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec deploy/compose.yaml
	$(BIN)/kubernetes-validate --strict --quiet -k 1.27 deploy/kubernetes.yaml
	$(BIN)/kubernetes-validate --strict --quiet deploy/kubernetes.yaml

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

# For every platform and every Python from 3.11 on; all files agree with requirements.txt.
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-strip-extras \
	--custom-compile-command 'make requirements'

requirements: .venv/development
	$(COMPILE) --group runtime --output-file requirements.txt
	$(COMPILE) --group dev --constraint requirements.txt --output-file requirements-dev.txt
	$(COMPILE) --group benchmarks --constraint requirements.txt --output-file benchmarks/requirements.txt

upgrade: COMPILE += --upgrade
upgrade: requirements

audit: .venv/development
	$(BIN)/pip-audit --strict --require-hashes --disable-pip --requirement requirements.txt \
		--requirement requirements-dev.txt --requirement benchmarks/requirements.txt

drill: .venv/development
	for seed in 1 2 3; do for database in sqlite postgresql; do \
		$(BIN)/python -m sandbox year --channels 2000 --seed $$seed --database $$database || exit 1; done; done

bench: .venv/development benchmarks/.venv/installed
	$(BIN)/python -m benchmarks --date "$$(date +%F)"

clean:
	rm -rf .venv benchmarks/.venv .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis examples/react/node_modules examples/react/dist

# A virtual environment that was broken off half-way has no stamp, and is made again.
.venv/runtime: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
		"$(PYTHON) is too old: Python 3.11 or newer is needed, for example: make $(MAKECMDGOALS) PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python $(PIP_INSTALL) $<
	@touch $@

.venv/development: requirements-dev.txt .venv/runtime
	$(BIN)/python $(PIP_INSTALL) $<
	@touch $@

# What the program is compared with never comes near what it needs itself.
benchmarks/.venv/installed: benchmarks/requirements.txt
	$(PYTHON) -m venv benchmarks/.venv
	benchmarks/.venv/bin/python $(PIP_INSTALL) $<
	@touch $@
