#!/usr/bin/env bash
# Installs the Debian packages that tests use, where they are missing: nginx as an origin, Chromium for
# the page, spin and gcc for the protocol's model, wget and curl as clients.
set -euo pipefail
missing=()
[ -x /usr/sbin/nginx ] || command -v nginx >/dev/null || missing+=(nginx-light)
command -v chromium >/dev/null || missing+=(chromium)
command -v spin >/dev/null || missing+=(spin)
command -v gcc >/dev/null || missing+=(gcc libc6-dev)
command -v wget >/dev/null || missing+=(wget)
command -v curl >/dev/null || missing+=(curl)
[ ${#missing[@]} = 0 ] && exit
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "packages: the tests need ${missing[*]}; as root on Debian: apt-get install ${missing[*]}" >&2
  exit 1
fi
echo "Installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
{ apt-get update -q && apt-get install -y -q --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
