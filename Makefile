SHELL := /usr/bin/env bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# The tools have a module of their own: their dependencies must not change those of the product.
TOOL := go tool -modfile=tools/go.mod

# Tests without the race detector are built like the binaries of `make build`, so that both share the build cache.
STATIC := CGO_ENABLED=0 go
STATICFLAGS := -trimpath

# NO_SKIPS=1 makes a run fail when it skipped a test, or ran none.
NO_SKIP_CHECK := --post-run-command='sh -c "test $$TESTS_TOTAL -gt 0 && test $$TESTS_SKIPPED -eq 0"'

PKGS ?= ./...
NO_SKIPS ?=
TESTFLAGS ?=
FUZZTIME ?= 1m
BENCH ?= .
GUARDS ?=
SEEDS ?= 1000
FAULTS ?= 2m
FAULTFLAGS ?=
BENCHFLAGS ?=

.PHONY: help
help: ## List the targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: test
test: install ## Install what is missing and run all tests (NO_SKIPS=1: a skipped test is a failure; PKGS=./pkg/...)
	@mkdir -p bin
	$(TOOL) gotestsum --format=pkgname --format-icons=text --format-hide-empty-pkg --jsonfile=bin/test.json \
		$(if $(filter 1,$(NO_SKIPS)),$(NO_SKIP_CHECK)) -- -race -count=1 $(TESTFLAGS) $(PKGS)

.PHONY: slowest
slowest: ## List the tests of the last `make test` that took more than 5 s
	$(TOOL) gotestsum tool slowest --jsonfile bin/test.json --threshold 5s

.PHONY: install
install: ## Install what the tests need beside Go
	@.ci/install

.PHONY: guards
guards: install ## Remove each guard of the product in turn: the tests must fail (GUARDS="floor sticky": only these)
	go run -C tools -exec 'env --chdir=$(CURDIR)' ./guards $(GUARDS)

.PHONY: model
model: ## Try random histories of faults against a simulated store and network, in fake time (SEEDS=1000)
	$(STATIC) test $(STATICFLAGS) -count=1 -timeout=24h -run=AnyHistory ./pkg/replica -seeds=$(SEEDS)
	$(STATIC) test $(STATICFLAGS) -count=1 -timeout=24h -run=NoHistory -v ./services/authority/internal/model -seeds=$(SEEDS)

.PHONY: faults
faults: install ## Break Redis, processes and network under load for FAULTS (2m), and judge the answers (FAULTFLAGS: docs/faults.md)
	$(STATIC) test $(STATICFLAGS) -count=1 -timeout=24h -tags=campaign -run=TestCampaign -v ./services/test/faults -length=$(FAULTS) $(FAULTFLAGS)

.PHONY: timing
timing: install ## Run the tests that have bounds on real time with the exact bounds, one after the other, on a quiet machine
	go test -count=1 -p=1 -parallel=1 -tags=campaign $$(git grep -l 'check\.Within(' -- '*_test.go' | xargs -n1 dirname | sort -u | sed 's,^,./,')

.PHONY: test-tools
test-tools: ## Test tools/, and that each guard is in its file
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

.PHONY: api
api: ## Check that the public Go API breaks nothing that was released
	.ci/api-diff

.PHONY: api-baseline
api-baseline: ## At a release: make the public Go API as it is the released one
	.ci/api-diff write

.PHONY: build
build: ## Build static binaries into bin/
	$(STATIC) build $(STATICFLAGS) -o bin/ ./services/authority ./services/validator ./services/countersign

.PHONY: fuzz
fuzz: ## Run every fuzz target in turn, for FUZZTIME each (1m)
	.ci/fuzz $(FUZZTIME) $(PKGS)

.PHONY: bench
bench: ## Run the benchmarks (BENCH=regexp, PKGS=./pkg/...)
	go test -run='^$$' -bench='$(BENCH)' -benchmem $(TESTFLAGS) $(PKGS)

# The measurements of docs/performance.md. In `make test` they run for seconds and check no times.
MEASURE := go test -count=1 -v -timeout 6h ./services/test/performance

.PHONY: stability
stability: OUTAGE ?= 1h
stability: ## Measure decisions while Redis is away for OUTAGE (1h)
	$(MEASURE) -run StaticStability -stability.outage=$(OUTAGE) -stability.around=10m -stability.rate=500

.PHONY: propagation
propagation: REVOKES ?= 10000
propagation: ## Measure how fast each of REVOKES (10000) revocations is at 100 validators
	$(MEASURE) -run Propagation -propagation.revokes=$(REVOKES) -propagation.validators=100 -propagation.rate=100

.PHONY: read-your-writes
read-your-writes: PAIRS ?= 100000
read-your-writes: ## Create PAIRS (100000) tokens and authorize each at once
	$(MEASURE) -run ReadYourWrites -writes.pairs=$(PAIRS)

.PHONY: cold-start
cold-start: TOKENS ?= 1000000
cold-start: ## Measure how a validator starts with TOKENS (1000000) tokens
	$(MEASURE) -run ColdStart -cold.tokens=$(TOKENS) -cold.runs=5

.PHONY: benchmark
benchmark: ## Build bin/benchmark, which the bench-* targets run and no image has
	CGO_ENABLED=0 go build -trimpath -o bin/ ./services/benchmark

.PHONY: bench-compare
bench-compare: TOKENS ?= 1000000
bench-compare: benchmark ## Measure what a decision costs beside other servers, with TOKENS (1000000) tokens (BENCHFLAGS="--json compare.json --plot compare.svg")
	bin/benchmark compare --tokens $(TOKENS) $(BENCHFLAGS)

.PHONY: bench-grow
bench-grow: BY ?= tokens connections changes validators reasons
bench-grow: benchmark ## Measure what a decision costs while something grows (BY="tokens connections changes validators reasons"), into bin/grow-*.json and .svg
	for by in $(BY); do bin/benchmark grow --by $$by --json bin/grow-$$by.json --plot bin/grow-$$by.svg $(BENCHFLAGS); done

.PHONY: bench-flood
bench-flood: TOKENS ?= 1000000
bench-flood: benchmark ## Measure what callers get from a validator in a flood of unknown tokens and in an overload, with TOKENS (1000000) tokens (BENCHFLAGS="--json flood.json")
	bin/benchmark flood --tokens $(TOKENS) $(BENCHFLAGS)

.PHONY: bench-failover
bench-failover: benchmark ## Measure what callers get from two validators while one of them is in trouble (BENCHFLAGS="--json failover.json")
	bin/benchmark failover $(BENCHFLAGS)

.PHONY: test-compose
test-compose: ## Build the images and test docker-compose.yml end to end (needs Docker)
	deploy/docker/test-compose.sh
