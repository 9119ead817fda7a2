# Targets of the project; `make` alone lists them. PYTHON picks the interpreter: make test PYTHON=python3.12
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
IMAGE ?= cohere-finetune-exporter
BUILDER ?= $(notdir $(shell for name in podman docker buildah; do command -v $$name && break; done))

# Containers often set it; each program that a test starts would then compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast test-programs test-kubernetes nightly lint audit fuzz soak docs dashboards rules rules-check image manifests links release site bench bench-docs lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

demo: $(VENV)/.runtime ## serve /metrics on :10220 from the simulated API; ARGS adds flags
	@exec $(BIN)/python -m exporter demo $(ARGS)

test: lint ## lint, then run every test; ARGS adds pytest's flags
	$(BIN)/python -m pytest $(ARGS)

nightly: $(VENV)/.dev ## live through thousands of random worlds, and what else `make test` leaves out; ARGS adds flags
	NIGHTLY=1 $(BIN)/python -m pytest tests/test_polling_properties.py tests/test_soak.py tests/test_benchmarks.py \
	    --hypothesis-profile=nightly -n auto --dist worksteal $(ARGS)

test-programs: $(VENV)/.dev ## run what other programs take part in, nightly tests included; write docs/compatibility.md
	NIGHTLY=1 $(BIN)/python -m pytest -p tests.compatibility -m programs $(ARGS)
	$(BIN)/python -m docs.generate

test-kubernetes: $(VENV)/.dev ## apply manifests and chart to real Kubernetes API servers (wants tools/programs/build.sh kubernetes)
	NIGHTLY=1 $(BIN)/python -m pytest tests/test_apiserver.py $(ARGS)

test-fast: $(VENV)/.dev ## the tests of the core alone: no other process, two files at a time; ARGS adds pytest's flags
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow" --hypothesis-profile=fast $(ARGS)

lint: $(VENV)/.dev ## formatting, lint rules, types, import directions
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

audit: $(VENV)/.audit ## known vulnerabilities of what is locked, and bandit's findings; asks the network
	@$(BIN)/python -m tests.audit

fuzz: SECONDS ?= 60
fuzz: $(VENV)/.fuzz ## fuzz what reads foreign bytes, each reader for SECONDS (60); ARGS names some
	$(BIN)/python -m tools.fuzz --seconds $(SECONDS) $(ARGS)

soak: $(VENV)/.runtime ## live through a month of faults and clients in minutes; ARGS adds flags
	$(BIN)/python -m tools.soak $(ARGS)

docs: $(VENV)/.dev ## write docs/metrics.md, docs/configuration.md and the tables of docs/calls.md from the code
	$(BIN)/python -m docs.generate

dashboards: $(VENV)/.dev ## write grafana/dashboards and their copies in the manifests from the code, and test them
	$(BIN)/python -m grafana.generate
	$(BIN)/python -m deploy.generate
	$(BIN)/python -m pytest tests/test_dashboards.py tests/test_dashboards_accounts.py tests/test_dashboards_queries.py tests/test_dashboards_values.py $(ARGS)

rules: $(VENV)/.dev ## write the Prometheus rules, their copies and the index of the runbooks from their tables
	$(BIN)/python -m deploy.generate
	$(BIN)/python -m grafana.generate # which takes an alert's rule
	$(BIN)/python -m deploy.generate

rules-check: $(VENV)/.dev ## prove the rules alone: promtool, runbooks, alerts end to end
	$(BIN)/python -m pytest tests/test_rules.py tests/test_alerting_end_to_end.py $(ARGS)

image: VERSION ?= $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' exporter/__init__.py)
image: REVISION ?= $(shell git describe --always --abbrev=40 --dirty --exclude='*' 2>/dev/null || echo unknown)
image: SOURCE ?= $(shell sed -n '/^\[project.urls\]/,/^$$/s/^Source *= *"\([^"]*\)".*/\1/p' pyproject.toml)
image: BASE ?= $(shell sed -n 's/^ARG PYTHON_IMAGE=//p' deploy/docker/Dockerfile)
image: BASE_DIGEST ?= $(word 2,$(subst @, ,$(BASE)))
image: CREATED ?= $(shell git show --no-patch --format=%cI 2>/dev/null)
image: ## build the container image with podman, docker or buildah; ARGS adds flags
	@[ -n "$(BUILDER)" ] || { echo "needs podman, docker or buildah" >&2; exit 1; }
	$(BUILDER) build --file deploy/docker/Dockerfile --tag $(IMAGE):$(VERSION) --build-arg VERSION=$(VERSION) \
	    --build-arg REVISION=$(REVISION) --build-arg CREATED=$(CREATED) --build-arg SOURCE=$(SOURCE) \
	    --build-arg PYTHON_IMAGE=$(BASE) --build-arg BASE_DIGEST=$(BASE_DIGEST) $(ARGS) .

