# Everything is installed into .venv once, and again when what describes the package has changed.
# Another Python: `make run PYTHON=python3.12`. Options of the main job: `make run ARGS="--env ALE/Pong-v5"`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: help run test check sync notebooks lab slow docs test-site test-wheel lowest bench bench-peers
help:         ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/run:  EXTRA =
$(VENV)/dev:  EXTRA = [dev]
$(VENV)/docs: EXTRA = [docs]
$(VENV)/run $(VENV)/dev $(VENV)/docs: settings.ini setup.py pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.$(EXTRA)'
	touch $@

run: $(VENV)/run           ## the whole story: a behavior policy, its batch, BCQ trained on it, the table, the curve, the video
	$(BIN)/bcq pipeline $(ARGS)

test: $(VENV)/dev          ## nbdev_test over every notebook, then tests/
	$(BIN)/pytest -n 2 --maxschedchunk 1 $(ARGS)

check: $(VENV)/dev         ## the fast ones: exports, README and notebooks in sync, short and in order, one notation, ruff, mypy
	$(BIN)/pytest tests/test_repository.py

sync: $(VENV)/dev          ## mend what `make check` complains of, as far as that can be done without you
	$(BIN)/ruff check --fix --exit-zero --quiet .
	$(BIN)/nbdev_export
	$(BIN)/python tools/nb.py maps
	$(BIN)/nbdev_clean
	$(BIN)/python tools/nb.py pictures
	$(BIN)/python tools/nb.py readme

notebooks: $(VENV)/dev     ## run every notebook again and store its outputs
	$(BIN)/python tools/nb.py run $(ARGS)

lab: $(VENV)/dev           ## the notebooks in JupyterLab
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,lab]'
	$(BIN)/jupyter lab nbs

slow: $(VENV)/dev          ## nbdev_test with the cells marked slow
	$(BIN)/nbdev_test --flags slow --n_workers 2 --timing

docs: $(VENV)/docs         ## the site, into _build/site
	rm -rf _build/site
	$(BIN)/sphinx-build -qEaW --keep-going -c docs -d _build/doctrees nbs _build/site

test-site: docs            ## every page of the site in headless Chromium
	$(BIN)/pytest -n 2 -m slow tests/test_site.py

test-wheel: $(VENV)/dev    ## the built package in an environment of its own, and every notebook with nothing else
	rm -rf dist _build/wheel
	$(BIN)/python -m build --quiet
	$(BIN)/twine check --strict dist/*
	$(PYTHON) -m venv _build/wheel
	_build/wheel/bin/pip install --quiet --constraint constraints.txt "$$(echo dist/*.whl)[data,minari,onnx,tensorboard]" nbclient ipykernel
	$(BIN)/pytest -n 2 --maxschedchunk 1 -m slow tests/test_wheel.py

lowest:                    ## the lowest versions that settings.ini allows, in an environment of their own: the command and its tests
	rm -rf _build/lowest
	$(PYTHON) -m venv _build/lowest
	sed -nE 's/^(data_)?requirements = //p' settings.ini | tr ' ' '\n' | sed 's/>=\([^;]*\)/==\1.*/' > _build/lowest/pins.txt
	_build/lowest/bin/pip install --quiet --requirement _build/lowest/pins.txt pytest
	_build/lowest/bin/pip install --quiet --no-deps .
	cd _build/lowest && bin/bcq pipeline --behavioral.steps 2000 --generate.steps 2000 --train.updates 200
	_build/lowest/bin/pytest tests/test_fit.py tests/test_interrupted.py

# The authors' code: `make bench AUTHORS=path/to/discrete_BCQ`. Environments that are there are kept
bench: $(VENV)/dev         ## times, memory and disk, beside other code where it is there: half an hour, 8 GB
	$(BIN)/python benchmarks/buffers.py
	cp benchmarks/results/buffers.csv bcq_nb/results
	$(BIN)/python benchmarks/speed.py $(if $(AUTHORS),--authors $(AUTHORS)) $(ARGS)
	$(BIN)/python benchmarks/speed_profile.py
	$(BIN)/python benchmarks/seeds.py

bench-peers: _build/peers/d3rlpy/ready _build/peers/tianshou/ready   ## other libraries for it, in environments of their own

_build/peers/%/ready: benchmarks/peers/%.txt
	$(PYTHON) -m venv _build/peers/$*
	_build/peers/$*/bin/pip install --quiet --requirement $<
	touch $@
