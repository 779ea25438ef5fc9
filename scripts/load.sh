#!/usr/bin/env bash
# Runs scripts/load/load.js by k6. With API_URL set, against that stack; else against a local stack of its
# own, which holds about 50 downloads at once and so gets 40.
#
#   SCENARIO=ramp|spike|soak|large USERS=40 DURATION=5m FILE_PATH=… SHA256=… make load
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
local=
if [ -z "${API_URL:-}" ]; then
  local=1
  STATE=.local/load
  export STATE PORT
  trap 'bash scripts/down.sh' EXIT
  trap 'exit 130' INT TERM
  bash scripts/up.sh
  . "$STATE/env"
  export API_URL
  case ${SCENARIO:-soak} in
    large) export FILE_PATH=${FILE_PATH:-file/64MiB/load.bin} ;;
    *) export FILE_PATH=${FILE_PATH:-file/64KiB/load.bin} ;;
  esac
  SHA256=$(curl -fsS "http://$(cat "$STATE/origin.addr")/_sha256/$FILE_PATH")
  export SHA256
fi
if [ ! -x .local/k6 ]; then
  say "building k6 (once)"
  (cd scripts/load && go build -o ../../.local/k6 go.k6.io/k6) || die "k6 could not be built; is there a network?"
fi

# The functions' memory, before and after, in MiB: the largest of each.
memory() { ps -eo rss=,args= | awk -v s="$PWD/$STATE" '/bootstrap/ {if ($1 > m) m = $1} END {printf "%d", m / 1024}'; }
[ -z "$local" ] || before=$(memory)
code=0
.local/k6 run --quiet --no-usage-report ${SCENARIO:+-e SCENARIO="$SCENARIO"} ${USERS:+-e USERS="$USERS"} ${DURATION:+-e DURATION="$DURATION"} \
  -e API_URL="$API_URL" -e FILE_PATH="${FILE_PATH:-}" -e SHA256="${SHA256:-}" scripts/load/load.js || code=$?
[ -z "$local" ] || say "largest function: $before MiB before, $(memory) MiB after"
exit $code
