# Every way in. Each target installs what it needs; `make help` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
PYTHON := $(VENV)/bin/python
UV := $(VENV)/bin/uv
PACKAGES := contract/src operator/src adapter/src engine/src tests/harness/src tools
TIER ?=
ONLY ?=
CLUSTER ?= local

# Where rustup and Go install themselves, for shells that don't know it.
export PATH := $(PATH):$(HOME)/.cargo/bin:/usr/local/go/bin
export VIRTUAL_ENV := $(CURDIR)/$(VENV)
export PYTHONDONTWRITEBYTECODE := 1

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-22s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(VENV)/.packages: requirements/bootstrap.txt requirements/dev.txt tools/develop.py
	@bash tools/bootstrap.sh $(VENV)
	@$(UV) pip sync --quiet --compile-bytecode --require-hashes requirements/dev.txt
	@$(PYTHON) tools/develop.py
	@touch $@

.PHONY: environment
environment: $(VENV)/.packages

.PHONY: native
native: environment ## build the Rust module (cached by its inputs)
	@$(PYTHON) tools/native.py

.PHONY: setup
setup: environment native ## install everything the other targets need from Python and Rust

.PHONY: test
test: setup ## run the tests of all tiers (TIER=unit|controlplane|kafka|cluster for one)
	@$(PYTHON) tools/tiers.py $(if $(TIER),--tier $(TIER))

.PHONY: demo
demo: setup ## the main job on a real Kubernetes and a real Kafka (CLUSTER=current uses your kubeconfig's)
	@$(PYTHON) -m eventengine_harness.demo --cluster $(CLUSTER)

.PHONY: soak
soak: setup ## what takes tens of minutes by its nature, such as the article's slow scale-down
	@$(PYTHON) -m pytest tests/cluster -m soak -s

.PHONY: chaos
chaos: setup ## break things on purpose, in the long form (ONLY=name for one group, SEED=n to repeat a run)
	@$(PYTHON) tools/chaos.py $(if $(ONLY),--only $(ONLY)) $(if $(SEED),--seed $(SEED))

.PHONY: bench
bench: setup ## measure against targets and peers, in short forms (ONLY=name: the long form of one group)
	@$(PYTHON) tests/benchmarks/run.py $(if $(ONLY),--only $(ONLY) --long)

.PHONY: fuzz
fuzz: environment ## fuzz the parsers against serde_json (ONLY=target SECONDS_EACH=600; KEEP=1 grows the kept corpus)
	@$(PYTHON) tools/fuzz.py --seconds $(or $(SECONDS_EACH),600) $(if $(ONLY),--target $(ONLY)) $(if $(KEEP),--keep)

.PHONY: memcheck
memcheck: environment ## run the core's own tests under valgrind: no read or write where there is nothing to read or write
	@command -v valgrind > /dev/null || { echo "make memcheck needs valgrind: apt-get install valgrind" >&2; exit 1; }
	@EVENTENGINE_MEMCHECK=1 PROPTEST_CASES=4 SEED=1 STEPS=200 $(PYTHON) tools/cargo.py test --locked --quiet \
		--config "target.'cfg(unix)'.runner = 'valgrind --quiet --error-exitcode=9 --fair-sched=yes'" \
		--package eventengine-core
	@echo "memcheck: $$(valgrind --version) found nothing in the tests above (it knows no AVX-512: make fuzz does)"

.PHONY: simulate
simulate: environment ## repeat one run of the core's simulation, and print what happened in it (SEED=n STEPS=m)
	@SEED=$(or $(SEED),1) STEPS=$(or $(STEPS),200000) $(PYTHON) tools/cargo.py test --locked --quiet \
		--package eventengine-core --test simulation -- --nocapture

.PHONY: verify
verify: setup ## check format, lint, types, imports, generated files, the tree
	@$(PYTHON) tools/verify.py

.PHONY: update
update: setup ## do what verify asks for: format, fix, generate
	@$(PYTHON) tools/verify.py --update

.PHONY: update-requirements
update-requirements: environment ## lock the Python dependencies again, with hashes
	@bash tools/lock-requirements.sh $(UV)

.PHONY: clean
clean: ## remove what the targets made in this checkout (the user's cache stays)
	@rm -rf $(VENV) build engine/target engine/src/eventengine/_native.abi3.so
