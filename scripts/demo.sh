#!/usr/bin/env bash
# From nothing to a downloaded file: sets up, starts the local stack, deploys the app, downloads a file
# through it, compares SHA-256, shows the states that ran, and leaves nothing running.
set -euo pipefail
cd "$(dirname "$0")/.."
STATE=${STATE:-.local/demo}
. scripts/lib.sh
export STATE PORT
trap 'bash scripts/down.sh' EXIT
trap 'exit 130' INT TERM

TO_STAY='' bash scripts/up.sh
. "$STATE/env"
go build -o bin/ ./cmd/download

file=report.bin
say "GET $API_URL/download"
rm -rf "$STATE/downloaded"
mkdir -p "$STATE/downloaded"
bin/download -o "$STATE/downloaded/$file" "$API_URL"

want=$(get "http://$(cat "$STATE/origin.addr")/_sha256/")
have=$(python3 -c 'import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())' "$STATE/downloaded/$file")
say "origin's SHA-256 $want"
say "file's SHA-256   $have"

arn=$(.local/venv/bin/aws stepfunctions list-executions --state-machine-arn "$STATE_MACHINE_ARN" --query 'executions[0].executionArn' --output text)
say "the execution's states, by get-execution-history:"
.local/venv/bin/aws stepfunctions get-execution-history --execution-arn "$arn" \
  --query 'events[?stateEnteredEventDetails].stateEnteredEventDetails.name' --output text | tr '\t' '\n' | sed 's/^/  /'

[ "$have" = "$want" ] || die "the file is not what the origin has"
say "the file came through whole"
