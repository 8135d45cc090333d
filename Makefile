# Everything a developer does, by name. Needs Python 3.11+, git and make; the rest
# goes into .venv, which tools/venv makes and keeps in step with constraints.txt.
# Another interpreter: make PYTHON=/path/to/python3.12 ...

BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help venv demo test stress lint format types layers package bench build clean

help:     ## list these targets
	@sed -n 's/^\([a-z]*\): .*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

venv:     ## make or refresh .venv
	@tools/venv

demo: venv ## an agent mends a broken project in a sandbox, then in eight at once
	$(BIN)/paddock demo $(ARGS)

test: venv ## run the tests, two files at a time; skips, and says why, what this machine lacks; ARGS="-k name" picks some
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(ARGS)

stress: venv ## what takes minutes: forged frames for 30 s in each kind of sandbox, a SIGKILL at every operation, a batch without its engine, all of the kit from the wheel
	PADDOCK_SPRAY_SECONDS=30 $(BIN)/python -m pytest --timeout 300 -o log_cli_level=INFO tests/hostile/test_spraying.py $(ARGS)
	PADDOCK_KILL_EVERY=1 $(BIN)/python -m pytest --timeout 300 tests/unit/runtime/test_kill_nested.py \
		tests/unit/runtime/orchestration/test_kill_plan_flow.py $(ARGS)
	PADDOCK_FLEET_TASKS=300 PADDOCK_OUTAGE_SECONDS=60 $(BIN)/python -m pytest --timeout 2400 \
		tests/e2e/docker/test_fleet_outage.py $(ARGS)
	PADDOCK_KIT_WHOLE=1 $(BIN)/python -m pytest tests/e2e/test_kit_from_wheel.py $(ARGS)

lint: venv ## style and likely mistakes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: venv ## rewrite the code in the house style
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

types: venv ## mypy, strict, on all of this, and mypy and pyright on the programs of docs and examples
	$(BIN)/mypy
	$(BIN)/python tools/check_programs.py

layers: venv ## imports point down only
	$(BIN)/lint-imports

package: venv ## sdist -> wheel -> clean environment, and nothing is missing
	$(BIN)/python tools/check_package.py

bench: venv ## measurements against floors and peers
	@for file in bench/*.py; do echo "== $$file"; $(BIN)/python "$$file" || exit; done

build: venv ## sdist and wheel into dist/
	$(BIN)/python -m build

clean:    ## remove what was built or cached, and .venv
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
