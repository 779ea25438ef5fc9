#!/usr/bin/env bash
# The first test of a deployed stack: smoke.sh API_URL. Needs curl, Go, and credentials that may read the stack; for the
# check of a throttled worker, also those to change its function's concurrency. What is missing is left out, and named.
# scripts/cloud/smoke.py says what is checked, and by which variables the origin's files are chosen.
set -euo pipefail
[ $# = 1 ] || { sed -n '2,4s/^# \{0,1\}//p' "$0" >&2; exit 2; }
cd "$(dirname "$0")/.."
bash scripts/setup.sh deploy
. scripts/lib.sh
mkdir -p bin
progress "building bin/download" go build -trimpath -o bin/ ./cmd/download
exec .local/deploy/bin/python scripts/cloud smoke "$1"
