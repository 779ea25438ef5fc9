#!/usr/bin/env bash
# Everything CI runs, or only the parts named: test.sh [go] [template] [security] [model] [e2e]. With QUICK=1, without the
# race detector and fuzzing.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
# As sam build compiles the functions, so that each package is compiled once for all of it. go vet runs once, for all
# packages, and not again in each go test.
export CGO_ENABLED=0 GOFLAGS="${GOFLAGS:-} -trimpath -vet=off"

test_go() {
  echo "== gofmt, vet, staticcheck"
  unformatted=$(gofmt -l $(git ls-files '*.go'))
  [ -z "$unformatted" ] || die "gofmt would change: $unformatted"
  go vet ./...
  go tool staticcheck ./...
  echo "== Go tests"
  local packages concurrent
  packages=$(go list ./... | grep -vE '/(e2e|model)(/|$)')
  if [ -n "${QUICK:-}" ]; then go test $packages; return; fi
  # The race detector is for packages that start goroutines or share data between them. The tests in functions/ run the
  # binaries, in which it would see nothing.
  concurrent=$(git grep -lE '^\s*go |\.Go\(|"sync(/atomic)?"' -- 'internal/*.go' 'cmd/*.go' | xargs -n 1 dirname |
    sort -u | sed 's|^|async-download/|')
  go test $(grep -vxF "$concurrent" <<<"$packages")
  # -short leaves out, or makes small, what the race detector would only slow down; the next line has that. The time-outs
  # are for tests that hang, not for slow machines.
  CGO_ENABLED=1 go test -race -short -timeout 25m $(grep -xF "$concurrent" <<<"$packages")
  go test -timeout 25m -run 'TestEveryOrder|TestHistories|TestFileReplacedMidCopy|TestFlakyOrigin|TestKilled$|TestInstalledServers|TestMemory|TestLarge' \
    ./internal/meeting ./internal/transfer ./cmd/copyurl ./cmd/download
  echo "== paths that could leave the origin's base URL, fuzzed for 10 s"
  go test ./internal/origin -run '^$' -fuzz FuzzJoinInside -fuzztime 10s -parallel 2
}

test_template() {
  bash scripts/setup.sh venv check deploy wscat
  echo "== make up, make deploy, make destroy"
  .local/venv/bin/python scripts/local/local_test.py
  .local/deploy/bin/python scripts/cloud/cloud_test.py
  echo "== types of the page's modules"
  .local/npm/node_modules/.bin/tsc -p internal/page
  echo "== template and state machines"
  bash scripts/check_template.sh
}

test_security() {
  echo "== checkov, gosec, govulncheck"
  bash scripts/security.sh
}

test_model() {
  bash scripts/packages.sh
  echo "== the protocol's model"
  go test -count=1 -timeout 30m -v ./model
}

test_e2e() {
  bash scripts/packages.sh
  bash scripts/setup.sh venv contract deploy wscat
  echo "== the page, in Chromium"
  go test -count=1 -timeout 10m -v ./e2e/page
  echo "== end to end, on the local stack"
  go test -count=1 -timeout 45m -v ./e2e
}

[ $# -gt 0 ] || set -- go template security model e2e
for part in "$@"; do
  declare -F "test_$part" >/dev/null || die "there is no part $part"
  "test_$part"
done
