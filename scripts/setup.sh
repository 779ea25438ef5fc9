#!/usr/bin/env bash
# Installs into .local/ what the local stack needs, once: setup.sh [venv|check|checkov|wscat]…. Nothing outside this
# folder is touched, except the caches that pip, npm and go keep in the home folder.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

command -v go >/dev/null || die "Go is not installed; see https://go.dev/doc/install"
want=$(awk '$1 == "go" {print $2}' go.mod)
have=$(GOTOOLCHAIN=local go env GOVERSION | sed 's/^go//; s/[^0-9.].*//')
[ "$(printf '%s\n' "$want" "$have" | sort -V | head -n 1)" = "$want" ] || die "Go $want or newer is needed, this is $have"
command -v python3 >/dev/null || die "Python 3 is not installed"
python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || die "Python 3.10 or newer is needed, this is $(python3 -V)"

# venv FOLDER REQUIREMENTS makes a virtual environment, unless it has just these requirements already.
venv() {
  cmp -s "$2" ".local/$1/requirements.txt" && return
  echo "Installing $(grep -oE '^[a-z][^=[]*' "$2" | paste -sd, | sed 's/,/, /g') into .local/$1 (once, about a minute)"
  rm -rf ".local/$1"
  python3 -m venv ".local/$1" 2>".local/$1.log" || die "python3 can't make a virtual environment: $(tail -n 1 ".local/$1.log")"
  ".local/$1/bin/python" -m pip install --quiet --disable-pip-version-check -r "$2" >".local/$1.log" 2>&1 ||
    die "pip could not install $2; is there a network? $(grep -m 1 ERROR ".local/$1.log" || tail -n 1 ".local/$1.log")"
  cp "$2" ".local/$1/requirements.txt"
}
mkdir -p .local
for name in "${@:-venv}"; do
  case $name in
    venv) venv venv scripts/requirements.txt ;;
    check) venv check scripts/requirements-check.txt ;;
    checkov) venv checkov scripts/requirements-checkov.txt ;;
    wscat)
      cmp -s scripts/package.json .local/npm/package.json && continue
      command -v npm >/dev/null || die "npm is not installed; it brings wscat and the ASL validator"
      echo "Installing wscat and the ASL validator into .local/npm (once)"
      rm -rf .local/npm .local/npm.new; mkdir -p .local/npm.new
      cp scripts/package.json .local/npm.new
      (cd .local/npm.new && npm install --no-audit --no-fund >install.log 2>&1) || die "npm could not install; is there a network?"
      mv .local/npm.new .local/npm # whole, or not at all
      ;;
  esac
done
