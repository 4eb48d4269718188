# The tasks of this repository; `make` without a target lists them. Experiments: `make -C lab`.
#
#   make test PYTHON=python3.13 VENV=.venv-3.13    another interpreter, in an environment of its own
#   make run ARGS="--port 8001"                    ARGS is passed to the command of the target

PYTHON  ?= python3
VENV    ?= .venv
CONFIG  ?= config.toml
JOBS    ?= 4
UPGRADE ?= --upgrade
DIST    := dist
UV      := uv==0.13.9
SBOM    := cyclonedx-bom==7.5.0
BIN     := $(VENV)/bin
TOOLS   := .venv-tools
SITE    := .venv-site
PLUGINS := $(patsubst %/pyproject.toml,%,$(sort $(wildcard plugins/*/pyproject.toml console/pyproject.toml)))
SOURCES := $(wildcard $(addsuffix /src,$(PLUGINS) bench/plugins) examples/*/src)
CHECKED := $(wildcard pexpolicy tests lab bench deploy docs $(addsuffix /src,$(PLUGINS)) $(addsuffix /tests,$(PLUGINS)) examples/*/src examples/*/tests examples/company)

# The name of the stamp changes with whatever makes an environment unusable: the interpreter, the
# path of the clone, the set of plugins. Changed contents are detected by the modification time.
FINGERPRINT := $(shell $(PYTHON) -c 'import os, sys, zlib; print(zlib.crc32(repr((sys.version, sys.base_prefix, os.getcwd(), sys.argv[1:])).encode()))' $(PLUGINS) 2>/dev/null || echo none)
STAMP   := $(VENV)/.installed-$(FINGERPRINT)

# The user decides where packages come from (index, proxy, certificates). Only this file decides
# what is installed, and where. /dev/null also overrides a constraint in pip's configuration files,
# an empty value does not.
unexport PYTHONDONTWRITEBYTECODE PYTHONHOME PYTHONPATH PIP_BUILD_CONSTRAINT PIP_DRY_RUN PIP_IGNORE_INSTALLED PIP_NO_DEPS
unexport PIP_PREFIX PIP_PYTHON PIP_REQUIREMENT PIP_ROOT PIP_TARGET
export PIP_CONSTRAINT := /dev/null
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_USER := 0

# Tests inherit no settings from the environment, and reach no package index.
INHERITED := $(filter PEXPOLICY_% PIP_% PYTEST_% UV_%,$(.VARIABLES))
ISOLATED  := env $(addprefix -u ,$(INHERITED)) PIP_CONFIG_FILE=/dev/null PIP_NO_INDEX=1

define require_python
@$(PYTHON) -c '' 2>/dev/null || { echo "'$(PYTHON)' does not start: install Python 3.11 or newer, or name one, as in: make PYTHON=python3.13" >&2; exit 1; }
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "pexpolicy needs Python 3.11 or newer and '$(PYTHON)' is $$($(PYTHON) --version 2>&1): name a newer one, as in: make PYTHON=python3.13" >&2; exit 1; }
@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "'$(PYTHON)' cannot make virtual environments: install its venv module (Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
endef

.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*/\1/p' Makefile)

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP) ## install everything into .venv, in the locked versions

$(STAMP): requirements.lock pyproject.toml $(addsuffix /pyproject.toml,$(PLUGINS))
	$(require_python)
	@test -e $@ || $(PYTHON) -m venv --clear $(VENV) && rm -f $@
	@echo "Installing $$(grep -c '==' requirements.lock) packages into $(VENV) (about a minute) ..."
	@$(BIN)/python -m pip install --quiet --progress-bar off --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation $(addprefix -e ./,. $(PLUGINS))
	@$(BIN)/python -m pip check >$(VENV)/check.log || { cat $(VENV)/check.log; echo "requirements.lock does not fit the dependencies in pyproject.toml: run make lock UPGRADE=" >&2; exit 1; }
	@touch $@

# The shell becomes the server. The console is told its process, and ends if that is not its parent
# or no longer: it never outlives the server. A console that cannot start stops no server.
run: $(STAMP) ## serve config.toml on http://127.0.0.1:8000, and its console on http://127.0.0.1:9109
	@$(BIN)/pexpolicy console --config $(CONFIG) --login --with-parent $$$$ \
		$(filter --admin-port=%,$(subst --admin-port ,--admin-port=,$(ARGS))) & \
	exec $(BIN)/pexpolicy serve --config $(CONFIG) $(ARGS)

# Lint runs meanwhile and is told last. Tests whose program is not installed are left out.
test: $(STAMP) ## format, lint, types, tests but the slow ones; ARGS=tests/chain runs these tests only
	@failed=0; $(BIN)/python -m tests.support.programs || true; \
	$(if $(ARGS),,$(MAKE) --no-print-directory lint >$(VENV)/lint.log 2>&1 & trap "kill $$!" INT TERM;) \
	$(ISOLATED) $(BIN)/python -m pytest -n $(JOBS) --dist worksteal -rs --junitxml=$(VENV)/junit.xml $(or $(ARGS),--ignore=lab -m "not heavy and not slow") || failed=1; \
	$(if $(ARGS),,wait $$! || failed=1; cat $(VENV)/lint.log;) \
	exit $$failed

