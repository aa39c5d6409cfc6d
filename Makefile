# All that a contributor runs; `make` alone lists it. CI runs no more than `make test` and
# one round of `make bench`. Everything fetched or built for tests lives in .cache and
# node_modules; `make clean` removes it.

.DEFAULT_GOAL := help
.PHONY: help run build test check lint bench fuzz peers postgres clean cc assets screenshots

BENCHTIME ?= 1s
FUZZTIME  ?= 30s

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: build ## build, then start the server with its demo provider; data in ./data
	bin/grantway serve --demo --data ./data

build: assets ## build bin/grantway
	go build -o bin/grantway ./cmd/grantway

# One package more at a time than there are processors: a third of the time tests wait for a browser or a database.
test: cc assets lint peers .cache/chromium ## set up and run every test, on SQLite, PostgreSQL and real authorization servers
	@$(with_postgres); \
	echo "== go test -race"; \
	$(race) go test -p $$(($$(getconf _NPROCESSORS_ONLN) + 1)) -timeout 25m $$(go list ./... | grep -v /e2e$$); \
	$(race) go test -timeout 25m ./e2e # by themselves: several hubs with thousands of callers
	@echo "== all tests passed"

check: test ## the same as test: run it before you push

lint: .cache/staticcheck ## gofmt, go vet and staticcheck only
	@echo "== gofmt"
	@bad=$$(gofmt -l .); [ -z "$$bad" ] || { echo "run gofmt -w on:" $$bad >&2; exit 1; }
	@echo "== go vet"
	@$(race) go vet ./...
	@go -C peers/fosite vet ./...
	@echo "== staticcheck"
	@$(race) .cache/staticcheck ./...

assets: internal/console/static/icons.svg ## fetch what the console takes from npm, and put it where it is embedded

screenshots: assets .cache/chromium ## draw every page of the console into docs/screenshots
	GRANTWAY_SCREENSHOTS="$(CURDIR)/docs/screenshots" go test ./internal/console -run TestScreenshots -count=1

bench: assets peers .cache/references ## run every benchmark for BENCHTIME (1s)
	@$(with_postgres); \
	echo "== benchmarks"; \
	go test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) -timeout 30m -p 1 ./...

fuzz: ## run every fuzz target for FUZZTIME (30s)
	@set -e; listed=$$(go test -list '^Fuzz' ./...); echo "$$listed" | \
	awk '/^Fuzz/ { t[n++] = $$1 } /^ok/ { for (i = 0; i < n; i++) print $$2, t[i]; n = 0 }' | \
	while read -r package target; do \
		echo "== $$package $$target"; \
		go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$package"; \
	done

peers: .cache/fosite .cache/openbao .cache/dovecot peers/oidc-provider/node_modules/.package-lock.json peers/oauth-clients/node_modules/.package-lock.json ## set up the servers of other people that the tests talk to

postgres: ## start a throw-away PostgreSQL: eval "$(make -s postgres)"; scripts/postgres stop ends it
	@scripts/postgres start

clean: ## remove what was built or fetched; ./data is yours and stays
	rm -rf bin .cache peers/oidc-provider/node_modules peers/oauth-clients/node_modules internal/console/assets/node_modules
	find internal/console/static -type f ! -name README -delete

# with_postgres gives the rest of a recipe a PostgreSQL of its own, and stops it whatever happens.
with_postgres = set -e; \
	echo "== starting PostgreSQL"; \
	unset GRANTWAY_TEST_POSTGRES_DIR; \
	vars=$$(scripts/postgres start); eval "$$vars"; \
	trap 'trap "" INT TERM; scripts/postgres stop' EXIT; trap 'exit 130' INT TERM

# With the race detector. SQLite in Go and the hashing of passwords, neither of them ours, are most of what runs
# in tests, and take ten times as long when it watches them. lint has the same flags, so that all is compiled once.
race = GOFLAGS='-race -gcflags=modernc.org/...=-race=false -gcflags=golang.org/x/crypto/argon2=-race=false'

# The race detector wants a C compiler and the C library's headers.
cc:
	@has_cc() { echo '#include <stdlib.h>' | $$(go env CC) -E - >/dev/null 2>&1; }; \
	has_cc || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends gcc libc6-dev && has_cc; } || { \
		echo "make test: go test -race wants a C compiler and headers: install gcc and libc6-dev" >&2; exit 1; }

.cache/staticcheck: tools/go.mod tools/go.sum
	@echo "== building staticcheck"
	@go -C tools build -o ../.cache/staticcheck honnef.co/go/tools/cmd/staticcheck

.cache/fosite: $(wildcard peers/fosite/*.go) peers/fosite/go.mod peers/fosite/go.sum
	@echo "== building the fosite peer"
	@go -C peers/fosite build -o ../../.cache/fosite .

.cache/openbao: $(shell find peers/openbao -type f)
	@echo "== building OpenBao (once, some minutes)"
	@go -C peers/openbao build -o ../../.cache/openbao .

peers/oidc-provider/node_modules/.package-lock.json: peers/oidc-provider/package.json peers/oidc-provider/package-lock.json
	@command -v npm >/dev/null || { echo "make peers: npm is missing; install Node 20.19 or newer" >&2; exit 1; }
	@echo "== installing the oidc-provider peer"
	@cd peers/oidc-provider && npm ci --no-audit --no-fund --ignore-scripts --loglevel=error

peers/oauth-clients/node_modules/.package-lock.json: peers/oauth-clients/package.json peers/oauth-clients/package-lock.json
	@command -v npm >/dev/null || { echo "make peers: npm is missing; install Node 20.19 or newer" >&2; exit 1; }
	@echo "== installing the OAuth clients of other people"
	@cd peers/oauth-clients && npm ci --no-audit --no-fund --ignore-scripts --loglevel=error

internal/console/assets/node_modules/.package-lock.json: internal/console/assets/package.json internal/console/assets/package-lock.json
	@command -v npm >/dev/null || { echo "make assets: npm is missing; install Node 20.19 or newer" >&2; exit 1; }
	@echo "== installing the console's assets"
	@cd internal/console/assets && npm ci --no-audit --no-fund --ignore-scripts --loglevel=error

internal/console/static/icons.svg: internal/console/assets/node_modules/.package-lock.json internal/console/assets/build.mjs $(wildcard internal/console/page/*.html internal/console/*.go)
	@node internal/console/assets/build.mjs

# nginx and Caddy, beside which make bench measures the proxy.
.cache/references: scripts/references
	@scripts/references $@
	@touch $@

# The IMAP server that takes our tokens.
.cache/dovecot: scripts/dovecot
	@mkdir -p .cache; path=$$(scripts/dovecot) && ln -sfn "$$path" .cache/dovecot

# The browser that the tests of the console drive.
.cache/chromium: scripts/chromium
	@mkdir -p .cache; path=$$(scripts/chromium) && ln -sfn "$$path" .cache/chromium
