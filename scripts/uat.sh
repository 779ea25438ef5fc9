#!/usr/bin/env bash
# The user acceptance test, with curl and wscat, in both orders: a client that connects while the file is being copied,
# and one that connects when the workflow waits.
#
#   scripts/uat.sh API_URL
#
# Runs against the local stack (source .local/env first) and against AWS (with credentials that may read the table and
# the execution's history, and STACK_NAME if it is not "download"). FILE_PATH is the path to request, ORIGIN_URL the
# origin's URL to compare the bytes with, and SLOW_PATH a path for which the origin takes some seconds; without it, the
# first order is left out.
set -euo pipefail
[ $# = 1 ] || { sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2; }
API_URL=${1%/}
cd "$(dirname "$0")/.."
FILE_PATH=${FILE_PATH-} SLOW_PATH=${SLOW_PATH-}
. scripts/lib.sh
export AWS_PAGER='' AWS_DEFAULT_REGION=${AWS_REGION:-${AWS_DEFAULT_REGION:-}}
bash scripts/setup.sh venv wscat
aws=.local/venv/bin/aws wscat=.local/npm/node_modules/.bin/wscat
TABLE=${TABLE:-$("$aws" cloudformation describe-stacks --stack-name "${STACK_NAME:-download}" \
  --query "Stacks[0].Outputs[?OutputKey=='ConnectionsTableName'].OutputValue" --output text)}

work=$(mktemp -d)
wscat_pid=
trap 'hang_up; rm -rf "$work"' EXIT
passed=0
ok() { passed=$((passed + 1)); echo "  ok: $*"; }

field() { python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }

# attribute NAME prints it from the item, "None" if there is no such attribute or item.
attribute() {
  "$aws" dynamodb get-item --table-name "$TABLE" --consistent-read --key "{\"executionArn\":{\"S\":\"$arn\"}}" \
    --query "Item.$1.S" --output text
}

# until_true SECONDS COMMAND… repeats the command until it succeeds.
until_true() {
  local end=$((SECONDS + $1)) printed=$SECONDS
  shift
  until "$@"; do
    [ $SECONDS -lt $end ] || return 1
    [ $((SECONDS - printed)) -lt 8 ] || { printed=$SECONDS; echo "  waiting, at most $((end - SECONDS)) s more"; }
    sleep 0.2
  done
}

ask() {
  echo "curl $API_URL/download${1:+/$1}"
  answer=$(curl -fsS --max-time 35 "$API_URL/download${1:+/$1}") # API Gateway's own limit is 29 s
  arn=$(field executionArn <<<"$answer")
  endpoint=$(field webSocketEndpoint <<<"$answer")
  status_url=$(field statusUrl <<<"$answer")
  ok "an answer at once: $arn"
}

# dial opens the socket as a person would: at a terminal, where wscat prints more, and with an input that
# stays open.
dial() {
  echo "wscat -c $endpoint -H X-StateMachine-ExecutionArn:\"$arn\""
  rm -f "$work/in"; mkfifo "$work/in"
  : >"$work/out"
  sleep 600 >"$work/in" &
  holder=$!
  python3 -c 'import pty, sys; pty.spawn(sys.argv[1:])' \
    "$wscat" --no-color -c "$endpoint" -H X-StateMachine-ExecutionArn:"$arn" <"$work/in" >"$work/out" 2>&1 &
  wscat_pid=$!
  until_true 30 shows 'Connected|error:' || true
  shows Connected || die "wscat did not connect: $(messages)"
  ok "$(shown | grep -o 'Connected.*' | head -n 1)"
}

# shown is the terminal's text without control sequences; messages is that in one line.
shown() { sed 's/\x1b\[[0-9;?]*[A-Za-z]//g; s/\r//g' "$work/out"; }
shows() { shown | grep -qE "$1"; }
messages() { shown | sed 's/^[<> ]*//' | grep -v '^$' | paste -sd ' ' || true; }

hang_up() {
  [ -n "$wscat_pid" ] || return 0
  kill "$wscat_pid" "$holder" 2>/dev/null || true
  wait "$wscat_pid" "$holder" 2>/dev/null || true
  wscat_pid=
}

# failure prints the code and message of a failed download; otherwise nothing.
failure() {
  curl -sS "$status_url" | python3 -c 'import json, sys; e = json.load(sys.stdin).get("error"); print(*([e["code"], e["message"]] if e else []))'
}
# waits_or_failed sets waits or failed.
waits_or_failed() {
  waits='' failed=''
  if has taskToken; then waits=yes; else failed=$(failure); fi
  [ -n "$waits$failed" ]
}

has() { [ "$(attribute "$1")" != None ]; }
lacks() { [ "$(attribute "$1")" = None ]; }

whole='X-Amz-Signature=[0-9a-f]{64}' # the end of a link: the terminal may show it in more than one piece

# receive PATH waits for the link, checks the item before and after the client closes, and fetches the file.
receive() {
  has connectionId || die "the item has no connectionId while the client is connected"
  ok "the item has connectionId $(attribute connectionId)"
  until_true "${WAIT_SECONDS:-60}" shows "$whole|error:" || true
  shows "$whole" || die "no link came: $(messages)"
  url=$(shown | grep -oE 'https?://[^[:space:]]+' | head -n 1)
  [ "$(shown | grep -cE 'https?://')" = 1 ] || die "more than one link came"
  ok "the signed URL, as the only message: ${url%%\?*}?…"
  hang_up
  until_true 30 lacks executionArn || die "the item is still there 30 s after the client closed"
  ok "after closing, the item is gone"
  progress "fetching the file" curl -fsS -o "$work/file" "$url"
  if [ -n "${ORIGIN_URL:-}" ]; then
    progress "fetching it from the origin" curl -fsS -o "$work/want" "$ORIGIN_URL${1:+/$1}"
    cmp "$work/want" "$work/file" || die "the URL doesn't give the origin's bytes"
    ok "the URL gives the origin's $(stat -c %s "$work/file") bytes"
  else
    ok "the URL gives $(stat -c %s "$work/file") bytes"
  fi
}

read_history() { "$aws" stepfunctions get-execution-history --execution-arn "$arn" --output json >"$work/history"; }

if [ -n "$SLOW_PATH" ]; then
  echo "== the client connects while the file is being copied"
  ask "$SLOW_PATH"
  dial
  receive "$SLOW_PATH"
  read_history
  grep -q 'ConditionalCheckFailedException' "$work/history" || # with which the wait ends at once
    die "the workflow waited, since the file was copied before the client connected: choose a SLOW_PATH for which the origin takes longer"
  ok "the workflow did not wait, as the history shows"
else
  echo "== left out: the client connects while the file is being copied; it needs SLOW_PATH, a path for which the origin takes some seconds"
fi

echo "== the workflow waits when the client connects"
ask "$FILE_PATH"
until_true "${WAIT_SECONDS:-60}" waits_or_failed || true
[ -z "$failed" ] || die "the download failed: $failed"
[ -n "$waits" ] || die "the workflow does not wait: no taskToken in the item"
ok "the workflow waits; its task token is in the item"
dial
receive "$FILE_PATH"
read_history
python3 - "$work/history" <<'EOF' || die "the history does not show that the wait was resumed"
import json, sys
events = json.load(open(sys.argv[1]))["events"]
entered = [(e.get("stateEnteredEventDetails") or {}).get("name") for e in events]
at = entered.index("Wait for the client")
resumed = [e["type"] for e in events[at:]].index("TaskSucceeded")
for e in events[at:at + resumed + 2]:
    print("   ", e["id"], e["type"], (e.get("stateEnteredEventDetails") or e.get("stateExitedEventDetails") or {}).get("name", ""))
EOF
ok "SendTaskSuccess resumed it, as the history shows"
echo "$passed passed, 0 failed$([ -n "$SLOW_PATH" ] || echo ', one order left out')"
