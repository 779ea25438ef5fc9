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

echo "== template and state machines"
bash scripts/check_template.sh

echo "== unit tests"
go test $(go list ./... | grep -v /e2e)
