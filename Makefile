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

.PHONY: build run test fmt lint bench page

## build: bin/tandem, with the page in it
build: page
	go build -trimpath -o bin/tandem ./cmd/tandem

## run: build, then serve on loopback; ARGS are passed on
run: build
	exec bin/tandem serve $(ARGS)

## test: everything
test: page
	go test -race -shuffle=on -timeout $(TEST_TIMEOUT) ./...

## fmt: format the sources
fmt:
	gofmt -w $(GO_DIRS)

## lint: formatting, go vet and staticcheck; and that it still compiles for macOS
lint:
	@unformatted=$$(gofmt -l $(GO_DIRS)); if [ -n "$$unformatted" ]; then echo "not formatted, run 'make fmt':" $$unformatted >&2; exit 1; fi
	go vet ./...
	GOOS=darwin go vet ./...
	$(STATICCHECK) ./...

## bench: the benchmarks
bench:
	go test -run '^$$' -bench . -benchmem ./...

# The page is built where it can be: the program works without it.
ifeq ($(wildcard web/package.json),)
page:
else
page: web/node_modules/.package-lock.json
	npm --prefix web run build

web/node_modules/.package-lock.json: web/package.json web/package-lock.json
	@command -v npm >/dev/null || { echo "npm is needed to build the page; 'go build ./cmd/tandem' builds the program without it" >&2; exit 1; }
	npm --prefix web ci
	@touch $@
endif
