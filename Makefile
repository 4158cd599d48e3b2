# make train                    sample clips -> corpus -> two streams -> fusion -> report
# make train VIDEOS=dir         the same on your own folder of class folders
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

VIDEOS ?=
LISTS ?=
OUT ?= $(if $(VIDEOS),out/videos/$(notdir $(VIDEOS:%/=%)),out)
SPLIT ?= 1
WEIGHTS ?=
TRAIN ?=
# Sample clips are small and stored as they are; other videos get the usual short side of 256 pixels.
RECIPE ?= $(if $(VIDEOS),pipelines/ucf101/small,pipelines/demo)
EXTRACT ?= $(if $(VIDEOS),,--size source)

.DEFAULT_GOAL := help
.PHONY: help setup extract train test test-faults soak lint bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile
	@echo
	@echo "  VIDEOS=dir   class folders of videos (without it: sample clips are written)"
	@echo "  LISTS=dir    classInd.txt, trainlist01.txt, testlist01.txt (without it: a split is made)"
	@echo "  RECIPE=dir   spatial.toml and temporal.toml (now: $(RECIPE))"
	@echo "  SPLIT=n      which of the lists' splits (now: $(SPLIT)); trainer scores gives the mean of several"
	@echo "  WEIGHTS=file what the spatial network starts from; TRAIN=... options for trainer train"
	@echo "  OUT=dir      where everything goes (now: $(OUT))"

setup: $(VENV)/.installed ## make .venv and install flowprep and trainer into it

$(VENV)/.installed: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[train,dev]'
	@touch $@

extract: setup ## extract VIDEOS, or sample clips, into OUT/corpus
	@PATH="$(CURDIR)/$(BIN):$$PATH" EXTRACT="$(EXTRACT)" pipelines/extract.sh "$(OUT)" "$(VIDEOS)"

train: extract ## extract, train both streams, fuse, and write OUT/report.html
	@PATH="$(CURDIR)/$(BIN):$$PATH" SPLIT="$(SPLIT)" WEIGHTS="$(WEIGHTS)" TRAIN="$(TRAIN)" \
		pipelines/train.sh "$(OUT)" "$(RECIPE)" "$(LISTS)" "$(VIDEOS)"

test: setup ## run the tests
	$(BIN)/python -m pytest

test-faults: setup ## kill, fill, stop and starve runs, on this machine, Dask and Slurm (some minutes)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dask]'
	$(BIN)/python -m pytest tests/faults

soak: setup ## extract for 20 minutes, and see that memory, files and threads do not grow
	$(BIN)/python tests/faults/soak.py

lint: setup ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup ## time the cpu engine against OpenCV, on VIDEOS' files or on sample clips
	$(BIN)/flowprep bench $(if $(VIDEOS),$$(find "$(VIDEOS)" -type f | sort | head -n 6))

clean: ## remove .venv, caches and OUT
	rm -rf $(VENV) "$(OUT)" build *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
