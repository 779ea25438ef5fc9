#!/usr/bin/env bash
# The quick part of the tests: nothing here starts the local stack.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh venv check wscat

echo "== gofmt, vet, staticcheck"
unformatted=$(gofmt -l $(git ls-files '*.go'))
[ -z "$unformatted" ] || { echo "gofmt would change: $unformatted" >&2; exit 1; }
go vet ./...
go tool staticcheck ./...

echo "== local stack"
.local/venv/bin/python scripts/local/local_test.py

echo "== types of the page's modules"
.local/npm/node_modules/.bin/tsc -p internal/page

echo "== template and state machines"
bash scripts/check_template.sh

echo "== unit tests${RACE:+, race detector, coverage}"
# The tests in events/ run the functions' binaries: there is nothing for the race detector to see.
go test ./asl ./events ./functions/... ./scripts/bench
go test ${RACE:+-race -coverprofile=.local/coverage.out -coverpkg=./internal/...} $(go list ./internal/... ./cmd/... ./scripts/... | grep -v /bench)
[ -z "${RACE:-}" ] || go tool cover -func=.local/coverage.out | tail -n 1

echo "== paths that could leave the origin's base URL, fuzzed for 10 s"
go test ./internal/origin -run '^$' -fuzz FuzzJoinInside -fuzztime 10s -parallel 2