quick: $(STAMP) ## the tests of what changed since main, or since the last commit
	@$(ISOLATED) $(BIN)/python -m tests.support.changed -n $(JOBS) $(ARGS)

lint: $(STAMP) ## format, lint and types only
	@failed=0; \
	$(BIN)/ruff format --check --output-format concise . || failed=1; \
	$(BIN)/ruff check . || failed=1; \
	MYPYPATH=$$(echo $(SOURCES) | tr ' ' ':') $(BIN)/mypy $(CHECKED) || failed=1; \
	exit $$failed

fix: $(STAMP) ## format the code and apply the linter's fixes
	@$(BIN)/ruff check --fix-only . && $(BIN)/ruff format .

# Plugins depend on pexpolicy, and some on another plugin, which are not on an index: the override
# names their folders. The locks in deploy/ are what an installation and its build need of the first.
lock: ## renew the locks to the newest versions (UPGRADE= adds only what is missing)
	$(require_python)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet $(UV) && printf '%s\n' 'pexpolicy @ .' $(foreach plugin,$(PLUGINS),'pexpolicy-$(notdir $(plugin)) @ $(plugin)') > $(VENV)/here.txt
	@$(COMPILE) $(UPGRADE) $(INSTALLED) --group dev -o requirements.lock
	@$(COMPILE) $(INSTALLED) -c requirements.lock -o deploy/requirements.lock
	@$(COMPILE) --group build -c requirements.lock -o deploy/build.lock
	@$(COMPILE) $(UPGRADE) --group compiled -c requirements.lock -o deploy/compiled.lock
	@$(COMPILE) $(UPGRADE) docs/site-requirements.in -o docs/site-requirements.lock

COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command "make lock"
INSTALLED = pyproject.toml $(addsuffix /pyproject.toml,$(PLUGINS)) $(addprefix --extra ,speed tracing oidc geoip postgresql sqlite) \
	--override $(VENV)/here.txt --no-emit-package pexpolicy $(addprefix --no-emit-package pexpolicy-,$(notdir $(PLUGINS)))

reference: $(STAMP) ## write the pages of docs/ that come from the code, and the manual page
	@for page in api reference settings metrics audit findings man_page; do $(BIN)/python -m docs.generate_$$page || exit 1; done

# The generator is as large as everything else together, so it has an environment of its own.
$(SITE)/.installed: docs/site-requirements.lock
	$(require_python)
	@$(PYTHON) -m venv --clear $(SITE) && $(SITE)/bin/python -m pip install --quiet --require-hashes -r $<
	@touch $@

site: $(SITE)/.installed ## build the documentation site in build/site/html; warnings are errors
	@$(PYTHON) docs/build_site.py build/site/pages
	@$(SITE)/bin/zensical build --clean --strict

bench: $(STAMP) ## measure the server against a bare aiohttp program (Linux, needs wrk)
	@$(BIN)/python -m bench $(ARGS)

weight: $(STAMP) ## lines, tokens and modules of each room, next to their ceilings
	@$(BIN)/python -m tests.support.weight $(ARGS)

walks: $(STAMP) ## the files of the package that a call, a reload, a plugin and explain pass
	@$(ISOLATED) $(BIN)/python -m lab.walks $(ARGS)

version: ## set VERSION=0.2.0 everywhere, and give the change log a heading
	@$(PYTHON) deploy/set_version.py $(VERSION)

dist: $(STAMP) ## wheels and source archives of core, plugins and console, the same bytes each time
	@rm -rf $(DIST); mkdir -p $(DIST)
	@for package in . $(PLUGINS); do \
		$(BIN)/python -m build --no-isolation --outdir $(DIST) $$package >$(VENV)/build.log 2>&1 || { tail -20 $(VENV)/build.log; exit 1; }; \
	done
	@cd $(DIST) && sha256sum *.whl *.tar.gz >SHA256SUMS && wc -l <SHA256SUMS | xargs printf '%s files in $(DIST), see SHA256SUMS\n'

wheelhouse: dist ## everything for an installation without a network, for this system and Python
	@rm -rf $(DIST)/wheelhouse && $(BIN)/python -m pip wheel --quiet --no-build-isolation --require-hashes \
		--only-binary :all: --no-binary python-ldap --wheel-dir $(DIST)/wheelhouse $(addprefix -r deploy/,requirements.lock compiled.lock)
	@cp -R $(DIST)/*.whl deploy $(DIST)/wheelhouse && echo "pip install --no-index --find-links $(DIST)/wheelhouse 'pexpolicy[all]'"

sbom: ## the packages of the image as CycloneDX, from an environment made as the image's
	@test -x $(TOOLS)/bin/cyclonedx-py || { $(PYTHON) -m venv $(TOOLS) && $(TOOLS)/bin/python -m pip install --quiet $(SBOM); }
	@PYTHON=$(PYTHON) deploy/install dependencies build/image && deploy/install packages build/image
	@mkdir -p $(DIST) && $(TOOLS)/bin/cyclonedx-py environment --output-reproducible --of JSON -o $(DIST)/pexpolicy.cdx.json build/image/bin/python

clean: ## remove environments, caches and build results
	rm -rf $(VENV) .venv-* .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
