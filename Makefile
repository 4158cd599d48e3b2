# make train                    sample clips -> corpus -> two streams -> fusion -> report
# make train VIDEOS=dir         the same on your own folder of class folders
PYTHON ?= python3
PYTHONS ?= python3.10 python3.11 python3.12 python3.13
VENV ?= .venv
BIN := $(VENV)/bin

VIDEOS ?=
LISTS ?=
OUT ?= $(if $(VIDEOS),out/videos/$(notdir $(VIDEOS:%/=%)),out)
SPLIT ?= 1
WEIGHTS ?=
TRAIN ?=
GROUPS ?=
FIT_FOLDS ?= 0
# Sample clips are small and stored as they are; other videos get the usual short side of 256 pixels.
RECIPE ?= $(if $(VIDEOS),pipelines/ucf101/small,pipelines/demo)
EXTRACT ?= $(if $(VIDEOS),,--size source)

.DEFAULT_GOAL := help
.PHONY: help setup extract train test test-slow test-all test-faults test-pythons soak lint docs dist bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile
	@echo
	@echo "  VIDEOS=dir   class folders of videos (without it: sample clips are written)"
	@echo "  LISTS=dir    classInd.txt, trainlist01.txt, testlist01.txt (without it: a split is made)"
	@echo "  RECIPE=dir   spatial.toml and temporal.toml (now: $(RECIPE))"
	@echo "  SPLIT=n      which of the lists' splits (now: $(SPLIT)); trainer scores gives the mean of several"
	@echo "  WEIGHTS=file what the spatial network starts from; TRAIN=... options for trainer train"
	@echo "  GROUPS=...   pattern of the group of a video, such as 'person([0-9]+)'; FIT_FOLDS=n fits the fusion on n folds"
	@echo "  OUT=dir      where everything goes (now: $(OUT))"

setup: $(VENV)/.installed ## make .venv and install flowprep and trainer into it

$(VENV)/.installed: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[train,dev]'
	@touch $@

extract: setup ## extract VIDEOS, or sample clips, into OUT/corpus
	@PATH="$(CURDIR)/$(BIN):$$PATH" EXTRACT="$(EXTRACT)" pipelines/extract.sh "$(OUT)" "$(VIDEOS)"

# The options are checked first: the packages and the extraction take minutes.
TRAIN_OPTIONS = SPLIT="$(SPLIT)" WEIGHTS="$(WEIGHTS)" TRAIN="$(TRAIN)" GROUPS_PATTERN='$(GROUPS)' FIT_FOLDS="$(FIT_FOLDS)"
TRAIN_ARGUMENTS = "$(OUT)" "$(RECIPE)" "$(LISTS)" "$(VIDEOS)"

train: ## extract, train both streams, fuse, and write OUT/report.html
	@$(TRAIN_OPTIONS) pipelines/train.sh --check $(TRAIN_ARGUMENTS)
	@$(MAKE) --no-print-directory extract
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(TRAIN_OPTIONS) pipelines/train.sh $(TRAIN_ARGUMENTS)

# Test modules go to one worker each, so that what a module's fixtures make is made once.
PYTEST := $(BIN)/python -m pytest -n auto --dist loadfile

test: setup ## run the quick tests in parallel (a few minutes)
	$(PYTEST) -m "not slow"
	@echo "left out: tests marked slow (make test-all), runs that are killed and starved (make test-faults)"

test-slow: setup ## run the tests that `make test` leaves out, but not the faults
	$(PYTEST) -m slow

test-all: setup ## run every test but the faults
	$(PYTEST)

test-faults: setup ## kill, fill, stop and starve runs, on this machine, Dask and Slurm (some minutes)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dask]'
	$(BIN)/python -m pytest tests/faults

test-pythons: ## run the quick tests on every Python from 3.10 to 3.13 that is found
	@for python in $(PYTHONS); do \
		version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || \
			{ echo "$$python: not found"; continue; }; \
		$(MAKE) test PYTHON=$$python VENV=.venv-$$version || exit 1; \
	done

soak: setup ## extract for 20 minutes; memory, open files and threads must not grow
	$(BIN)/python -m tests.faults.soak

lint: setup ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: setup ## build the documentation into site/
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

dist: setup ## build the sdist and the wheel into dist/
	$(BIN)/python -m build

bench: setup ## time the cpu engine against OpenCV, on VIDEOS' files or on sample clips
	$(BIN)/flowprep bench flow $(if $(VIDEOS),$$(find "$(VIDEOS)" -type f | sort | head -n 6))

clean: ## remove .venv, caches and OUT
	rm -rf $(VENV) .venv-3.* "$(OUT)" build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
