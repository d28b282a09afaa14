# `make demo` and `make test` set up .venv first, need no activated environment, and can be repeated.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python -m
INSTALL := $(RUN) pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help set-up set-up-tests demo test test-slow prove bench check docs gate gate-speed wheel wheels clean

help:
	@echo "make demo      set up, run the suite quickstart and show its table"
	@echo "make test      set up, run the fast tests"
	@echo "make test-slow set up, run the slow tests"
	@echo "make prove     set up, kill commands and put faults into the code, for hours; runs nightly"
	@echo "make bench     set up, time the parts of fedbench"
	@echo "make gate      set up, check that quickstart gives what its baseline says"
	@echo "make gate-speed AGAINST=REV  set up, check that the code is not slower than that revision"
	@echo "make check     set up, run the linters and the type checker"
	@echo "make docs      set up, build the site into site/"
	@echo "make wheel     build the wheel of this machine into dist/"
	@echo "make wheels    build the wheels of all platforms into dist/"
	@echo "make clean     remove .venv and what was built"

set-up: $(VENV)/.installed

set-up-tests: $(VENV)/.installed-dev

demo: $(VENV)/.installed
	@$(RUN) fedbench run quickstart
	@echo
	@echo "Next:"
	@echo "  $(VENV)/bin/fedbench ui quickstart           compare the runs in the MLflow UI"
	@echo "  $(VENV)/bin/fedbench report quickstart       the same on one page to explore and send"
	@echo "  $(VENV)/bin/fedbench tune quickstart         search local epochs and learning rate, test the answer"
	@echo "  $(VENV)/bin/fedbench data fetch mnist        download the full MNIST, then"
	@echo "  $(VENV)/bin/fedbench run client-grid-mnist   the study's table: clients x images per client"
	@echo "  $(VENV)/bin/fedbench suites                  see all suites"

test: $(VENV)/.installed-dev
	@$(RUN) pytest -n auto --dist loadfile -m "not slow" $(PYTEST_ARGS)

test-slow: $(VENV)/.installed-dev
	@$(RUN) pytest -n auto --dist loadfile -m "slow and not nightly" $(PYTEST_ARGS)

# What takes long and repeats the point of a fast test: kills at random moments, many runs, every fault, long fuzzing.
ENDURANCE := $(VENV)/bin/python tests/endurance
PROVE := build/prove
prove: $(VENV)/.installed-dev
	rm -rf $(PROVE) && mkdir -p $(PROVE)
	FUZZ_SECONDS=600 $(RUN) pytest -n auto -m hypothesis --hypothesis-profile=long
	$(RUN) pytest -m nightly
	$(ENDURANCE)/kill_quickstart.py --kills 30 --folder $(PROVE)/quickstart
	$(ENDURANCE)/kill_tuning.py --kills 10 --folder $(PROVE)/tuning
	$(ENDURANCE)/many_writers.py --processes 4 --runs 500 --folder $(PROVE)/writers
	$(ENDURANCE)/many_runs.py --runs 1000 --folder $(PROVE)/runs
	$(ENDURANCE)/cluster_faults.py --faults 12 --folder $(PROVE)/cluster
	$(VENV)/bin/python tests/faults/prove.py --repeats 5 --folder $(PROVE)/faults
	$(VENV)/bin/python tests/faults/prove.py --repeats 5 --other-environment --folder $(PROVE)/elsewhere
	$(VENV)/bin/python tests/faults/prove.py --repeats 1 --speed --folder $(PROVE)/speed

bench: $(VENV)/.installed-dev
	@$(RUN) fedbench bench

check: $(VENV)/.installed-dev
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@$(RUN) mypy
	@PYTHONPATH=. $(VENV)/bin/lint-imports --no-logo --no-cache
	@$(RUN) check_jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@$(RUN) check_jsonschema --quiet --builtin-schema vendor.github-actions action.yml .github/actions/*/action.yml
	@$(RUN) check_jsonschema --quiet --builtin-schema vendor.compose-spec docker/compose.yaml
	@$(RUN) check_jsonschema --quiet --schemafile suites/schema.json suites/*.yaml
	@$(VENV)/bin/hadolint docker/Dockerfile
	@$(VENV)/bin/shellcheck docker/*.sh .ci/run

# Needs no network: nothing in the site comes from another host.
docs: $(VENV)/.installed-dev
	@NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs build --strict --quiet
	@! grep -rE ' src="https?:|stylesheet" href="https?:' site --include='*.html'
	@echo "site/ is built; to read it: $(VENV)/bin/python -m http.server --directory site"

gate: $(VENV)/.installed
	@$(RUN) fedbench check quickstart $(GATE_ARGS)

gate-speed: $(VENV)/.installed-dev
	@$(RUN) fedbench check --speed --against "$(AGAINST)" $(GATE_ARGS)

wheel: $(VENV)/.installed-dev
	@$(RUN) build --wheel

# One for each platform, all compiled here; see hatch_build.py.
wheels: $(VENV)/.installed-dev
	@for target in linux-x86_64 linux-aarch64 macos-arm64; do FEDBENCH_BUILD_TARGET=$$target $(RUN) build --wheel || exit; done

clean:
	rm -rf $(VENV) build dist site .pytest_cache .mypy_cache .ruff_cache fedbench/kernels/*.so

# A stamp is written last, so an interrupted installation is repeated. What the tests need includes what users need.
define set-up
@test -e $(VENV)/.installed || echo "Setting up $(VENV) (PyTorch is large; this happens once)"
@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
endef

$(VENV)/.installed: pyproject.toml constraints.txt
	$(set-up)
	@$(INSTALL) --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt
	$(set-up)
	@$(INSTALL) --editable ".[dev]"
	@touch $(VENV)/.installed $@
