#!/usr/bin/env bash
# Runs one function under delve, without Docker: debug.sh FUNCTION [EVENT.json]. It has the environment of the function
# on the local stack of `make up`, and receives the event once, from its own Lambda Runtime API.
# DEBUG_PORT is the port on which delve listens.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
[ $# -ge 1 ] || die "usage: debug.sh FUNCTION [EVENT.json]"
STATE=${STATE:-.local}
function=$1
event=${2:-events/event-$function.json}
debug_port=${DEBUG_PORT:-5858}
[ -d "functions/$function" ] || die "there is no function $function; they are: $(ls -d functions/*/ | xargs -n1 basename | paste -sd ' ')"
[ -s "$event" ] || die "there is no $event"
[ -s "$STATE/env" ] || die "the local stack isn't up: make up"
. "$STATE/env"
export SAM_CLI_TELEMETRY=0 AWS_PAGER=''

dlv=v1.27.2
[ -x ".local/bin/dlv-$dlv" ] || {
  GOBIN="$PWD/.local/bin" progress "installing delve $dlv into .local/bin (once)" go install "github.com/go-delve/delve/cmd/dlv@$dlv"
  mv .local/bin/dlv ".local/bin/dlv-$dlv"
}
mkdir -p "$STATE/debug"
progress "compiling $function" go build -gcflags='all=-N -l' -o "$STATE/debug/$function" "./functions/$function"

id=$(sed -E 's/(^|-)(.)/\U\2/g' <<<"$function")Function
name=$(.local/venv/bin/aws cloudformation describe-stack-resource --stack-name "$STACK_NAME" --logical-resource-id "$id" \
  --query StackResourceDetail.PhysicalResourceId --output text)
.local/venv/bin/aws lambda get-function-configuration --function-name "$name" --query Environment.Variables --output json >"$STATE/debug/environment.json"
exec python3 scripts/debug.py ".local/bin/dlv-$dlv" "$debug_port" "$STATE/debug/$function" "$event" "$STATE/debug/environment.json"
