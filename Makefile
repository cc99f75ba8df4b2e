SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PAGE := sinks/dashboard/page
# What the end-to-end tests run: built together with them, so that nothing is built twice.
COMMAND := $(abspath $(or $(CARGO_TARGET_DIR),target))/debug/watchfold
UNIT_LOG := target/test-output.txt
PAGE_LOG := target/page-output.txt
STEP := .ci/step

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-9s %s\n", $$1, $$2}' Makefile

run: ## Set up what is missing, build, and start watching (ARGS="--listen 127.0.0.1:8737" and the like)
	@.ci/setup run
	@cargo build --release --locked
	@exec $(abspath $(or $(CARGO_TARGET_DIR),target))/release/watchfold up $(ARGS)

test: ## Everything that must hold, from a clean clone: style, lints, tests, the page, other targets
	@.ci/setup check
	@$(MAKE) lint
	@$(MAKE) unit
	@$(MAKE) page
	@$(MAKE) wasm
	@$(MAKE) windows
	@awk '/^test result/ { passed += $$4 } END { print "make test: all of it holds, " passed " Rust tests among it" }' $(UNIT_LOG)

soak: ## The long loops at their full counts (hours)
	@WATCHFOLD_SIM_SEEDS=10000 WATCHFOLD_PROPERTY_CASES=2000 WATCHFOLD_SEEDS=1000 \
		WATCHFOLD_KILL_ROUNDS=200 WATCHFOLD_KILLS=200 \
		WATCHFOLD_BROKER_KILLS=50 WATCHFOLD_BROKER_AWAY_S=60 WATCHFOLD_LEADER_KILLS=20 \
		$(STEP) "soak" cargo test --workspace --locked

fuzz: ## Coverage-guided fuzzing of what reads foreign bytes; needs nightly Rust and cargo-fuzz (SECONDS_EACH=60)
	@fuzz/run $(or $(SECONDS_EACH),60)

idle: ## What it costs to run: time to ready, memory, share of a core (release build, a minute)
	@tests/idle.sh

setup: ## Install what `make test` needs and is missing (Debian packages as root or with sudo, Rust targets)
	@.ci/setup test

fmt: ## Format the Rust sources
	@cargo fmt --all

lint: ## Formatting and clippy, warnings as errors; the fuzz targets compile
	@$(STEP) "formatting" cargo fmt --all --check
	@$(STEP) "clippy" cargo clippy --workspace --all-targets --locked -- -D warnings
	@$(STEP) "fuzz targets" cargo check --locked --manifest-path fuzz/Cargo.toml --target-dir $(or $(CARGO_TARGET_DIR),target)

unit: ## cargo test over the workspace; a skipped test is a failure
	@mkdir -p target
	@$(STEP) "cargo build" cargo build --workspace --all-targets --locked
	@WATCHFOLD_TEST_COMMAND="$(COMMAND)" $(STEP) "cargo test" \
		cargo test --workspace --locked --no-fail-fast 2>&1 | tee $(UNIT_LOG)
	@.ci/unskipped $(UNIT_LOG)

page: ## The page: types, style, tests
	@mkdir -p target
	@$(STEP) "page: npm ci" npm --prefix $(PAGE) ci --no-audit --no-fund
	@$(STEP) "page: check" npm --prefix $(PAGE) run check
	@$(STEP) "page: test" npm --prefix $(PAGE) test 2>&1 | tee $(PAGE_LOG)
	@.ci/unskipped $(PAGE_LOG)

wasm: ## Judging compiles where there is no clock, no file and no socket
	@.ci/target wasm32-unknown-unknown
	@$(STEP) "wasm" .ci/on wasm32-unknown-unknown cargo check -p watchfold-folds --locked

windows: ## The command with all its parts compiles for Windows
	@.ci/target x86_64-pc-windows-gnu
	@WATCHFOLD_PAGE=plain $(STEP) "windows" .ci/on x86_64-pc-windows-gnu cargo check -p watchfold --locked

.PHONY: help run test soak fuzz idle setup fmt lint unit page wasm windows