manifests: $(VENV)/.dev ## write what is made in the manifests and the chart, render and check them all
	$(BIN)/python -m deploy.generate
	$(BIN)/python -m pytest tests/test_kubernetes.py tests/test_helm.py $(ARGS)

links: $(VENV)/.dev ## write the addresses in [project.urls] of pyproject.toml to where else they belong
	$(BIN)/python -m tools.links
	$(BIN)/python -m deploy.generate

release: $(VENV)/.release ## build sdist, wheel, image, chart, SBOM and checksums into dist/; RELEASE names some, TAG must match
	$(BIN)/python -m tools.release $(if $(TAG),--tag $(TAG)) $(RELEASE)

site: $(VENV)/.site ## build the documentation as a site into site/; fails on a broken link
	$(BIN)/python -m tools.site
	$(BIN)/zensical build --strict --clean

bench: $(VENV)/.runtime ## measure scrapes, polls, memory beside nginx and others (wants wrk, nginx, node_exporter); ARGS names some
	@$(BIN)/python -m tools.benchmarks $(ARGS)

bench-docs: $(VENV)/.runtime ## the same, and write docs/benchmarks.md and its charts
	@$(BIN)/python -m tools.benchmarks --write

lock: $(VENV)/.dev ## resolve the dependencies anew (needs uv)
	uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --upgrade \
	    --no-emit-index-url --no-header --quiet --output-file requirements.lock
	uv pip compile pyproject.toml --group dev --constraint requirements.lock --universal --python-version 3.11 \
	    --generate-hashes --upgrade --no-emit-index-url --no-header --quiet --output-file requirements-dev.lock
	uv pip compile pyproject.toml --group audit --constraint requirements-dev.lock --universal --python-version 3.11 \
	    --generate-hashes --upgrade --no-emit-index-url --no-header --quiet --output-file requirements-audit.lock
	uv pip compile pyproject.toml --group fuzz --constraint requirements.lock --universal --python-version 3.11 \
	    --generate-hashes --upgrade --no-emit-index-url --no-header --quiet --output-file requirements-fuzz.lock
	uv pip compile pyproject.toml --group release --constraint requirements-dev.lock --universal --python-version 3.11 \
	    --generate-hashes --upgrade --no-emit-index-url --no-header --quiet --output-file requirements-release.lock
	uv pip compile pyproject.toml --group site --constraint requirements-dev.lock --universal --python-version 3.11 \
	    --generate-hashes --upgrade --no-emit-index-url --no-header --quiet --output-file requirements-site.lock

clean: ## remove the virtual environment and what tools left behind
	rm -rf $(VENV) build dist site .cache *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# An environment whose pip does not work, as an interrupted or failed creation leaves it, is made anew.
$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "needs Python 3.11 or later: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	    { name=python$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv; \
	    echo "needs the package $$name: sudo apt install $$name" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || \
	    { echo "creating $(VENV) ..." && $(PYTHON) -m venv --clear $(VENV); } || { rm -rf $(VENV); exit 1; }
	@touch $@

$(VENV)/.runtime: requirements.lock | $(VENV)/.created
	$(PIP) install --require-hashes -r requirements.lock
	@touch $@

$(VENV)/.dev: requirements-dev.lock pyproject.toml | $(VENV)/.created
	$(PIP) install --require-hashes -r requirements-dev.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@ $(VENV)/.runtime

$(VENV)/.fuzz: requirements-fuzz.lock $(VENV)/.runtime
	$(PIP) install --require-hashes -r requirements-fuzz.lock
	@touch $@

$(VENV)/.release: requirements-release.lock $(VENV)/.dev
	$(PIP) install --require-hashes -r requirements-release.lock
	@touch $@

$(VENV)/.site: requirements-site.lock $(VENV)/.runtime
	$(PIP) install --require-hashes -r requirements-site.lock
	@touch $@

$(VENV)/.audit: requirements-audit.lock $(VENV)/.dev
	$(PIP) install --require-hashes -r requirements-audit.lock
	@touch $@
