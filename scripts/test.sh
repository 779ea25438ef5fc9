#!/usr/bin/env bash
# Everything CI runs.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/packages.sh
RACE=1 bash scripts/check.sh
echo "== checkov, gosec"
bash scripts/security.sh
echo "== the protocol's model"
go test -count=1 -timeout 30m -v ./model
echo "== end to end, on the local stack"
go test -count=1 -timeout 45m -v ./e2e
