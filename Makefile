# `make run` and `make test` install what they need: see scripts/setup.sh.

# scripts/setup.sh installs Node.js here if the system's is too old.
export PATH := $(CURDIR)/.tools/node_modules/.bin:$(PATH)

GOLANGCI = go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
FUZZTIME ?= 30s
SECONDS  ?= 120
SEED     ?=
EVENTS   ?= 1000000
IMAGE    ?= parlor
# Arguments of the program: make run ARGS='--listen 127.0.0.1:9000'
ARGS     ?=

# Parallel builds would compete for the same cores and mix their output.
.NOTPARALLEL:
.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this help
	@awk -F ':.*## ' '/^[a-z\/]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Run and build

.PHONY: run
run: build ## Build and start the server on 127.0.0.1:8080, in development mode
	@scripts/setup.sh postgres
	bin/parlor serve --dev $(ARGS)

.PHONY: build
build: web ## Build bin/parlor, including the web pages
	CGO_ENABLED=0 go build -trimpath -o bin/parlor ./cmd/parlor

.PHONY: image
image: ## Build the container image
	docker build --tag $(IMAGE) .

# Test

.PHONY: test
test: test/web test/go test/browser ## Run all tests

.PHONY: test/fast
test/fast: web ## Run the Go tests and the web unit tests, without the slowest tests and the race detector, in a minute
	@scripts/setup.sh postgres nginx haproxy caddy pgbouncer python3 ip
	cd web && npm test
	scripts/gotest.sh -skip '^Test(Model|EveryCallInEveryState|ManyClients|Chaos|Bench|Floor|Table$$)' ./...
	cd clients/go && go vet ./... && go test ./...

.PHONY: test/go
test/go: web ## Vet the Go packages and run their tests under the race detector
	@scripts/setup.sh postgres cc nginx haproxy caddy pgbouncer python3 ip
	CGO_ENABLED=1 go vet ./...
	CGO_ENABLED=1 scripts/gotest.sh -race ./...
	cd clients/go && CGO_ENABLED=1 go vet ./... && CGO_ENABLED=1 go test -race ./...
	cd examples && go vet ./...

.PHONY: test/web
test/web: web ## Check the types of the web code and run its unit tests
	cd web && npm run typecheck
	cd web && npm test

.PHONY: test/browser
test/browser: web ## Test the real server with a real browser
	@scripts/setup.sh postgres chromium
	cd web && PARLOR_CHROMIUM="$$(../scripts/setup.sh --where chromium)" npm run test:browser

.PHONY: test/proxies
test/proxies: web ## Test that idle streams survive the timeouts of nginx, haproxy and Caddy (two minutes)
	@scripts/setup.sh postgres nginx haproxy caddy
	PARLOR_TEST_IDLE=65s go test -count=1 -run TestProxies ./cmd/parlor

.PHONY: chaos
chaos: web ## Kill and freeze one and three servers and their database under load for SECONDS (120) each; SEED=N repeats a run
	@scripts/setup.sh postgres ip
	CHAOS_SECONDS=$(SECONDS) CHAOS_SEED=$(SEED) go test -count=1 -timeout 0 -parallel 1 -v -run '^TestChaos$$' ./cmd/parlor

.PHONY: stress
stress: ## Let 32 clients make random calls for SECONDS (120), and check the invariants of the database
	@scripts/setup.sh postgres
	MANY_CLIENTS_SECONDS=$(SECONDS) go test -race -count=1 -timeout 0 -v -run '^TestManyClients' ./store

.PHONY: clients
clients: build ## Check that clients work that generators make from openapi.yaml (three minutes)
	@scripts/setup.sh postgres
	clients/generators/clients.sh

.PHONY: contract
contract: ## Check the server against openapi.yaml
	@scripts/setup.sh postgres
	go test -count=1 -run 'Contract' ./servicetest
	cd clients/go && go test -count=1 -tags contract ./...

.PHONY: fuzz
fuzz: ## Fuzz every target for FUZZTIME (30s)
	@scripts/fuzz.sh $(FUZZTIME)

.PHONY: bench
bench: build ## Compare Parlor with nchan, Centrifugo and a bare write() loop (about eight minutes)
	@scripts/setup.sh postgres
	CGO_ENABLED=0 go build -trimpath -o bin/parlor-bench ./cmd/parlor-bench
	bin/parlor-bench table $(ARGS)

.PHONY: bench/nodes
bench/nodes: build ## Compare two servers that share a database with one (about eight minutes)
	@scripts/setup.sh postgres
	CGO_ENABLED=0 go build -trimpath -o bin/parlor-bench ./cmd/parlor-bench
	bin/parlor-bench nodes $(ARGS)

.PHONY: bench/go
bench/go: web ## Run the Go benchmarks
	@scripts/setup.sh postgres
	GOGC=200 CGO_ENABLED=0 go test -run '^$$' -bench . -benchmem ./... # the program sets the same GOGC

.PHONY: bench/events
bench/events: ## Measure sends, histories and deletions beside EVENTS (1000000) stored events; 50 million take 40 GB and half an hour
	@scripts/setup.sh postgres
	CGO_ENABLED=0 go test ./store -run '^$$' -timeout 0 -bench BenchmarkEvents -events $(EVENTS)

# Check

.PHONY: lint
lint: ## Run the linters
	$(GOLANGCI) config verify
	$(GOLANGCI) run
	cd clients/go && $(GOLANGCI) run
	cd examples && $(GOLANGCI) run

.PHONY: verify
verify: ## Check formatting, go.mod and generated files
	@scripts/setup.sh postgres
	@scripts/verify.sh

# Web

# Generated files are left out, because they are always newer than the build.
WEB_SOURCES := openapi.yaml $(shell find web -type f -not -path '*/node_modules/*' -not -path '*/dist/*' \
	-not -path 'web/browser-tests/*' -not -name '*.gen.ts')

.PHONY: web
web: web/node_modules/.built ## Build the web pages if their sources have changed

# The stamp files are in node_modules so that npm ci, which empties it, removes them. An empty dist
# is rebuilt too.
web/node_modules/.built: web/node_modules/.installed $(WEB_SOURCES) $(if $(wildcard web/dist/*),,always)
	cd web && npm run build
	@touch $@

web/node_modules/.installed: web/package-lock.json $(wildcard web/package.json web/*/package.json web/compat/*/package.json)
	@scripts/setup.sh node
	cd web && npm ci
	@touch $@

.PHONY: always
always:

.PHONY: clean
clean: ## Remove build output, but not the data folder
	rm -rf bin web/node_modules web/*/node_modules web/*/dist web/compat/*/node_modules web/compat/*/dist
	find web/dist -mindepth 1 ! -name .gitkeep -delete
