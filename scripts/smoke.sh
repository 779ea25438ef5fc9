#!/usr/bin/env bash
# The first test of a deployed stack: smoke.sh API_URL. Needs Go, and for some checks credentials that may read the stack
# and change the concurrency of FetchFunction. Checks that lack something are left out, and reported.
# scripts/cloud/smoke.py has the checks, and the variables that name the origin's files.
set -euo pipefail
[ $# = 1 ] || { sed -n '2,4s/^# \{0,1\}//p' "$0" >&2; exit 2; }
cd "$(dirname "$0")/.."
bash scripts/setup.sh deploy
. scripts/lib.sh
mkdir -p bin
progress "building bin/download" go build -trimpath -o bin/ ./cmd/download
exec .local/deploy/bin/python scripts/cloud smoke "$1"
