#!/usr/bin/env bash
# Runs scripts/load/load.js with k6: against the stack of API_URL, which after `source .local/env` is the local one, or else
# against a separate local stack, whose memory is measured. A local stack handles about 50 concurrent downloads, so the
# defaults are 40 users and a small file.
#
#   SCENARIO=ramp|spike|soak|large|http USERS=40 DURATION=5m P95_MS=10000 make load
#   API_URL=https://… FILE_PATH=reports/2026.pdf SHA256=… make load
#   scripts/load.sh --self-check      does each threshold go red? k6 against a stack that misbehaves
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

version=$(awk '$1 == "go.k6.io/k6" {print $2}' scripts/load/go.mod)
k6=$PWD/.local/k6-$version
if [ ! -x "$k6" ]; then
  mkdir -p .local
  progress "building k6 $version (once)" go build -C scripts/load -o "$k6" go.k6.io/k6 || die "k6 could not be built; is there a network?"
fi
if [ "${1:-}" = --self-check ]; then
  cd scripts/load
  K6=$k6 exec go test -count=1 -v .
fi

# memory prints the MiB of the emulator, of the largest function, and of all functions, and the number of functions.
# A function's process is the emulator's child and called bootstrap.
memory() {
  ps -eo pid=,ppid=,rss=,args= | awk -v emulator="$(grep -oE '"pid": [0-9]+' "$STATE/ministack.lock" | grep -oE '[0-9]+')" '
    $1 == emulator {m = $3}
    $2 == emulator && /bootstrap/ {all += $3; n++; if ($3 > most) most = $3}
    END {printf "%d %d %d %d\n", m / 1024, most / 1024, all / 1024, n}'
}

began=
if [ -z "${API_URL:-}" ]; then
  export STATE=${STATE:-.local/load} PORT=${PORT:-4586} # beside the stacks of make up and of the tests
  trap 'trap - EXIT; kill $(jobs -p) 2>/dev/null || true; python3 scripts/local down' EXIT
  trap 'exit 130' INT TERM
  python3 scripts/local up
  . "$STATE/env"
  began=1
fi
if [ -n "${DEMO_ORIGIN:-}" ]; then # the local stack with its own origin
  case ${SCENARIO:-soak} in
    large) FILE_PATH=${FILE_PATH:-file/64MiB/load.bin} ;;
    *) FILE_PATH=${FILE_PATH:-file/64KiB/load.bin} ;;
  esac
  SHA256=${SHA256:-$(python3 -c 'import sys, urllib.request as u; print(u.build_opener(u.ProxyHandler({})).open(sys.argv[1], timeout=10).read().decode())' \
    "$DEMO_ORIGIN/_sha256/$FILE_PATH")}
fi
if [ -n "$began" ]; then
  memory >"$STATE/memory"
  while sleep 5; do memory; done >>"$STATE/memory" &
fi

code=0
progress "${SCENARIO:-soak} against $API_URL${FILE_PATH:+, $FILE_PATH}" "$k6" run --quiet --no-usage-report \
  -e API_URL="$API_URL" -e FILE_PATH="${FILE_PATH:-}" -e SHA256="${SHA256:-}" \
  ${SCENARIO:+-e SCENARIO="$SCENARIO"} ${USERS:+-e USERS="$USERS"} ${DURATION:+-e DURATION="$DURATION"} \
  ${P95_MS:+-e P95_MS="$P95_MS"} scripts/load/load.js || code=$?

if [ -n "$began" ]; then
  memory >>"$STATE/memory"
  awk '{m[NR] = $1; most[NR] = $2; all[NR] = $3; n[NR] = $4}
    function at(name, i) {printf "  %-16s emulator %d MiB; %d functions, the largest %d MiB, together %d MiB\n", name, m[i], n[i], most[i], all[i]}
    END {at("memory before", 1); if (NR > 4) {at("a quarter in", int(NR / 4) + 1); at("half way", int(NR / 2) + 1)} at("after", NR)
         print "  (the emulator keeps every file and every execution in memory, so it grows)"}' "$STATE/memory"
fi
exit $code
