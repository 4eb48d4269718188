# What one does in this repository; `make` alone lists it.
#
#   make test PYTHON=python3.13 VENV=.venv-3.13    another interpreter, in an environment of its own
#   make run ARGS="--port 8001"                    ARGS goes to the command behind a target

PYTHON  ?= python3
VENV    ?= .venv
CONFIG  ?= config.toml
JOBS    ?= 2
UPGRADE ?= --upgrade
UV      := uv==0.13.9

BIN     := $(VENV)/bin
PLUGINS := $(patsubst %/pyproject.toml,%,$(sort $(wildcard plugins/*/pyproject.toml)))
SOURCES := $(wildcard $(addsuffix /src,$(PLUGINS) bench/plugins))
CHECKED := $(wildcard pexpolicy tests bench deploy docs $(addsuffix /src,$(PLUGINS)) $(addsuffix /tests,$(PLUGINS)))

# The stamp is named after all that makes an environment useless when it changes: the interpreter,
# the place of the clone, the set of plugins. A change of contents is seen by its time.
FINGERPRINT := $(shell $(PYTHON) -c 'import os, sys, zlib; print(zlib.crc32(repr((sys.version, sys.base_prefix, os.getcwd(), sys.argv[1:])).encode()))' $(PLUGINS) 2>/dev/null || echo none)
STAMP   := $(VENV)/.installed-$(FINGERPRINT)

# Where packages come from (index, proxy, certificates) is the user's business. What is installed,
# and to which place, is decided here alone. /dev/null also overrules a constraint of pip's
# configuration files, which an empty value would not.
unexport PYTHONDONTWRITEBYTECODE PYTHONHOME PYTHONPATH PIP_BUILD_CONSTRAINT PIP_DRY_RUN PIP_IGNORE_INSTALLED PIP_NO_DEPS
unexport PIP_PREFIX PIP_PYTHON PIP_REQUIREMENT PIP_ROOT PIP_TARGET
export PIP_CONSTRAINT := /dev/null
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_USER := 0

# Tests see none of the settings that happen to surround them, and no package index.
SURROUNDINGS := $(filter PEXPOLICY_% PIP_% PYTEST_% UV_%,$(.VARIABLES))
ISOLATED     := env $(addprefix -u ,$(SURROUNDINGS)) PIP_CONFIG_FILE=/dev/null PIP_NO_INDEX=1

empty :=
space := $(empty) $(empty)

define require_python
@$(PYTHON) -c '' 2>/dev/null || { echo "'$(PYTHON)' does not start: install Python 3.11 or newer, or name one, as in: make PYTHON=python3.13" >&2; exit 1; }
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "pexpolicy needs Python 3.11 or newer and '$(PYTHON)' is $$($(PYTHON) --version 2>&1): name a newer one, as in: make PYTHON=python3.13" >&2; exit 1; }
@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "'$(PYTHON)' cannot make virtual environments: install its venv module (Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
endef

.DEFAULT_GOAL := help
.PHONY: help setup run test lint fix lock reference bench soak fuzz chaos-upstreams chaos guards reloads \
	chaos-access chaos-audit patterns walks prove-image clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP) ## install everything into .venv, as the lock says

$(STAMP): requirements.lock pyproject.toml $(addsuffix /pyproject.toml,$(PLUGINS))
	$(require_python)
	@test -e $@ || $(PYTHON) -m venv --clear $(VENV)
	@rm -f $@
	@echo "Installing into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation $(addprefix -e ./,. $(PLUGINS))
	@$(BIN)/python -m pip check >$(VENV)/check.log || { cat $(VENV)/check.log; echo "requirements.lock does not fit the dependencies in pyproject.toml: run make lock UPGRADE=" >&2; exit 1; }
	@touch $@

run: $(STAMP) ## serve config.toml, by default on http://127.0.0.1:8000
	@exec $(BIN)/pexpolicy serve --config $(CONFIG) $(ARGS)

# A failed check does not hide what the checks after it have to say.
test: $(STAMP) ## every check: format, lint, types, all tests of core and plugins
	@failed=0; \
	$(MAKE) --no-print-directory lint || failed=1; \
	$(ISOLATED) $(BIN)/python -m pytest -n $(JOBS) $(ARGS) || failed=1; \
	exit $$failed

lint: $(STAMP) ## format, lint and types only
	@failed=0; \
	$(BIN)/ruff format --check --output-format concise . || failed=1; \
	$(BIN)/ruff check . || failed=1; \
	MYPYPATH=$(subst $(space),:,$(strip $(SOURCES))) $(BIN)/mypy $(CHECKED) || failed=1; \
	exit $$failed

fix: $(STAMP) ## format the code and repair what the linter can
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

# Plugins depend on pexpolicy, which is here and not on an index: the override says so, and the
# locks do not name it. The locks in deploy/ are the parts of the first that an installation and
# its build need.
lock: ## renew the locks to the newest versions (UPGRADE= adds only what is missing)
	$(require_python)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet $(UV)
	@echo "pexpolicy @ ." > $(VENV)/here.txt
	@$(COMPILE) $(UPGRADE) $(INSTALLED) --extra author --extra tracing --group dev -o requirements.lock
	@$(COMPILE) $(INSTALLED) -c requirements.lock -o deploy/requirements.lock
	@$(COMPILE) --group build -c requirements.lock -o deploy/build.lock
	@$(COMPILE) $(UPGRADE) bench/peers/requirements.in -o bench/peers/requirements.lock

COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command "make lock"
INSTALLED = pyproject.toml $(addsuffix /pyproject.toml,$(PLUGINS)) --extra speed \
	--override $(VENV)/here.txt --no-emit-package pexpolicy

reference: $(STAMP) ## write docs/reference.md from the models
	@$(BIN)/python -m docs.generate_reference

bench: $(STAMP) ## measure the server beside a bare aiohttp program (Linux, needs wrk)
	@$(BIN)/python -m bench $(ARGS)

soak: $(STAMP) ## two million mixed calls, and the slopes of memory, descriptors, threads, p99
	@$(BIN)/python -m bench.soak $(ARGS)

fuzz: $(STAMP) ## a million malformed requests, generated decisions, and foreign replies
	@$(ISOLATED) $(BIN)/python -m tests.experiments.fuzz $(ARGS)
	@$(ISOLATED) $(BIN)/python -m tests.experiments.generated_decisions
	@$(ISOLATED) $(BIN)/python -m tests.experiments.foreign_replies

chaos-upstreams: $(STAMP) ## policy servers that are broken in every way, behind a server under load
	@$(ISOLATED) $(BIN)/python -m tests.experiments.upstreams $(ARGS)

chaos: $(STAMP) ## a hundred plugins that misbehave, each in a server under load
	@$(ISOLATED) $(BIN)/python -m tests.experiments.chaos $(ARGS)

guards: $(STAMP) ## restart, kill and freeze servers behind the real HAProxy and NGINX
	@$(ISOLATED) $(BIN)/python -m tests.experiments.load_balancers $(ARGS)

reloads: $(STAMP) ## a thousand reloads under load, broken files, workers that are killed
	@$(ISOLATED) $(BIN)/python -m tests.experiments.reloads $(ARGS)

chaos-access: $(STAMP) ## floods, slow clients, renewed certificates and guessed passwords, while nodes call
	@$(ISOLATED) $(BIN)/python -m tests.experiments.chaos.access $(ARGS)

chaos-audit: $(STAMP) ## kill, fill, delete, rotate and stall: does the audit lose a line?
	@$(ISOLATED) $(BIN)/python -m tests.experiments.chaos.audit $(ARGS)

patterns: $(STAMP) ## a thousand regular expressions that are known to be slow, against long aliases
	@$(ISOLATED) $(BIN)/python -m pytest -q -m heavy tests/matching $(ARGS)

walks: $(STAMP) ## count the parts of the package that a call, a reload, a plugin and explain pass
	@$(ISOLATED) $(BIN)/python -m tests.experiments.walks $(ARGS)

prove-image: ## carry out the Dockerfile's steps without Docker, then serve and check health
	$(require_python)
	@PYTHON=$(PYTHON) $(PYTHON) deploy/prove_image.py

clean: ## remove environments, caches and build results
	rm -rf $(VENV) .venv-* .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
