# Sibyl: `make demo` shows the main job, `make test` proves it. `make help` lists the rest.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
PYTHON_READY := .venv/.ready
NODE_READY := node_modules/.ready
BROWNIE_READY := .venv-brownie/.ready
PROOF_READY := .venv-proof/.ready
PEERS_READY := .venv-peers/.ready

$(PYTHON_READY): requirements.lock pyproject.toml
	@scripts/setup python
	@touch $@

$(NODE_READY): package-lock.json
	@scripts/setup node
	@touch $@

$(BROWNIE_READY): requirements-brownie.lock
	@scripts/setup brownie
	@touch $@

$(PROOF_READY): requirements-proof.lock
	@scripts/setup proof
	@touch $@

$(PEERS_READY): requirements-peers.lock
	@scripts/setup peers
	@touch $@

PAGE := frontend/dist/index.html
PAGE_SOURCES := $(shell find frontend/src frontend/public frontend/scripts frontend/*.* -type f ! -name '*.test.ts*')

$(PAGE): $(NODE_READY) $(PAGE_SOURCES)
	@npm run build -w frontend --silent -- --logLevel warn
	@node frontend/scripts/size.mjs

##@ The two commands
.PHONY: demo test
demo: $(PYTHON_READY) $(NODE_READY) ## paid requests with real pictures, answered on a chain of your own
	@$(BIN)/sibyl demo

test: test-unit test-forge test-contracts test-integration test-e2e ## every test
	@echo "all tests passed"

##@ Parts of the tests
.PHONY: test-unit test-integration test-e2e test-page test-forge test-contracts
test-unit: $(PYTHON_READY) $(NODE_READY) ## one piece at a time, network blocked
	@$(BIN)/pytest tests/unit
	@npm test -w frontend --silent

test-integration: $(PYTHON_READY) $(NODE_READY) $(BROWNIE_READY) ## real parts on loopback: anvil, store, workers
	@$(BIN)/pytest tests/integration

test-e2e: $(PYTHON_READY) $(NODE_READY) images ## sibyl as a process, then the page; images first: their download is no test's own time
	@$(BIN)/pytest tests/e2e
	@$(MAKE) --no-print-directory test-page

test-page: $(PYTHON_READY) $(PAGE) ## the page in Chromium against the whole stack, with wallets that truly sign
	@npx --no-install vitest run --config tests/page/vitest.config.ts

test-forge: $(NODE_READY) ## contracts: behaviour, fuzz, invariants
	@scripts/forge test

test-contracts: $(PYTHON_READY) $(NODE_READY) $(BROWNIE_READY) ## contracts through Brownie
	@scripts/brownie test tests/contracts

##@ Proof of the contracts, longer than a test may take
.PHONY: test-forge-deep prove slither mutate
test-forge-deep: $(NODE_READY) ## a million calls against the invariants
	@FOUNDRY_PROFILE=deep scripts/forge test --match-path 'tests/forge/invariant/*'

prove: $(NODE_READY) $(PROOF_READY) ## halmos: access, single settlement, escrow, for all arguments
	@scripts/prove symbolic

slither: $(NODE_READY) $(PROOF_READY) ## slither; fails on a finding that docs/security.md does not list
	@scripts/prove slither

mutate: $(NODE_READY) ## guards and comparisons changed one by one; are they caught?
	@scripts/mutate

##@ Daily work
.PHONY: images page up screens lint format abi lock kubo clean help setup
setup: $(PYTHON_READY) $(NODE_READY) ## make the environments and nothing else

images: $(PYTHON_READY) ## the shipped models' provider images, into build/images
	@$(BIN)/python -m provider_images.builder mnist
	@$(BIN)/python -m provider_images.builder mask_rcnn

page: $(PAGE) ## the web page, into frontend/dist

up: setup $(PAGE) ## everything on one machine until Ctrl-C
	@$(BIN)/sibyl up

screens: $(PYTHON_READY) $(PAGE) ## every page in both themes at two widths, into build/screens
	@SIBYL_SCREENS=1 npx --no-install vitest run --config tests/page/vitest.config.ts

lint: $(PYTHON_READY) $(NODE_READY) ## every checker, as CI runs them
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	scripts/forge fmt --check
	npx --no-install solhint --disc --noPoster --max-warnings 0 'contracts/**/*.sol'
	node scripts/abi.mjs --check
	npx --no-install eslint -c frontend/eslint.config.js frontend tests/page
	npx --no-install tsc -p frontend
	npx --no-install tsc -p tests/page

format: setup ## let the formatters write
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	scripts/forge fmt

abi: $(NODE_READY) ## compile the contracts and refresh oracle/chain/abi
	@node scripts/abi.mjs

lock: $(PYTHON_READY) ## resolve the Python locks anew
	@scripts/lock

kubo: ## build a real Kubo into .cache/kubo (needs Go); the content tests then run on it too
	@scripts/kubo

clean: ## remove what the targets made, environments included; keys, deployments and state stay
	rm -rf .venv .venv-brownie .venv-proof .venv-peers .tools .cache/solc .cache/solcx .cache/kubo .cache/images .cache/brownie/test.* node_modules frontend/dist out cache reports
	@if [ -d build ]; then find build -mindepth 1 -maxdepth 1 ! -name deployments -exec rm -rf {} +; fi
	@for kept in .sibyl .cache/brownie/home build/deployments; do \
	  if [ -e $$kept ]; then echo "kept $$kept; delete it yourself if you are sure"; fi; done

##@ Measurements (figures, and one line of JSON last)
.PHONY: bench-api bench-pipeline bench-gas bench-golem bench-batching bench-models eval-models fuzz-pictures
bench-gas: setup ## gas of each transaction of the coordinator, beside others'
	@$(BIN)/python -m tests.benchmarks.gas

bench-golem: setup ## 96 pictures over three providers of the real yagna daemon
	@$(BIN)/python -m tests.benchmarks.golem

bench-batching: setup ## when batches start: latency and cost beside a fixed schedule and none, simulated
	@$(BIN)/python -m tests.benchmarks.batching

bench-models: setup ## engines side by side: pictures a second, cold start, memory, differences
	@$(BIN)/python -m tests.benchmarks.models

eval-models: setup ## the scores that manifests claim, measured again on unseen data
	@$(BIN)/python -m tests.benchmarks.eval_models

fuzz-pictures: setup ## broken files, bombs and 6,000 mutants against both decoders of pictures
	@$(BIN)/python -m tests.benchmarks.fuzz_pictures

bench-api: setup $(PEERS_READY) ## requests a second beside LitServe and BentoML, and the slowest at 100 a second
	@$(BIN)/python -m tests.benchmarks.api

bench-pipeline: setup ## requests settled per second, overhead, memory
	@$(BIN)/python -m tests.benchmarks.pipeline

help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
