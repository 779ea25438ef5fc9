#!/usr/bin/env bash
# Stops the local stack, whatever state it is in, and leaves no process of it.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
for name in ministack origin; do stop "$name"; done
rm -f "$STATE/env"
