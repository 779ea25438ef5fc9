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
export CGO_ENABLED=0 GOFLAGS="${GOFLAGS:-} -trimpath -tags=lambda.norpc -ldflags=-s"
config=${CONFIG:-samconfig.toml}
case $config in /*) ;; *) config=$PWD/$config ;; esac # sam looks for it beside the template it has built
if [ -f "$config" ]; then
  "$sam" build --parallel --config-file "$config" --config-env "${ENVIRONMENT:-default}"
  "$sam" deploy --config-file "$config" --config-env "${ENVIRONMENT:-default}" --no-fail-on-empty-changeset
else
  "$sam" build --parallel
  "$sam" deploy --guided --capabilities CAPABILITY_IAM
fi
