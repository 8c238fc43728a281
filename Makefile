SHELL := /usr/bin/env bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# The tools have a module of their own, so that what they need never decides what the product is built with.
TOOL := go tool -modfile=tools/go.mod

PKGS ?= ./...
NO_SKIPS ?=
TESTFLAGS ?=
FUZZTIME ?= 1m
BENCH ?= .

.PHONY: help
help: ## List the targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: test
test: install ## Install what is missing and run all tests (NO_SKIPS=1: none may be skipped; PKGS=./pkg/...)
	go vet $(PKGS)
	go test -race -count=1 $(TESTFLAGS) -json $(PKGS) | go run -C tools ./testreport $(if $(filter 1,$(NO_SKIPS)),-no-skips)

.PHONY: install
install: ## Install what the tests need beside Go
	@.ci/install

.PHONY: test-tools
test-tools: ## Test the helpers in tools/
	cd tools && go test -count=1 ./...

.PHONY: lint
lint: ## Check formatting, code, module files and protos
	$(TOOL) golangci-lint run
	cd tools && go tool golangci-lint run
	go mod tidy -diff
	cd tools && go mod tidy -diff
	$(TOOL) buf lint

.PHONY: fmt
fmt: ## Format the code
	$(TOOL) golangci-lint fmt
	$(TOOL) buf format -w

.PHONY: generate
generate: ## Generate proto/gen from proto/
	$(TOOL) buf generate

.PHONY: generate-check
generate-check: ## Check that proto/gen is what `make generate` makes
	.ci/generate-check

.PHONY: contract
contract: ## Check that proto/ breaks nothing that was released
	$(TOOL) buf breaking --against .ci/contract.binpb

.PHONY: contract-baseline
contract-baseline: ## At a release: make the protos as they are the contract
	$(TOOL) buf build --exclude-source-info -o .ci/contract.binpb

.PHONY: build
build: ## Build static binaries into bin/
	CGO_ENABLED=0 go build -trimpath -o bin/ ./services/authority ./services/validator ./services/countersign

.PHONY: fuzz
fuzz: ## Run every fuzz target in turn, for FUZZTIME each (1m)
	.ci/fuzz $(FUZZTIME) $(PKGS)

.PHONY: bench
bench: ## Run the benchmarks (BENCH=regexp, PKGS=./pkg/...)
	go test -run='^$$' -bench='$(BENCH)' -benchmem $(TESTFLAGS) $(PKGS)

.PHONY: test-compose
test-compose: ## Build the images and test docker-compose.yml end to end (needs Docker)
	deploy/docker/test-compose.sh
