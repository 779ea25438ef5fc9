#!/usr/bin/env bash
# checkov on the expanded template and gosec on the Go code: no finding without a reason beside it.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh venv checkov
gosec=v2.30.0
# Not a tool of go.mod: it brings the SDKs of three language models, whose dependencies would be ours.
[ -x ".local/bin/gosec-$gosec" ] || {
  echo "Installing gosec $gosec into .local/bin (once)"
  GOBIN="$PWD/.local/bin" go install "github.com/securego/gosec/v2/cmd/gosec@$gosec"
  mv .local/bin/gosec ".local/bin/gosec-$gosec"
}
.local/venv/bin/python scripts/security.py ".local/bin/gosec-$gosec"
