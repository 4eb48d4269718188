# The tasks of this repository; `make` without a target lists them.
#
#   make test PYTHON=python3.13 VENV=.venv-3.13    another interpreter, in an environment of its own
#   make run ARGS="--port 8001"                    ARGS is passed to the command of the target

PYTHON  ?= python3
VENV    ?= .venv
CONFIG  ?= config.toml
JOBS    ?= 3
UPGRADE ?= --upgrade
UV      := uv==0.13.9
PEX     := pex==2.105.2
SBOM    := cyclonedx-bom==7.5.0
DIST    := dist
TOOLS   := .venv-tools
# What hatchling uses for the times in archives.
EPOCH   := 1580601600

BIN     := $(VENV)/bin
NEWEST  := .venv-aiohttp
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

empty :=
space := $(empty) $(empty)

# pip installs with one line of progress. On a terminal the line is updated for each package;
# otherwise only the result is printed. Messages other than progress, such as errors, are passed on.
define install
@{ $(BIN)/python -m pip install --progress-bar off $(1) 2>&1; echo "exit $$?"; } | { \
	count=0; [ -t 1 ] && live=1 || live=; \
	while IFS= read -r line; do case $$line in \
		"exit "*) exit "$${line#exit }" ;; \
		Collecting*) count=$$((count + 1)); [ -z "$$live" ] || printf '\r  %d packages fetched' $$count ;; \
		Installing*) printf "$${live:+\r}  %d packages fetched, installing\n" $$count ;; \
		Looking*|Obtaining*|Processing*|Preparing*|Building*|Created*|Stored*|Success*|" "*|"") ;; \
		Requirement*|Using*|Downloading*|Found*|Attempting*|Uninstalling*|Ignoring*) ;; \
		*) printf '%s\n' "$$line" ;; \
	esac; done; }
endef

define require_python
@$(PYTHON) -c '' 2>/dev/null || { echo "'$(PYTHON)' does not start: install Python 3.11 or newer, or name one, as in: make PYTHON=python3.13" >&2; exit 1; }
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "pexpolicy needs Python 3.11 or newer and '$(PYTHON)' is $$($(PYTHON) --version 2>&1): name a newer one, as in: make PYTHON=python3.13" >&2; exit 1; }
@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "'$(PYTHON)' cannot make virtual environments: install its venv module (Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
endef

.DEFAULT_GOAL := help
.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*/\1/p' Makefile)

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP) ## install everything into .venv, in the locked versions

$(STAMP): requirements.lock pyproject.toml $(addsuffix /pyproject.toml,$(PLUGINS))
	$(require_python)
	@test -e $@ || $(PYTHON) -m venv --clear $(VENV)
	@rm -f $@
	@echo "Installing $$(grep -c '==' requirements.lock) packages into $(VENV) (about a minute) ..."
	$(call install,--require-hashes -r requirements.lock)
	@echo "Installing pexpolicy and $(words $(PLUGINS)) packages of its own ..."
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation $(addprefix -e ./,. $(PLUGINS))
	@$(BIN)/python -m pip check >$(VENV)/check.log || { cat $(VENV)/check.log; echo "requirements.lock does not fit the dependencies in pyproject.toml: run make lock UPGRADE=" >&2; exit 1; }
	@touch $@

# The console ends with the server. One that cannot start, such as a second one, stops no server.
run: $(STAMP) ## serve config.toml on http://127.0.0.1:8000, and its console on http://127.0.0.1:9109
	@$(BIN)/pexpolicy console --config $(CONFIG) --login --with-parent \
		$(filter --admin-port=%,$(subst --admin-port ,--admin-port=,$(ARGS))) & \
	exec $(BIN)/pexpolicy serve --config $(CONFIG) $(ARGS)

# The tests run even if the linter fails, or a program is missing: then some of them are left out.
test: $(STAMP) ## format, lint, types, tests of core and plugins; all but experiments
	@failed=0; \
	$(BIN)/python -m tests.support.programs || true; \
	$(MAKE) --no-print-directory lint || failed=1; \
	$(MAKE) --no-print-directory pytest || failed=1; \
	exit $$failed

