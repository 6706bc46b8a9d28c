# Needs Go and Python 3, and no root; everything else is fetched on first use. Only TinyGo needs packages of Debian's.

GO ?= go
# Of the Wasm binary. Without one it is the commit's tag, and without that "dev".
VERSION ?=

# Of `make run`.
CONFIG ?= envoy/envoy.yaml
CONCURRENCY ?= 4
HTTP_PORT ?= 8099
TCP_PORT ?= 18000
ADMIN_PORT ?= 8001
UPSTREAM_PORT ?= 18080
# Of `make demo`, besides most of these.
PAGE_PORT ?= 8090

# Of `make image`: where to push to, such as registry.example.com/sentinel:v0.1.0; nowhere without.
PUSH ?=

WASM = dist/sentinel.wasm
TINY = dist/sentinel-tiny.wasm
# Modules of their own, so that what the product is built of stays small.
MODULES = internal/image internal/board internal/kustomizecheck
STATICCHECK = $(GO) tool -modfile=$(CURDIR)/internal/tools/go.mod staticcheck
WASM_SOURCES := $(shell find plugins shared internal/wasmbuild -type f ! -name '*_test.go') go.mod go.sum

.DELETE_ON_ERROR:
.PHONY: help wasm image pull board release run demo run-cluster cluster test mesh istio check bench refusals memory latency curves profile \
	pgo scaling pictures compat java dashboard live soak fuzz tinygo testtiny citiny soaktiny clean FORCE

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo '  ENVOY_PATH=/my/envoy uses that Envoy; ENVOY_VERSION=1.39.3 another release; ENVOY_FROM=func-e its own download.'

wasm: $(WASM) ## build dist/sentinel.wasm and its .sha256; VERSION

$(WASM): $(WASM_SOURCES) dist/version
	$(GO) run ./internal/wasmbuild -version "$(VERSION)" -o $@ ./plugins

tinygo: $(TINY) ## build dist/sentinel-tiny.wasm with TinyGo, built on first use (root or Debian packages); TINYGO, TINYGO_TARGET

