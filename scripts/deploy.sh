#!/usr/bin/env bash
# Builds the app and deploys it to AWS with the account and region of the environment. Asks for the
# parameters unless there is a samconfig.toml, which the first run writes. ENVIRONMENT names its section,
# CONFIG another file.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh venv
sam=.local/venv/bin/sam
command -v sam >/dev/null && sam=sam
export SAM_CLI_TELEMETRY=0
# Without --cached: that looks for changes in a function's own folder alone, and internal/ would be deployed as it was.
CGO_ENABLED=0 GOFLAGS="${GOFLAGS:-} -trimpath -tags=lambda.norpc -ldflags=-s" "$sam" build --parallel
if [ -f samconfig.toml ]; then
  "$sam" deploy --config-env "${ENVIRONMENT:-default}" --no-fail-on-empty-changeset
else
  "$sam" deploy --guided --capabilities CAPABILITY_IAM
fi
