#!/usr/bin/env bash
# Installs tools into .local/, once: setup.sh [venv|check|checkov|contract|deploy|uv|wscat]…. Nothing outside this folder
# changes, except the caches of pip, npm, and go in the home folder.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

command -v go >/dev/null || die "Go is not installed; see https://go.dev/doc/install"
want=$(awk '$1 == "go" {print $2}' go.mod)
have=$(GOTOOLCHAIN=local go env GOVERSION | sed 's/^go//; s/[^0-9.].*//')
[ "$(printf '%s\n' "$want" "$have" | sort -V | head -n 1)" = "$want" ] || die "Go $want or newer is needed, this is $have"
command -v python3 >/dev/null || die "Python 3 is not installed"
python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || die "Python 3.10 or newer is needed, this is $(python3 -V)"

# installed FOLDER LIST succeeds if the folder has exactly what the list names: a copy of the list is written last.
installed() { cmp -s "$2" ".local/$1/installed"; }

# uv installs uv, which installs the others in a tenth of pip's time.
uv() {
  installed uv scripts/requirements-uv.txt && return
  rm -rf .local/uv
  progress "preparing .local/uv" python3 -m venv .local/uv 2>.local/uv.log || die "python3 can't make a virtual environment: $(tail -n 1 .local/uv.log)"
  progress "installing uv into .local/uv (once)" .local/uv/bin/python -m pip install --quiet --disable-pip-version-check \
    --require-hashes --no-deps --only-binary :all: -r scripts/requirements-uv.txt || die "pip could not install uv; is there a network?"
  cp scripts/requirements-uv.txt .local/uv/installed
}

# venv FOLDER NAME makes a virtual environment of scripts/NAME.txt, which names each file by its hash. Nothing is built
# from source, so no package's code runs here.
venv() {
  local list=scripts/$2.txt
  installed "$1" "$list" && return
  uv
  rm -rf ".local/$1"
  .local/uv/bin/uv venv --quiet --no-python-downloads --python "$(command -v python3)" ".local/$1"
  progress "installing $(grep -oE '^[a-z][^=[]*' "scripts/$2.in" | paste -sd, | sed 's/,/, /g') into .local/$1 (once)" \
    .local/uv/bin/uv pip install --quiet --python ".local/$1/bin/python" --require-hashes --no-deps --only-binary :all: -r "$list" ||
    die "uv could not install $list; is there a network?"
  cp "$list" ".local/$1/installed"
}

# npm_packages installs what scripts/package-lock.json names, by its hashes, and runs none of the packages' scripts.
npm_packages() {
  installed npm scripts/package-lock.json && return
  command -v npm >/dev/null || die "npm is not installed; it installs wscat, the ASL validator, and the tools that check the page"
  rm -rf .local/npm .local/npm.new; mkdir -p .local/npm.new
  cp scripts/package.json scripts/package-lock.json .local/npm.new
  progress "installing wscat, the ASL validator, and the tools that check the page into .local/npm (once)" \
    npm --prefix .local/npm.new ci --ignore-scripts --no-audit --no-fund --loglevel error ||
    die "npm could not install; is there a network?"
  cp scripts/package-lock.json .local/npm.new/installed
  mv .local/npm.new .local/npm # whole, or not at all
}

mkdir -p .local
for name in "${@:-venv}"; do
  case $name in
    venv) venv venv requirements ;;
    check) venv check requirements-check ;;
    checkov) venv checkov requirements-checkov ;;
    contract) venv contract requirements-contract ;;
    uv) uv ;;
    deploy) venv deploy requirements-deploy ;;
    wscat) npm_packages ;;
    *) die "there is no $name to set up" ;;
  esac
done
