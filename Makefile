SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PAGE := sinks/dashboard/page
TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
# The command that the end-to-end tests start: built together with them, so that nothing is built twice.
COMMAND := $(TARGET)/debug/watchfold
# A Node.js that `.ci/setup` installed comes before an older one of the system.
export PATH := $(CURDIR)/target/tools/node_modules/node/bin:$(PATH)
UNIT_LOG := target/test-output.txt
PAGE_LOG := target/page-output.txt
STEP := .ci/step
# Their modules are declared by a macro, in which `cargo fmt` finds none.
FOLDS := $(shell find processors/folds/src -name '*.rs')

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-9s %s\n", $$1, $$2}' Makefile

run: ## Set up what is missing, build, and start watching (ARGS="--listen 127.0.0.1:8737" and the like)
	@.ci/setup run
	@cargo build --profile quick --locked
	@exec $(TARGET)/quick/watchfold up $(ARGS)

release: ## All programs as they ship: link-time optimisation, stripped
	@.ci/setup run
	@cargo build --release --locked --workspace --bins

test: ## The full test suite from a clean clone: formatting, lints, tests, the page, other targets (installs what is missing)
	@.ci/setup test
	@$(MAKE) lint
	@$(MAKE) unit
	@$(MAKE) page
	@$(MAKE) wasm
	@$(MAKE) windows
	@sed 's/\x1b\[[0-9;]*m//g' $(UNIT_LOG) | awk '/^test result/ { passed += $$4 } /^ *Summary/ { sub(/.* run: /, ""); passed += $$1 } \
		END { print "make test: passed, with " passed " Rust tests" }'

soak: ## The long loops at their full counts (hours)
	@WATCHFOLD_SIM_SEEDS=10000 WATCHFOLD_PROPERTY_CASES=2000 WATCHFOLD_SEEDS=1000 \
		WATCHFOLD_KILL_ROUNDS=200 WATCHFOLD_KILLS=200 \
		WATCHFOLD_BROKER_KILLS=50 WATCHFOLD_BROKER_AWAY_S=60 WATCHFOLD_LEADER_KILLS=20 \
		$(STEP) "soak" cargo test --workspace --locked

fuzz: ## Coverage-guided fuzzing of what reads foreign bytes; needs nightly Rust and cargo-fuzz (SECONDS_EACH=60)
	@fuzz/run $(or $(SECONDS_EACH),60)

idle: ## What it costs to run: time to ready, memory, share of a core (release build, a minute)
	@tests/idle.sh

setup: ## Install what `make test` needs (it does this itself)
	@.ci/setup test

fmt: ## Format the Rust sources
	@cargo fmt --all
	@rustfmt --edition 2024 $(FOLDS)

lint: ## Formatting and clippy, warnings as errors; the fuzz targets compile
	@$(STEP) "formatting" cargo fmt --all --check
	@$(STEP) "formatting of folds" rustfmt --edition 2024 --check $(FOLDS)
	@$(STEP) "clippy" cargo clippy --workspace --all-targets --locked -- -D warnings
	@$(STEP) "fuzz targets" cargo check --locked --manifest-path fuzz/Cargo.toml --target-dir $(TARGET)

unit: ## All Rust tests; a skipped test is a failure
	@mkdir -p target
	@$(STEP) "cargo build" cargo build --workspace --all-targets --locked
	@WATCHFOLD_TEST_COMMAND="$(COMMAND)" $(STEP) "Rust tests" .ci/rust-tests 2>&1 | tee $(UNIT_LOG)
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

.PHONY: help run release test soak fuzz idle setup fmt lint unit page wasm windows