pytest: $(STAMP) ## tests only, such as ARGS=tests/chain; skipped tests with their reasons
	@$(ISOLATED) $(BIN)/python -m pytest -n $(JOBS) -rs $(or $(ARGS),--ignore=lab)

programs: $(STAMP) ## install the servers that tests start (needs root and apt; make test does it)
	@$(BIN)/python -m tests.support.programs

experiments: $(STAMP) ## each experiment in a short version; also part of .ci/run
	@$(ISOLATED) $(BIN)/python -m pytest -n $(JOBS) -rs lab $(ARGS)

# The environment is separate, as it does not match the lock.
test-aiohttp: ## the server's tests with the newest aiohttp, and with its pre-release
	@$(MAKE) --no-print-directory setup VENV=$(NEWEST)
	@failed=0; for pre in "" --pre; do \
		$(NEWEST)/bin/python -m pip install --quiet --upgrade $$pre 'aiohttp<4' || exit 1; \
		echo "aiohttp $$($(NEWEST)/bin/python -c 'import aiohttp; print(aiohttp.__version__)'):"; \
		$(ISOLATED) $(NEWEST)/bin/python -m pytest -n $(JOBS) tests/server $(ARGS) || failed=1; \
	done; exit $$failed

lint: $(STAMP) ## format, lint and types only
	@failed=0; \
	$(BIN)/ruff format --check --output-format concise . || failed=1; \
	$(BIN)/ruff check . || failed=1; \
	MYPYPATH=$(subst $(space),:,$(strip $(SOURCES))) $(BIN)/mypy $(CHECKED) || failed=1; \
	exit $$failed

fix: $(STAMP) ## format the code and apply the linter's fixes
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

# Plugins depend on pexpolicy, and some on pexpolicy-sources, which are not on an index: the override
# names their folders, and the locks omit them. The locks in deploy/ are the subsets of the first one that an installation and its
# build need.
lock: ## renew the locks to the newest versions (UPGRADE= adds only what is missing)
	$(require_python)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet $(UV)
	@printf 'pexpolicy @ .\npexpolicy-sources @ ./plugins/sources\n' > $(VENV)/here.txt
	@$(COMPILE) $(UPGRADE) $(INSTALLED) --extra author --extra tracing --extra oidc --group dev -o requirements.lock
	@$(COMPILE) $(INSTALLED) -c requirements.lock -o deploy/requirements.lock
	@$(COMPILE) --group build -c requirements.lock -o deploy/build.lock
	@$(COMPILE) $(UPGRADE) --group compiled -c requirements.lock -o tests/support/compiled.lock
	@$(COMPILE) $(UPGRADE) bench/peers/requirements.in -o bench/peers/requirements.lock
	@$(COMPILE) $(UPGRADE) docs/site-requirements.in -o docs/site-requirements.lock

COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command "make lock"
INSTALLED = pyproject.toml $(addsuffix /pyproject.toml,$(PLUGINS)) --extra speed \
	--override $(VENV)/here.txt --no-emit-package pexpolicy \
	--no-emit-package pexpolicy-sources

reference: $(STAMP) ## write the pages of docs/ that come from the code, and the manual page
	@$(BIN)/python -m docs.generate_reference
	@$(BIN)/python -m docs.generate_settings
	@$(BIN)/python -m docs.generate_metrics
	@$(BIN)/python -m docs.generate_audit
	@$(BIN)/python -m docs.generate_findings
	@$(BIN)/python -m docs.generate_man_page

# The generator is as large as everything else together, so it has an environment of its own.
$(SITE)/.installed: docs/site-requirements.lock
	$(require_python)
	@$(PYTHON) -m venv --clear $(SITE)
	@$(SITE)/bin/python -m pip install --quiet --require-hashes -r $<
	@touch $@

site: $(SITE)/.installed ## build the documentation site in build/site/html; warnings are errors
	@$(PYTHON) docs/build_site.py build/site/pages
	@$(SITE)/bin/zensical build --clean --strict

