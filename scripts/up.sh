#!/usr/bin/env bash
# Starts the local stack, builds the app and deploys it there; run again, it updates both in place.
# Writes .local/env, a file to source. ORIGIN_URL is the origin, by default a generated file served here.
# Any other stack parameter comes from PARAMETERS, e.g. PARAMETERS='ClientTimeoutSeconds=5 LinkExpirySeconds=60';
# what isn't named there has the template's default, also if an earlier start named it.
# TO_STAY is empty where another script stops it again.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

[[ $PORT =~ ^[0-9]+$ ]] || die "PORT must be a number, not $PORT"
if running ministack && [ -s "$STATE/port" ] && [ "$(cat "$STATE/port")" != "$PORT" ]; then
  die "the local stack is up on $(cat "$STATE/port"); make down first"
fi

bash scripts/setup.sh venv
mkdir -p bin "$STATE/tmp"
# shellcheck disable=SC2086  # parameters are words
.local/venv/bin/python - ${PARAMETERS:-} >"$STATE/parameters" <<'EOF' || exit 1
import sys
from samcli.yamlhelper import yaml_parse
known = yaml_parse(open("template.yaml").read())["Parameters"]
values = {name: str(p["Default"]) for name, p in known.items() if "Default" in p}
for name, equals, value in (word.partition("=") for word in sys.argv[1:]):
    if not equals:
        sys.exit(f"up: PARAMETERS has {name!r}, want Name=value")
    if name not in known:
        sys.exit(f"up: there is no parameter {name}")
    if known[name]["Type"] == "Number" and not value.isdigit():
        sys.exit(f"up: {name} must be a number, not {value!r}")
    values[name] = value
for name, value in values.items():
    print(f"{name}={value}" if value else f'{name}=""')
EOF
go build -o bin/ ./cmd/origin

if ! running ministack; then
  free_port "$PORT" "the local stack"
  # A clean environment: its functions inherit it. AWS_ENDPOINT_URL reaches them from here, AUTH has
  # their roles enforced, and nothing but loopback listens.
  start ministack env -i PATH="$PATH" HOME="$PWD/$STATE" TMPDIR="$PWD/$STATE/tmp" \
    AWS_ENDPOINT_URL="$AWS_ENDPOINT_URL" GATEWAY_PORT="$PORT" BIND_HOST=127.0.0.1 AUTH=true \
    SFTP_ENABLED=0 IOT_MTLS_ENABLED=0 .local/venv/bin/python scripts/local_aws.py
  echo "$PORT" >"$STATE/port"
  wait_for ministack get "$AWS_ENDPOINT_URL/_ministack/ready"
fi

if [ -z "${ORIGIN_URL:-}" ]; then
  if ! running origin; then
    rm -f "$STATE/origin.addr"
    start origin bin/origin -listen 127.0.0.1:0 -addr-file "$STATE/origin.addr"
    wait_for origin test -s "$STATE/origin.addr"
  fi
  ORIGIN_URL=http://$(cat "$STATE/origin.addr")
  slow_path='file/6MB/slow.bin?delay=6s' # for uat.sh
fi

say "building"
# Without --cached: that looks for changes in a function's own folder alone, and internal/ would be deployed as it was.
architecture=$(uname -m | sed 's/aarch64/arm64/')
CGO_ENABLED=0 GOFLAGS="${GOFLAGS:-} -trimpath -tags=lambda.norpc -ldflags=-s" \
  quietly build .local/venv/bin/sam build --parallel --build-dir "$STATE/build" --parameter-overrides "Architecture=$architecture"

# The emulator ignores TimeoutSecondsPath and would wait for ever; it gets the number itself.
timeout=$(sed -n 's/^ClientTimeoutSeconds=//p' "$STATE/parameters")
.local/venv/bin/python - "$STATE" "$timeout" <<'EOF'
import json, re, sys
state, timeout = sys.argv[1:]
machine = json.load(open("asl/download.asl.json"))
wait = machine["States"]["Wait for the client"]
assert wait.pop("TimeoutSecondsPath") == "$.clientTimeoutSeconds"
wait["TimeoutSeconds"] = int(timeout)
json.dump(machine, open(f"{state}/build/download.asl.json", "w"))
template = open(f"{state}/build/template.yaml").read()
template, n = re.subn(r"\S*asl/download\.asl\.json", "download.asl.json", template)
assert n == 1
open(f"{state}/build/template.yaml", "w").write(template)
EOF

say "deploying"
# All are named, as CloudFormation keeps the value of one that isn't; the last one that names it wins.
# shellcheck disable=SC2046,SC2086  # parameters are words
quietly deploy .local/venv/bin/sam deploy --template "$STATE/build/template.yaml" --stack-name "$STACK_NAME" --resolve-s3 --capabilities CAPABILITY_IAM \
  --no-confirm-changeset --no-fail-on-empty-changeset --no-progressbar --parameter-overrides \
  $(cat "$STATE/parameters") "OriginUrl=$ORIGIN_URL" "LocalEndpoint=$AWS_ENDPOINT_URL" "Architecture=$architecture" ${PARAMETERS:-}

# The emulator drops the table's time to live.
outputs=$(.local/venv/bin/aws cloudformation describe-stacks --stack-name "$STACK_NAME" --query 'Stacks[0].Outputs[].[OutputKey,OutputValue]' --output text)
output() { awk -v key="$1" '$1 == key {print $2}' <<<"$outputs"; }
.local/venv/bin/aws dynamodb update-time-to-live --table-name "$(output ConnectionsTableName)" \
  --time-to-live-specification Enabled=true,AttributeName=expiresAt >/dev/null 2>&1 || true # refused when it is on

cat >"$STATE/env" <<EOF
export AWS_ENDPOINT_URL=$AWS_ENDPOINT_URL
export AWS_ACCESS_KEY_ID=test
export AWS_SECRET_ACCESS_KEY=test
export AWS_REGION=$AWS_REGION
export AWS_DEFAULT_REGION=$AWS_REGION
export API_URL=$(output DownloadApiUrl)
export WEBSOCKET_ENDPOINT=$(output WebSocketEndpoint)
export BUCKET=$(output BucketName)
export TABLE=$(output ConnectionsTableName)
export STATE_MACHINE_ARN=$(output DownloadStateMachineArn)
export STACK_NAME=$STACK_NAME
export SLOW_PATH=$(printf %q "${slow_path:-}")
# For aws and wscat; behind all others, so that python3 stays what it is.
export PATH="\$PATH":$(printf %q "$PWD/.local/venv/bin:$PWD/.local/npm/node_modules/.bin")
EOF
say "ready: the origin is $ORIGIN_URL, the API $(output DownloadApiUrl)${TO_STAY-; source $STATE/env}"
