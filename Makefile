# What people do with this tree. `make demo` and `make test` are the README's two commands.
# Each recipe is a few lines; whatever is longer is a script in scripts/, bench/ or tests/vm/.

SHELL := /bin/bash
PREFIX ?= /usr/local
DESTDIR ?=
export PATH := $(HOME)/.cargo/bin:$(PATH)

.PHONY: help demo test lint unit fuzz archive host hostile catalogue test-vm bench build install pictures setup clean

help: ## Show what can be made
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | column -t -s $$'\t'

setup: ## Install what building and running needs (root, Debian or Ubuntu)
	@scripts/setup build run

build: setup ## Build the program: target/release/sandbox
	cargo build --release --locked

demo: build ## Make a machine of the real archive, run a command in it, remove it
	@scripts/demo target/release/sandbox

test: ## Run all tests of one stage of continuous integration: lint, unit, tests/it, fuzzing, tests/archive, tests/host, tests/hostile, tests/catalogue
	@scripts/setup build unit run lint reference
	@scripts/test

lint: ## Check format, lints and scripts
	@scripts/setup build lint
	@scripts/test lint

unit: ## Run the tests that need no network (root, where they run the program)
	@scripts/setup build unit
	@scripts/test unit

fuzz: ## Fuzz what comes from outside, FUZZ_SECONDS (600) for each target, and compare choices with pip's and npm's
	@scripts/setup build
	@tests/fuzz/run
	@CHOICES_SEED=$${CHOICES_SEED:-$$RANDOM} CHOICES_CASES=$${CHOICES_CASES:-100000} \
		cargo test --locked -p sandbox-cli --test archive -- choices::

archive: ## Run the tests on the real archive, beside mmdebstrap and apt (root, network)
	@scripts/setup build run reference
	@scripts/test archive

host: ## Run the tests that boot machines (root, network)
	@scripts/setup build run
	@scripts/test host

hostile: ## Attack from inside machines while every verb is run on them, and with all attacks that were tried (root, network)
	@scripts/setup build run
	@scripts/test hostile attacks

catalogue: ## Install every profile of services and tools, boot it and check its health (root, network)
	@scripts/setup build run
	@scripts/test catalogue

test-vm: build ## Run the tests on a stock kernel, emulated (root, network, tens of minutes)
	@scripts/setup vm
	@tests/vm/run target/release/sandbox

bench: build ## Compare with mmdebstrap, debootstrap and apt, and verbs of machines with those of systemd
	@scripts/setup bench
	@bench/bootstrap target/release/sandbox
	@bench/resolve target/release/sandbox
	@bench/slow-mirror target/release/sandbox
	@bench/machines target/release/sandbox

install: ## Install to PREFIX (/usr/local)
	@test -x target/release/sandbox || { echo 'make build comes first' >&2; exit 1; }
	@PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' scripts/install target/release/sandbox

pictures: ## Draw the pictures of README and docs again
	@scripts/pictures

clean: ## Remove what was built
	@scripts/clean
