#!/usr/bin/env bash
# Runs scripts/load/load.js by k6. With API_URL set, against that stack, as it is; else against a local stack of
# its own, which holds about 50 downloads at once and so gets 40, and whose memory is watched.
#
#   SCENARIO=ramp|spike|soak|large USERS=40 DURATION=5m P95_MS=10000 make load
#   API_URL=https://… FILE_PATH=reports/2026.pdf SHA256=… make load
#   scripts/load.sh --self-check      does each threshold go red? k6 against a stack that misbehaves
set -euo pipefail
cd "$(dirname "$0")/.."
STATE=${STATE:-.local/load} PORT=${PORT:-4586} # beside the stacks of make up and of the tests
. scripts/lib.sh
export STATE PORT

version=$(awk '$1 == "go.k6.io/k6" {print $2}' scripts/load/go.mod)
k6=$PWD/.local/k6-$version
if [ ! -x "$k6" ]; then
  say "building k6 $version (once)"
  mkdir -p .local
  (cd scripts/load && go build -o "$k6" go.k6.io/k6) || die "k6 could not be built; is there a network?"
fi
if [ "${1:-}" = --self-check ]; then
  cd scripts/load
  K6=$k6 exec go test -count=1 -v .
fi

# memory prints: MiB of the emulator, of the largest function and of all functions, and how many these are.
# A function's process is the emulator's child and called bootstrap.
memory() {
  ps -eo pid=,ppid=,rss=,args= | awk -v emulator="$(cut -d' ' -f1 "$STATE/ministack.pid")" '
    $1 == emulator {m = $3}
    $2 == emulator && /bootstrap/ {all += $3; n++; if ($3 > most) most = $3}
    END {printf "%d %d %d %d\n", m / 1024, most / 1024, all / 1024, n}'
}

watcher=
if [ -z "${API_URL:-}" ]; then
  trap '[ -z "$watcher" ] || kill "$watcher" 2>/dev/null || true; bash scripts/down.sh' EXIT
  trap 'exit 130' INT TERM
  TO_STAY='' bash scripts/up.sh
  . "$STATE/env"
  export API_URL
  case ${SCENARIO:-soak} in
    large) FILE_PATH=${FILE_PATH:-file/64MiB/load.bin} ;;
    *) FILE_PATH=${FILE_PATH:-file/64KiB/load.bin} ;;
  esac
  SHA256=${SHA256:-$(get "http://$(cat "$STATE/origin.addr")/_sha256/$FILE_PATH")}
  memory >"$STATE/memory"
  while sleep 5; do memory; done >>"$STATE/memory" &
  watcher=$!
fi

say "against $API_URL"
code=0
"$k6" run --quiet --no-usage-report -e API_URL="$API_URL" -e FILE_PATH="${FILE_PATH:-}" -e SHA256="${SHA256:-}" \
  ${SCENARIO:+-e SCENARIO="$SCENARIO"} ${USERS:+-e USERS="$USERS"} ${DURATION:+-e DURATION="$DURATION"} \
  ${P95_MS:+-e P95_MS="$P95_MS"} scripts/load/load.js || code=$?

if [ -n "$watcher" ]; then
  memory >>"$STATE/memory"
  awk '{m[NR] = $1; most[NR] = $2; all[NR] = $3; n[NR] = $4}
    function at(name, i) {printf "  %-16s emulator %d MiB; %d functions, the largest %d MiB, together %d MiB\n", name, m[i], n[i], most[i], all[i]}
    END {at("memory before", 1); if (NR > 4) {at("a quarter in", int(NR / 4) + 1); at("half way", int(NR / 2) + 1)} at("after", NR)
         print "  (the emulator keeps every file and every execution in memory, so it grows)"}' "$STATE/memory"
fi
exit $code
