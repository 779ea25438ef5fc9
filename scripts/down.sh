#!/usr/bin/env bash
# Stops the local stack, whatever state it is in, and leaves no process of it.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
stopped=
for name in ministack origin; do
  if running "$name"; then stopped=1; fi
  stop "$name"
done
rm -f "$STATE/env" "$STATE/port" "$STATE/origin.addr"
[ -z "$stopped" ] || say "stopped"
