# The targets install what they need (Debian, as root). The tests leave vet to lint.

STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
GORELEASER  = github.com/goreleaser/goreleaser/v2@v2.15.1
GO_TEST     = go test -race -vet=off -timeout 60m

# The API's tests run again with each other store and each other wire. They have run with the race detector before, and so have the stores: it
# makes them five times slower. go test does not notice that their variables differ, hence -count=1.
VARIANTS = test-api-disk-tls test-api-sparse-h2 test-api-nats
API_TEST = go test -vet=off -count=1 -timeout 60m ./api
MODULES  = test/cluster test/browser test/interop test/mqtt test/acme test/middleware examples/cluster

.PHONY: all test lint fuzz bench bench-cluster bench-mqtt needs web-tools build traefik snapshot test-packages test-hub $(VARIANTS)

all: lint test

build: ## the binary, in bin/
	go build -o bin/watchbox ./cmd/watchbox

# Those of a cluster mostly wait, and take longest: they begin first, beside those that take the processors. The others follow. More at once
# would not be faster: two processors are busy with these.
test: needs ## all tests, with the race detector; WATCHBOX_TEST_SCALE=10 makes the random and crash tests of store/disk longer
	@test -x bin/traefik || echo 'test/proxies: Traefik is not tested ("make traefik" builds it)'
	@$(MAKE) --no-print-directory -j3 --output-sync=target test-module/test/cluster test-hub $(MODULES:%=test-module/%) $(VARIANTS)
	@test -z "$(WATCHBOX_TEST_PACKAGES)" || $(MAKE) test-packages

test-hub:
	$(GO_TEST) ./store/... ./cmd/... ./...
test-api-disk-tls:
	WATCHBOX_TEST_STORE=disk WATCHBOX_TEST_WIRE=tls $(API_TEST)
test-api-sparse-h2:
	WATCHBOX_TEST_STORE=sparse WATCHBOX_TEST_WIRE=h2 $(API_TEST)
test-api-nats:
	WATCHBOX_TEST_STORE=nats test/cluster/with-nats $(API_TEST)

test-module/%:
	cd $* && $(GO_TEST) ./...
test-module/test/mqtt: GO_TEST += -count=1 # the hub is a program there, whose changes go test does not notice

snapshot: ## everything of a release, in dist/, without publishing; the first run takes about ten minutes
	go run $(GORELEASER) release --snapshot --clean

test-packages: snapshot ## checks the packages in a Debian system; also part of: make test WATCHBOX_TEST_PACKAGES=1
	@for p in debootstrap:debootstrap rpm:rpm systemd-nspawn:systemd-container; do \
		command -v $${p%:*} >/dev/null || missing="$$missing $${p#*:}"; \
	done; \
	test -z "$$missing" || { apt-get update -qq && apt-get install -y -qq $$missing >/dev/null; }
	test/packages/run dist

lint: web-tools ## formatting, vet for three systems, staticcheck, the types of the page's scripts
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); exit 1; }
	go vet ./...
	GOOS=darwin go vet ./...
	GOOS=windows go vet ./...
	go run $(STATICCHECK) ./...
	cd test/browser && go run $(STATICCHECK) ./...
	for dir in bench bench/cluster bench/mqtt $(MODULES); do (cd $$dir && go vet ./...) || exit; done
	cd test/web && node_modules/.bin/tsc -p .

fuzz: ## each fuzz target for 20s, or as in: make fuzz FUZZTIME=5m
	.ci/fuzz $(or $(FUZZTIME),20s)

bench: build ## the table of docs/PERFORMANCE.md; takes a quarter of an hour on an idle machine
	cd bench && go build -o ../bin/ ./cmd/... && cd peers && go build -o ../../bin/ ./...
	bin/compare -bin bin

bench-cluster: ## the table for hubs with NATS; takes ten minutes on an idle machine
	cd bench/cluster && go run .

bench-mqtt: ## the table for MQTT, beside mosquitto; takes ten minutes on an idle machine
	@command -v mosquitto >/dev/null || { apt-get update -qq && apt-get install -y -qq mosquitto >/dev/null; }
	cd bench/mqtt && go run .

traefik: ## Traefik, in bin/, for test/proxies; takes several minutes
	cd test/proxies/traefik && go build -trimpath -ldflags '-s -w' -o ../../../bin/ github.com/traefik/traefik/v3/cmd/traefik

web-tools: # installs what checks the page; users need none of it
	@command -v npm >/dev/null || { apt-get update -qq && apt-get install -y -qq npm >/dev/null; }
	@cd test/web && { test node_modules -nt package-lock.json || { npm ci --silent --no-fund --no-audit && touch node_modules; }; }

needs: # installs what the tests need besides Go
	@for p in caddy:caddy chromium:chromium curl:curl fish:fish ip:iproute2 mandoc:mandoc mosquitto_pub:mosquitto-clients nginx:nginx-light node:nodejs npm:npm openssl:openssl zsh:zsh; do \
		command -v $${p%:*} >/dev/null || missing="$$missing $${p#*:}"; \
	done; \
	test -z "$$missing" || { apt-get update -qq && apt-get install -y -qq $$missing >/dev/null; }
	@$(MAKE) --no-print-directory web-tools
	@for dir in test/interop/testdata test/mqtt/testdata; do \
		(cd $$dir && { test node_modules -nt package-lock.json || { npm ci --silent --no-fund --no-audit && touch node_modules; }; }) || exit; \
	done
