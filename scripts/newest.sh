#!/usr/bin/env bash
# Changes the lists of dependencies to the newest versions: newest.sh [go] [python] [npm]. CI does this once a week, to
# run the tests with them; by hand it is the first half of an update.
set -euo pipefail
cd "$(dirname "$0")"
[ $# -gt 0 ] || set -- go python npm
for kind in "$@"; do
  case $kind in
    go)
      for module in .. load; do
        (cd "$module" && go get -u ./... && go mod tidy)
      done
      ;;
    python)
      bash setup.sh uv
      for list in requirements*.in; do
        # ministack pins botocore, so sam and aws have to fit; cfn-lint has versions that don't know this template.
        [ "$list" = requirements-check.in ] || sed -i.old 's/==/>=/' "$list"
        ../.local/uv/bin/uv pip compile --quiet --upgrade --universal --python-version 3.10 --generate-hashes "$list" -o "${list%.in}.txt"
        rm -f "$list.old"
      done
      ;;
    npm)
      names=$(node -p 'Object.keys(require("./package.json").dependencies).map(n => n + "@latest").join(" ")')
      # shellcheck disable=SC2086  # names are words
      npm install --package-lock-only --omit-lockfile-registry-resolved --save-exact --ignore-scripts --no-audit --no-fund $names
      ;;
  esac
done