prove-site: site $(STAMP) ## the built site in Chromium: accessibility, weight, tasks, links
	@$(ISOLATED) $(BIN)/python -m pytest -q lab/documentation_site.py $(ARGS)

bench: $(STAMP) ## measure the server against a bare aiohttp program (Linux, needs wrk)
	@$(BIN)/python -m bench $(ARGS)

soak: $(STAMP) ## two million mixed calls: growth of memory, descriptors, threads, p99
	@$(BIN)/python -m bench.soak $(ARGS)

fuzz: $(STAMP) ## a million malformed requests, generated decisions, and foreign replies
	@$(ISOLATED) $(BIN)/python -m lab.fuzz $(ARGS)
	@$(ISOLATED) $(BIN)/python -m lab.generated_decisions
	@$(ISOLATED) $(BIN)/python -m lab.foreign_replies

chaos-upstreams: $(STAMP) ## broken policy servers as upstreams of a server under load
	@$(ISOLATED) $(BIN)/python -m lab.upstreams $(ARGS)

chaos: $(STAMP) ## 136 misbehaving plugins, each in a server under load
	@$(ISOLATED) $(BIN)/python -m lab.chaos $(ARGS)

guards: $(STAMP) ## restart, kill and freeze servers behind HAProxy and NGINX
	@$(ISOLATED) $(BIN)/python -m lab.load_balancers $(ARGS)

reloads: $(STAMP) ## a thousand reloads under load, broken files, killed workers
	@$(ISOLATED) $(BIN)/python -m lab.reloads $(ARGS)

chaos-access: $(STAMP) ## floods, slow clients, certificate renewals, guessed passwords while nodes call
	@$(ISOLATED) $(BIN)/python -m lab.chaos.access $(ARGS)

floods: $(STAMP) ## bodies, endless heads and refusals at ten times the attackers, in one table; 8 minutes
	@$(ISOLATED) $(BIN)/python -m lab.chaos.access.floods $(ARGS)

chaos-audit: $(STAMP) ## kill, full disk, delete, rotate, stall: no audit line may be lost
	@$(ISOLATED) $(BIN)/python -m lab.chaos.audit $(ARGS)

chaos-webhook: $(STAMP) ## a million calls while the receiver of the plugin webhook is killed, frozen and slow
	@$(ISOLATED) $(BIN)/python -m lab.webhook $(ARGS)

chaos-sources: $(STAMP) ## PostgreSQL, slapd and a web server frozen and killed under load; 500 reloads
	@$(ISOLATED) $(BIN)/python -m lab.sources $(ARGS)
	@$(ISOLATED) $(BIN)/python -m lab.sources.failures

database-rooms: $(STAMP) ## a million rooms in PostgreSQL by key, and 100,000 as a snapshot
	@$(ISOLATED) $(BIN)/python -m lab.database_rooms $(ARGS)

company: $(STAMP) ## examples/company at its full size: servers, data, check and conformance
	@$(ISOLATED) $(BIN)/python -m examples.company.start --check $(ARGS)

replays: $(STAMP) ## 10,000 pairs of answers of generated configurations, and what a replay says of them
	@$(ISOLATED) $(BIN)/python -m lab.replays $(ARGS)

console-index: $(STAMP) ## the console's index of ten million audit lines; a hundred kills while it is built
	@$(ISOLATED) $(BIN)/python -m lab.console_index $(ARGS)

replay-speed: $(STAMP) ## the time and memory of a replay of 1,000,000 records
	@$(BIN)/python -m lab.replays.speed $(ARGS)

console-load: $(STAMP) ## 2,000 calls a second in turns with a live page of the console and without
	@$(ISOLATED) $(BIN)/python -m lab.console_load $(ARGS)

phone-book: $(STAMP) ## search in a phone book of 100,000 entries
	@$(ISOLATED) $(BIN)/python -m lab.phone_book

pictures: $(STAMP) ## the plugin avatars: 100,000 traversals, cached pictures a second, a frozen web server
	@$(ISOLATED) $(BIN)/python -m lab.pictures $(ARGS)

