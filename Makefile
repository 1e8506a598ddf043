# The commands of everyday work. CI runs "lint" and "test", and nothing else.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

# Long enough for a slow machine, short enough to see what hangs.
TEST_TIMEOUT ?= 10m

# The linter has a module file of its own, with checksums: the program's go.mod stays free
# of it, and everybody runs the same one.
STATICCHECK := go tool -modfile=.ci/tools.mod staticcheck

GO_DIRS := cmd httpapi sessions web/*.go ws

# What "tandem version" says; empty where it cannot be known.
VERSION ?= $(shell cmd/tandem/dist/version.sh)

.PHONY: build run test fmt lint bench microbench fuzz soak dist dist-check page browser python

## build: bin/tandem, with the page in it
build: page
	go build -trimpath -ldflags '-X main.linked=$(VERSION)' -o bin/tandem ./cmd/tandem

## run: build, then serve on loopback; ARGS are passed on
run: build
	exec bin/tandem serve $(ARGS)

## test: everything
test: build browser python
	go test -race -shuffle=on -timeout $(TEST_TIMEOUT) ./...
	npm --prefix web test
	npm --prefix web run test:browser

## fmt: format the sources
fmt:
	gofmt -w $(GO_DIRS)

## lint: formatting, go vet and staticcheck; and that it still compiles for macOS
lint:
	@unformatted=$$(gofmt -l $(GO_DIRS)); if [ -n "$$unformatted" ]; then echo "not formatted, run 'make fmt':" $$unformatted >&2; exit 1; fi
	go vet ./...
	GOOS=darwin go vet ./...
	$(STATICCHECK) ./...

# How much to measure, and whom beside it: BENCH="--peer http://127.0.0.1:44772". What is
# done without it must take less than two minutes, so that it is done often.
BENCH ?= --short
## bench: measure the program from outside, as clients meet it
bench: build
	go run ./cmd/tandem-bench --bin bin/tandem $(BENCH)

## microbench: the benchmarks in the packages
microbench:
	go test -run '^$$' -bench . -benchmem ./...

# The fuzz targets, each for so long, beginning with what is kept in testdata/fuzz.
FUZZ_TIME ?= 5s
## fuzz: look for inputs that break a parser or the journal
fuzz:
	@for package in ./cmd/tandem ./httpapi ./sessions ./ws; do \
		for target in $$(go test -list '^Fuzz' $$package | grep '^Fuzz'); do \
			echo "$$package $$target"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZ_TIME) $$package >"$${TMPDIR:-/tmp}/fuzz.$$$$" 2>&1 || \
				{ cat "$${TMPDIR:-/tmp}/fuzz.$$$$"; rm -f "$${TMPDIR:-/tmp}/fuzz.$$$$"; exit 1; }; \
			rm -f "$${TMPDIR:-/tmp}/fuzz.$$$$"; \
		done; \
	done

# How long, and what chance is to begin with: SOAK="-for 10m -seed 7".
SOAK ?= -for 2m
## soak: mixed clients and faults against the program with the race detector in it
soak:
	@bin=$$(mktemp -d); trap 'rm -rf "$$bin"' EXIT; \
	go build -race -o "$$bin/tandem" ./cmd/tandem; go build -o "$$bin/soak" ./cmd/tandem-soak; \
	"$$bin/soak" -bin "$$bin/tandem" $(SOAK)

# The time that everything in dist has.
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null)
DIST_ARCHS ?= amd64 arm64
## dist: programs, archives and packages to hand out, and their checksums, into dist
dist: page
	@[ -e web/dist/index.html ] || { echo "the page is to be part of it: install Node 20 or newer, with npm" >&2; exit 1; }
	VERSION='$(VERSION)' SOURCE_DATE_EPOCH='$(SOURCE_DATE_EPOCH)' cmd/tandem/dist/build.sh dist $(DIST_ARCHS)

## dist-check: that dist made twice from the same commit, in two places, is the same to the bit
dist-check:
	cmd/tandem/dist/check.sh

# The browser that the page is tested in.
CHROMIUM ?= /usr/bin/chromium
export CHROMIUM
browser:
	@[ -x "$(CHROMIUM)" ] || { command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ] && apt-get -qq update && apt-get -qq install -y --no-install-recommends chromium >/dev/null; } || \
		{ echo "the page is tested in Chromium: install it (Debian: apt-get install chromium), or say with CHROMIUM=PATH where it is" >&2; exit 1; }

# What the Python client is tested with.
python:
	@command -v python3 >/dev/null || { command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ] && apt-get -qq update && apt-get -qq install -y --no-install-recommends python3 >/dev/null; } || \
		{ echo "the Python client is tested with python3, 3.9 or newer: install it (Debian: apt-get install python3)" >&2; exit 1; }

# The page is built where it can be: the program works without it.
ifeq ($(shell command -v npm),)
page:
	@echo "npm is not here: building without the page" >&2
else
page: web/node_modules/.package-lock.json
	npm --prefix web run build

web/node_modules/.package-lock.json: web/package.json web/package-lock.json
	npm --prefix web ci --no-audit --no-fund
	@touch $@
endif