$(TINY): $(WASM_SOURCES) $(wildcard internal/tinygo/*) dist/version
	$(GO) run ./internal/wasmbuild -tiny -tinygo "$(TINYGO)" -tinygo-target "$(TINYGO_TARGET)" -version "$(VERSION)" -o $@ ./plugins

# Written where the version has changed, so that the binary is then built anew.
dist/version: FORCE
	@mkdir -p dist
	@version="$(or $(VERSION),$(shell git describe --tags --exact-match --match='v[0-9]*' --dirty 2>/dev/null))"; \
		[ -f $@ ] && [ "$$(cat $@)" = "$$version" ] || echo "$$version" > $@

FORCE:

image: $(WASM) $(TINY) ## write OCI images, checksums and SBOMs to dist/image/; PUSH=host/repository:tag pushes them; TINY= without TinyGo's
	$(GO) -C internal/image run . -version "$$(cat dist/version)" -push "$(PUSH)" $(WASM) $(TINY)

pull: $(WASM) $(TINY) ## Istio's own code pulls both images of both artefacts, and an Envoy runs them; builds that code first, in minutes
	$(GO) -C internal/image/pull vet ./...
	cd internal/image/pull && $(STATICCHECK) ./...
	$(GO) -C internal/image/pull mod tidy -diff
	$(GO) run ./cmd/sentinel envoy
	$(GO) -C internal/image/pull test -count=1 -v -timeout 20m ./...

release: ## write dist/release/ from a clean tree: both Wasm files, checksums, the changelog's section; VERSION, TINYGO, TINYGO_TARGET
	$(GO) run ./internal/release -version "$(VERSION)" -tiny -tinygo "$(TINYGO)" -tinygo-target "$(TINYGO_TARGET)"

# exec, so that a signal to make reaches the command itself and not a shell or `go run` around it.
run: $(WASM) ## run Envoy with the filters and a service; CONFIG, CONCURRENCY, HTTP_PORT, TCP_PORT, ADMIN_PORT, UPSTREAM_PORT
	@$(GO) build -o dist/sentinel ./cmd/sentinel
	@exec dist/sentinel run -config $(CONFIG) -wasm $(WASM) -concurrency $(CONCURRENCY) \
		-http-port $(HTTP_PORT) -tcp-port $(TCP_PORT) -admin-port $(ADMIN_PORT) -upstream-port $(UPSTREAM_PORT)

demo: $(WASM) ## show on a page what happens to a load, live; CONCURRENCY, PAGE_PORT, HTTP_PORT, ADMIN_PORT, UPSTREAM_PORT
	@$(GO) build -o dist/sentinel ./cmd/sentinel
	@exec dist/sentinel demo -wasm $(WASM) -concurrency $(CONCURRENCY) \
		-page-port $(PAGE_PORT) -http-port $(HTTP_PORT) -admin-port $(ADMIN_PORT) -upstream-port $(UPSTREAM_PORT)

run-cluster: $(WASM) ## run three Envoys with one limit, the rate limit service and Redis, and a load to see; CONCURRENCY, UPSTREAM_PORT
	@$(GO) build -o dist/runcluster ./internal/runcluster
	@exec dist/runcluster -wasm $(WASM) -concurrency $(CONCURRENCY) -upstream-port $(UPSTREAM_PORT)

# One package at a time: two Envoys under load at once would disturb each other. Not cached: Envoy and the Wasm binary
# are inputs that go test does not see.
test: $(WASM) ## run all tests, also those on a real Envoy
	$(GO) run ./cmd/sentinel envoy
	$(GO) test -count=1 -p 1 -timeout 40m ./...
	@set -e; for m in $(MODULES); do (set -x; $(GO) -C $$m test -count=1 -p 1 -timeout 10m ./...); done

# Natively with an int of 32 bits, as TinyGo has, where this machine runs such programs: records and their changes.
TEST_INT32 = [ "$$($(GO) env GOHOSTARCH)" != amd64 ] || GOARCH=386 CGO_ENABLED=0 $(GO) test -count=1 -short ./shared/record ./shared/stat \
	./shared/worker ./shared/publication ./shared/quota ./shared/rls ./shared/family/breaker ./shared/family/isolation

testtiny: export SENTINEL_ARTEFACT = tiny
testtiny: $(TINY) $(WASM) ## the end-to-end suite, a short soak and the build's tests with the artefact of TinyGo
	$(GO) run ./cmd/sentinel envoy
	$(TEST_INT32)
	$(GO) test -count=1 -p 1 -timeout 40m ./internal/tinygo ./internal/wasmbuild/... ./internal/guest ./internal/e2e
	$(GO) test -count=1 -timeout 40m ./internal/soak -run 'TestEndurance|TestDeaths' -v -soak $(SOAK)

# What of it CI runs in some six minutes: what crosses the host's boundary, what depends on time, and what ends badly. Where
# TinyGo's packages are missing and cannot be installed it says so, and that is all.
CI_TINY = TestHTTP|TestTCP|TestMetrics$$|TestBlame|TestProbe|TestResponseTime|TestRefusedCalls|TestBreakerOfTwoFilters|TestNoRuleSleeps|TestFairness|TestPanicWithoutRecover|TestSystem|TestHotspot$$|TestWarmUpExample|TestLiveRules|TestFilterDiscovery|TestSupersededFilterWakes|TestVMsLiveThroughManyUpdates|TestArtefactsShareRecords
citiny: export SENTINEL_ARTEFACT = tiny
citiny: ## what CI runs of testtiny
	@skip=$$($(GO) run ./internal/tinygo/ready) || exit 1; if [ -n "$$skip" ]; then echo "skipped: $$skip"; exit 0; fi; \
		set -ex; $(TEST_INT32); $(MAKE) tinygo wasm; $(GO) run ./cmd/sentinel envoy; \
		$(GO) test -count=1 -timeout 15m ./internal/e2e -run '$(CI_TINY)'; \
		$(GO) test -count=1 -timeout 10m ./internal/soak -run TestEndurance -v -soak -soak.wasm $(abspath $(TINY)) \
			-soak.requests 200000 -soak.connections 30000 $(SOAK)

soaktiny: export SENTINEL_ARTEFACT = tiny
soaktiny: $(TINY) ## 10,000,000 requests through the artefact of TinyGo: memory must stay flat; SOAK
	$(GO) test -count=1 -timeout 180m ./internal/soak -run TestEndurance -v -soak -soak.requests 10000000 $(SOAK)

# Modules of their own hold what the control planes need. The first build takes minutes.
mesh: $(WASM) $(TINY) ## filters put there by real control planes: Istio, Istio on Kubernetes, Envoy Gateway; needs etcd, root or user namespaces
	$(GO) -C internal/mesh vet ./...
	cd internal/mesh && $(STATICCHECK) ./...
	cd internal/mesh/programs/kube && $(GO) vet ./... && $(STATICCHECK) ./...
	$(GO) -C internal/mesh test -count=1 -p 1 -timeout 60m -v ./...

istio: $(WASM) ## the part of it with Istio in the test's process, which needs nothing
	$(GO) -C internal/mesh vet ./meshtest ./istio
	cd internal/mesh && $(STATICCHECK) ./meshtest ./istio
	$(GO) -C internal/mesh test -count=1 -timeout 40m -v ./istio

# The tools are a module of their own, so that they are pinned and nothing that is built depends on what they need.
check: ## formatting, vet, staticcheck, go.mod; changes nothing
	@unformatted=$$(gofmt -l .); [ -z "$$unformatted" ] || { echo "gofmt would change:"; echo "$$unformatted"; exit 1; }
	$(GO) vet ./...
	GOOS=wasip1 GOARCH=wasm $(GO) vet ./plugins/...
	$(STATICCHECK) ./...
	$(GO) mod tidy -diff
	@set -e; for m in $(MODULES); do (set -x; $(GO) -C $$m vet ./... && $(GO) -C $$m mod tidy -diff && \
		cd $$m && $(STATICCHECK) ./...); done
	$(GO) -C internal/tools mod tidy -diff
	$(GO) -C internal/tinygo/compiler mod tidy -diff
	$(GO) -C internal/ratelimit/server mod tidy -diff
	$(GO) -C internal/mesh mod tidy -diff
	$(GO) -C internal/mesh/programs/kube mod tidy -diff
	$(GO) -C internal/image/oras mod tidy -diff

bench: $(WASM) ## CPU per request, start and memory against other filters
	$(GO) run ./internal/bench -figures docs/figures/bench.json
	$(GO) run ./internal/pictures

refusals: $(WASM) ## CPU per refused request against other filters
	$(GO) run ./internal/bench refusals -figures docs/figures/refusals.json
	$(GO) run ./internal/pictures

memory: $(WASM) ## private memory and start of an Envoy in all, by filter and workers, after load and updates; MEMORY='-load 20s' for less
	$(GO) run ./internal/bench memory -figures docs/figures/memory.json $(MEMORY)
	$(GO) run ./internal/pictures

latency: $(WASM) ## p50 and p99 at half load against other limiters, with Redis where redis-server is installed
	$(GO) run ./internal/bench latency

curves: $(WASM) ## how cost grows with rules, resources, values and workers
	$(GO) run ./internal/bench curves -figures docs/figures/curves.json
	$(GO) run ./internal/pictures

profile: ## CPU per callback, by perf; RULES=all for every family
	$(GO) run ./internal/profile -rules $(or $(RULES),flow)

pgo: ## measure plugins/default.pgo anew, by which the compiler inlines
	$(GO) test ./shared/engine -run '^$$' -bench Entry -benchtime 3s -cpuprofile dist/engine.pprof -o dist/engine.test
	$(GO) test ./plugins/http -run '^$$' -bench Request -benchtime 3s -cpuprofile dist/http.pprof -o dist/http.test
	$(GO) tool pprof -proto dist/engine.pprof dist/http.pprof > plugins/default.pgo

scaling: $(WASM) ## what is admitted at --concurrency 1, 2, 4, 8; WINDOW=exact or fixed judges such windows
	$(GO) run ./internal/scaling $(if $(WINDOW),-window $(WINDOW),-figures docs/figures/scaling.json)
	$(if $(WINDOW),,$(GO) run ./internal/bench admitted -figures docs/figures/admitted.json)
	$(if $(WINDOW),,$(GO) run ./internal/pictures)

pictures: $(WASM) ## draw docs/img anew: natively, from docs/figures, and the demo's page where there is a Chromium
	$(GO) run ./internal/pictures
	$(GO) run ./internal/pictures demo

board: ## write envoy/observability/dashboard.json, the Grafana board
	$(GO) -C internal/board run .

compat: $(WASM) ## the whole end-to-end suite on each Envoy release; writes COMPATIBILITY.md
	$(GO) run ./internal/compat

java: ## compare rules in Java Sentinel's words with Java Sentinel 1.8.9; needs a JDK and Maven
	$(GO) test -count=1 ./internal/javaoracle -v -java

dashboard: ## the real dashboard of Sentinel shows an Envoy, and answers compared with a Java process's; needs a JDK and Maven; PICTURE=file.png
	$(GO) run ./cmd/sentinel envoy
	$(GO) test -count=1 -timeout 20m ./internal/dashboard -v -dashboard $(if $(PICTURE),-picture $(abspath $(PICTURE)))

soak: ## endurance, hostile clients, faults; SOAK='-soak.requests 10000000 -soak.connections 1000000' for long
	$(GO) test -count=1 -timeout 90m ./internal/soak -v -soak $(SOAK)

cluster: $(WASM) ## two Envoys of 4 workers and one limit, with the real rate limit service and Redis: what was admitted each second; CLUSTER=30s
	$(GO) test -count=1 -timeout 30m ./internal/e2e -run TestCluster -v -cluster $(or $(CLUSTER),15s)

live: ## rules that change every second, of real servers, while workers die
	$(GO) test -count=1 -timeout 40m ./internal/live -v -live

fuzz: ## fuzz every target for FUZZTIME each
	$(GO) run ./internal/fuzzall -fuzztime $(or $(FUZZTIME),20s)

clean: ## remove what was built here
	rm -rf dist