patterns: $(STAMP) ## a thousand regular expressions known to be slow, against long aliases
	@$(ISOLATED) $(BIN)/python -m pytest -q -m heavy tests/matching $(ARGS)

log-lines: $(STAMP) ## a plugin that writes a million log lines at full load, to readers of every kind
	@$(ISOLATED) $(BIN)/python -m lab.log_lines $(ARGS)

screenshots: $(STAMP) ## pictures of each page of the console in build/screenshots, and those of the documentation
	@$(ISOLATED) $(BIN)/python -m docs.take_screenshots

console-attacks: $(STAMP) ## 5,000 hostile texts, other sites, planted sessions, guesses and floods against the console
	@$(ISOLATED) $(BIN)/python -m lab.console_attacks $(ARGS)

walks: $(STAMP) ## count the parts of the package that a call, a reload, a plugin and explain pass
	@$(ISOLATED) $(BIN)/python -m lab.walks $(ARGS)

openapi: $(STAMP) ## schemathesis: thousands of requests from the OpenAPI description, and their replies
	@$(ISOLATED) $(BIN)/python -m lab.openapi $(ARGS)

version: ## set VERSION=0.2.0 everywhere, and give the change log a heading
	@$(PYTHON) deploy/set_version.py $(VERSION)

dist: $(STAMP) ## wheels and source archives of core, plugins and console, the same bytes each time
	@rm -rf $(DIST) && mkdir -p $(DIST)
	@for package in . $(PLUGINS); do \
		$(BIN)/python -m build --no-isolation --outdir $(DIST) $$package >$(VENV)/build.log 2>&1 \
			|| { tail -20 $(VENV)/build.log; exit 1; }; \
	done
	@cd $(DIST) && sha256sum *.whl *.tar.gz >SHA256SUMS && wc -l <SHA256SUMS | xargs printf '%s files in $(DIST), see SHA256SUMS\n'

wheelhouse: dist ## everything for an installation without a network, for this system and Python
	@rm -rf $(DIST)/wheelhouse
	@$(BIN)/python -m pip download --quiet --require-hashes --only-binary :all: --dest $(DIST)/wheelhouse -r deploy/requirements.lock
	@cp $(DIST)/*.whl $(DIST)/wheelhouse
	@echo "pip install --no-index --find-links $(DIST)/wheelhouse 'pexpolicy[all]'"

single-file: wheelhouse ## one executable file for machines without pip
	@test -x $(TOOLS)/bin/pex || { $(PYTHON) -m venv $(TOOLS) && $(TOOLS)/bin/python -m pip install --quiet $(PEX); }
	@SOURCE_DATE_EPOCH=$(EPOCH) $(TOOLS)/bin/pex --no-pypi --find-links $(DIST)/wheelhouse 'pexpolicy[all]' \
		--console-script pexpolicy --venv prepend --python $(abspath $(BIN)/python) \
		--no-compile --no-use-system-time --output-file $(DIST)/pexpolicy.pex
	@ls -sh $(DIST)/pexpolicy.pex

sbom: ## the packages of the image as CycloneDX, from an environment made as the image's
	@test -x $(TOOLS)/bin/cyclonedx-py || { $(PYTHON) -m venv $(TOOLS) && $(TOOLS)/bin/python -m pip install --quiet $(SBOM); }
	@PYTHON=$(PYTHON) deploy/install dependencies build/image && deploy/install packages build/image
	@mkdir -p $(DIST)
	@$(TOOLS)/bin/cyclonedx-py environment --output-reproducible --of JSON -o $(DIST)/pexpolicy.cdx.json build/image/bin/python

prove-packages: wheelhouse sbom ## build twice, install all and each without a network, upgrade, SBOM; 3.11, 3.13, 3.14
	@$(ISOLATED) $(BIN)/python -m lab.packages $(ARGS)
	@$(ISOLATED) $(BIN)/python -m lab.plugin_wheels

prove-image: ## run the Dockerfile's steps without Docker, then serve and check health
	$(require_python)
	@PYTHON=$(PYTHON) $(PYTHON) deploy/prove_image.py

clean: ## remove environments, caches and build results
	rm -rf $(VENV) .venv-* .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
