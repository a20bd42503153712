# Each target makes the environment that it needs where it is missing; Python 3.11 to 3.13 and make are all it takes.
PYTHON ?= python3
CONSTRAINTS := .ci/constraints.txt
BIN := .venv/bin
# A process for each core, with one thread each.
PYTEST := -m pytest -n auto
test test-services cov test-bare test-lowest: export OMP_NUM_THREADS := 1
comma := ,

.PHONY: install demo test test-services check audit-dependencies cov docs test-bare test-lowest test-wheel

# $(call environment,folder,extras,constraints): torch first, so that nothing else decides its build
define environment
	test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
	$(1)/bin/python -m pip install --quiet --constraint $(3) torch
	$(1)/bin/python -m pip install --quiet --constraint $(3) --editable ".[$(2)]"
	touch $(1)/.installed
endef

.venv/.installed: pyproject.toml $(CONSTRAINTS)
	$(call environment,.venv,dev$(comma)dicom$(comma)dicom-results$(comma)export,$(CONSTRAINTS))

.venv-bare/.installed: pyproject.toml $(CONSTRAINTS)
	$(call environment,.venv-bare,dev,$(CONSTRAINTS))

.venv-lowest/.installed: pyproject.toml .ci/constraints-lowest.txt
	$(call environment,.venv-lowest,dev$(comma)dicom,.ci/constraints-lowest.txt)

install: .venv/.installed

demo: install
	$(BIN)/cxr-isnet demo

test: install
	$(BIN)/python $(PYTEST)

# The tests that start real servers on loopback and build environments of their own; what they need of Debian is installed where it is missing.
SERVICES := orthanc orthanc-dicomweb dcmtk dicom3tools postgresql default-jre-headless

.venv/.installed-services: .venv/.installed
	dpkg -s $(SERVICES) > /dev/null 2>&1 || (apt-get update && apt-get install --yes --no-install-recommends $(SERVICES))
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) --editable ".[ray,services]"
	touch $@

test-services: .venv/.installed-services
	$(BIN)/python -m pytest -m services

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/bandit --quiet --recursive --severity-level medium --configfile pyproject.toml cxr_isnet

# Known vulnerabilities of the installed packages; asks PyPI, which not every machine reaches.
audit-dependencies: install
	$(BIN)/python -m pip install --quiet pip-audit
	$(BIN)/pip-audit --progress-spinner off

# The tests of `make test` with the share of lines and branches that they run; the floor is in pyproject.toml.
cov: install
	$(BIN)/python $(PYTEST) --cov

.venv/.installed-docs: .venv/.installed
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) --editable ".[docs]"
	touch $@

docs: .venv/.installed-docs
	$(BIN)/mkdocs build --strict

# Without the optional decoders of the extra `dicom`.
test-bare: .venv-bare/.installed
	.venv-bare/bin/python $(PYTEST)

# With the lowest versions that pyproject.toml allows; torch is the CPU build that the other environments have.
test-lowest: .venv-lowest/.installed
	.venv-lowest/bin/python $(PYTEST)

# The wheel in an empty environment and an empty folder, as a newcomer has it.
test-wheel:
	PYTHON=$(PYTHON) .ci/test-wheel
