# `make run` and `make test` set up what they need by themselves: see scripts/setup.sh.

# Node.js lands here where the system's is too old.
export PATH := $(CURDIR)/.tools/node_modules/.bin:$(PATH)

GOLANGCI = go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
FUZZTIME ?= 30s
SECONDS  ?= 120
SEED     ?=
IMAGE    ?= parlor
# Arguments for the program: make run ARGS='--listen 127.0.0.1:9000'
ARGS     ?=

# Two builds at once would only fight for the same cores, and their output would mix.
.NOTPARALLEL:
.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z\/]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Run and build

.PHONY: run
run: build ## Set up, build and start the server on 127.0.0.1:8080, in development mode
	@scripts/setup.sh postgres
	bin/parlor serve --dev $(ARGS)

.PHONY: build
build: web ## Build bin/parlor, web pages included
	CGO_ENABLED=0 go build -trimpath -o bin/parlor ./cmd/parlor

.PHONY: image
image: ## Build the container image
	docker build --tag $(IMAGE) .

# Test

.PHONY: test
test: test/web test/go test/browser ## Set up, then run every test

.PHONY: test/go
test/go: web ## Vet the Go packages and run their tests under the race detector
	@scripts/setup.sh postgres cc nginx haproxy caddy pgbouncer
	CGO_ENABLED=1 go vet ./...
	CGO_ENABLED=1 go test -race ./...
	cd clients/go && CGO_ENABLED=1 go vet ./... && CGO_ENABLED=1 go test -race ./...

.PHONY: test/web
test/web: web ## Check the types of the web code and run its unit tests
	cd web && npm run typecheck
	cd web && npm test

.PHONY: test/browser
test/browser: web ## Drive the real server from a real browser
	@scripts/setup.sh postgres chromium
	cd web && PARLOR_CHROMIUM="$$(../scripts/setup.sh --where chromium)" npm run test:browser

.PHONY: test/proxies
test/proxies: web ## Have idle streams outlast the timeouts of nginx, haproxy and Caddy, in about two minutes
	@scripts/setup.sh postgres nginx haproxy caddy
	PARLOR_TEST_IDLE=65s go test -count=1 -run TestProxies ./cmd/parlor

.PHONY: chaos
chaos: web ## Kill and freeze a server and its database under load for SECONDS (120); SEED=N repeats a run's choices
	@scripts/setup.sh postgres
	CHAOS_SECONDS=$(SECONDS) CHAOS_SEED=$(SEED) go test -count=1 -timeout 0 -v -run '^TestChaos$$' ./cmd/parlor

.PHONY: contract
contract: ## Check the server against openapi.yaml
	@scripts/setup.sh postgres
	go test -count=1 -run 'Contract' ./servicetest
	cd clients/go && go test -count=1 -tags contract ./...

.PHONY: fuzz
fuzz: ## Fuzz every target for FUZZTIME (30s)
	@scripts/fuzz.sh $(FUZZTIME)

.PHONY: bench
bench: build ## Measure Parlor beside nchan and a bare write() loop, in about six minutes
	@scripts/setup.sh postgres
	CGO_ENABLED=0 go build -trimpath -o bin/parlor-bench ./cmd/parlor-bench
	bin/parlor-bench table $(ARGS)

.PHONY: bench/go
bench/go: web ## Run the Go benchmarks
	@scripts/setup.sh postgres
	GOGC=200 CGO_ENABLED=0 go test -run '^$$' -bench . -benchmem ./... # as the program sets it

# Check

.PHONY: lint
lint: ## Run the linters
	$(GOLANGCI) config verify
	$(GOLANGCI) run
	cd clients/go && $(GOLANGCI) run

.PHONY: verify
verify: ## Check formatting, go.mod and the generated tables
	@scripts/verify.sh

# Web

# What is generated is not a source: it would always be newer than the build.
WEB_SOURCES := openapi.yaml $(shell find web -type f -not -path 'web/node_modules/*' -not -path 'web/dist/*' \
	-not -path 'web/test-results/*' -not -name '*.gen.ts')

.PHONY: web
web: web/node_modules/.built ## Build the web pages when their sources changed

# The stamps live in node_modules so that npm ci, which empties it, makes them stale. A dist emptied by hand is
# built again too.
web/node_modules/.built: web/node_modules/.installed $(WEB_SOURCES) $(if $(wildcard web/dist/*),,always)
	cd web && npm run build
	@touch $@

web/node_modules/.installed: web/package.json web/package-lock.json
	@scripts/setup.sh node
	cd web && npm ci
	@touch $@

.PHONY: always
always:

.PHONY: clean
clean: ## Remove what was built; the data folder stays
	rm -rf bin web/node_modules
	find web/dist -mindepth 1 ! -name .gitkeep -delete
