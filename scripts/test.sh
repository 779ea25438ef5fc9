#!/usr/bin/env bash
# Everything CI runs.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/packages.sh
bash scripts/check.sh
echo "== race detector, coverage"
go test -race -coverprofile=.local/coverage.out -coverpkg=./internal/... $(go list ./... | grep -v -e /e2e -e /events -e /model)
go tool cover -func=.local/coverage.out | tail -n 1
echo "== end to end, on the local stack"
go test -count=1 -timeout 20m -v ./e2e
