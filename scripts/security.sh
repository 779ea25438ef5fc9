#!/usr/bin/env bash
# checkov on the expanded template and gosec on the Go code: no finding without a reason. govulncheck on the code that is
# shipped; it needs a network, and is left out without one, except on GitHub.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
bash scripts/setup.sh venv checkov
gosec=v2.30.0
govulncheck=v1.9.0
# tool NAME VERSION MODULE installs a program, once. It is not in go.mod: gosec brings the SDKs of three language models.
tool() {
  [ -x ".local/bin/$1-$2" ] && return
  GOBIN="$PWD/.local/bin" progress "installing $1 $2 into .local/bin (once)" go install "$3@$2"
  mv ".local/bin/$1" ".local/bin/$1-$2"
}
tool gosec "$gosec" github.com/securego/gosec/v2/cmd/gosec
.local/venv/bin/python scripts/security.py ".local/bin/gosec-$gosec"

if [ -n "${GITHUB_ACTIONS:-}" ] || python3 -c 'import urllib.request as u; u.urlopen("https://vuln.go.dev/index/modules.json", timeout=10)' 2>/dev/null; then
  tool govulncheck "$govulncheck" golang.org/x/vuln/cmd/govulncheck
  ".local/bin/govulncheck-$govulncheck" ./functions/... ./cmd/... ./internal/...
else
  say "govulncheck left out: https://vuln.go.dev can't be reached"
fi
