# Only git, make and a Python >= 3.11 are assumed. Every verb prepares what it needs by itself,
# and is quick when that is there. PYTHON=/path/to/python3 names another Python than the one found.

SHELL = /bin/sh
prepare = python=$$(tools/find-python) && "$$python" -m tools.prepare
arguments ?=
rounds = $(if $(ROUNDS),--rounds $(ROUNDS))

.PHONY: help run test lint bench bench-reload figures fuzz simulate chaos reference screenshots clean

help:  ## what can be made
	@sed -n 's/^\([a-z-]*\):.*  ## /  make \1	/p' Makefile

run:  ## the example sites and the dashboard, in the foreground
	@$(prepare) run && exec .venv/bin/djsup start -c config.example.toml

# Half of the time a test waits, so four processes keep two cores busy. Modules run in the order of their names, which has
# many quick ones at the end: else a long one would run alone there. Python may keep what it has compiled, which each of
# the four would compile by itself.
test:  ## all tests; arguments="-k reload" picks some
	@$(prepare) test && env -u PYTHONDONTWRITEBYTECODE .venv/bin/python -m pytest -n 4 --dist loadscope --no-loadscope-reorder $(arguments)

lint:  ## ruff, mypy, and who may import whom
	@$(prepare) lint
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy supervisor web_ui tests benchmarks tools
	.venv/bin/mypy --python-version 3.10 supervisor/djsup_worker
	.venv/bin/lint-imports

bench:  ## djsup beside other servers, 20 minutes; arguments="--quick bare granian djsup" takes less
	@$(prepare) bench && .venv/bin/python -m benchmarks $(arguments)

bench-reload:  ## what clients notice of a reload, server by server, then djsup's under conditions="TLS" or all; 90 minutes; ROUNDS=1 takes a third
	@$(prepare) bench && .venv/bin/python -m benchmarks.reloading --publish $(rounds) $(arguments)
	@.venv/bin/python -m benchmarks.conditions --publish $(rounds) $(conditions)

fuzz:  ## random bytes against the worker's HTTP, for FUZZ_SECONDS=60
	@$(prepare) fuzz && PYTHONPATH=tests .venv/bin/python -m conformance.fuzz $(arguments)

simulate:  ## random histories against the decisions: SEED=1 HISTORIES=1000; SEED=117sd shows one
	@$(prepare) lint && PYTHONPATH=tests .venv/bin/python -m core.simulation $(or $(SEED),1) $(HISTORIES)

chaos:  ## faults injected into a real daemon under load, for CHAOS_SECONDS=60; SEED=1 repeats a run's dice
	@$(prepare) test && PYTHONPATH=tests .venv/bin/python -m chaos --seconds $(or $(CHAOS_SECONDS),60) $(if $(SEED),--seed $(SEED)) $(arguments)

figures:  ## writes the newest results of make bench into docs/explanation/performance.md
	@$(prepare) bench && .venv/bin/python -m benchmarks.publish $(arguments)

reference:  ## writes docs/reference/configuration.md from the schema
	@$(prepare) run && .venv/bin/python -m tools.make_reference

screenshots:  ## writes docs/images from the dashboard in a real browser, before a real daemon; takes ten minutes
	@$(prepare) test && mkdir -p docs/images && DJSUP_SCREENSHOTS=docs/images .venv/bin/python -m pytest tests/browser/test_screenshots.py

clean:  ## removes everything that the other verbs have made
	rm -rf .venv .cache build dist .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rm -rf benchmarks/results examples/*/.venv examples/*/db.sqlite3* examples/*/static_collected
	find . -name __pycache__ -prune -exec rm -rf {} +
