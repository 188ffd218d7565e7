# EchoMotion: `make help` says what there is. Each target sets up what it needs in .venv.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test lab docs bench clean setup export readme

PYTHON ?=
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.echomotion-installed
OUT    ?= runs/demo
BENCH  ?= runs/bench.json
ARGS   ?=

help: ## this list
	@echo 'EchoMotion: from an ultrasound video of the heart to its ejection fraction.'
	@echo
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'
	@echo
	@echo '  OUT=runs/demo     where make demo leaves its results'
	@echo '  PYTHON=python3.12 which Python to build .venv from (3.10 or newer; else the newest found)'

# One environment serves every target: the development pins are the extra "dev" of setup.py, so they never
# reach somebody who installs the package with pip.
$(STAMP): settings.ini setup.py scripts/setup_env.sh
	@PYTHON='$(PYTHON)' bash scripts/setup_env.sh $(VENV)
	@touch $@

setup: $(STAMP) ## the environment alone

demo: $(STAMP) ## simulate clips, train, measure EF, write the report (about 10 minutes)
	@$(BIN)/echomotion demo --out '$(OUT)' $(ARGS)

test: $(STAMP) ## notebooks clean and in step, every notebook run, then the other tests
	@$(BIN)/python -m pytest -v $(ARGS)

lab: $(STAMP) ## open the notebooks in JupyterLab
	@$(BIN)/jupyter lab $(if $(ARGS),$(ARGS),--notebook-dir=nbs nbs/index.ipynb)

docs: $(STAMP) ## build the site into _docs (needs Quarto)
	@command -v quarto >/dev/null || { \
	  echo 'The site is built by Quarto, a program of its own, which was not found.'; \
	  echo 'Get it from https://quarto.org/docs/get-started/ (version 1.5 or newer), then: make docs'; exit 1; }
	@$(BIN)/nbdev_docs
	@$(BIN)/python scripts/readme.py
	@$(BIN)/python scripts/check_links.py _docs
	@echo 'The site: _docs/index.html'

bench: $(STAMP) ## speed of clip to EF, live, training, phantom and archive, as a table and JSON
	@$(BIN)/echomotion bench --out '$(BENCH)' $(ARGS)

export: $(STAMP) ## after editing notebooks: clean them, write the library and the README
	@$(BIN)/nbdev_clean && $(BIN)/python scripts/clear_answers.py && $(BIN)/nbdev_export && $(BIN)/python scripts/readme.py

clean: ## remove the environment and what was built; runs/ stays
	@rm -rf $(VENV) _proc _docs build dist *.egg-info .pytest_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
