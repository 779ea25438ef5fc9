#!/usr/bin/env bash
# Builds the app and deploys it to AWS with the account and region of the environment. Asks for the
# parameters unless there is a samconfig.toml, which the first run writes. ENVIRONMENT names its section,
# CONFIG another file. Functions are built for the Architecture that they are deployed with.
set -euo pipefail
cd "$(dirname "$0")/.."
say() { echo "deploy: $*"; }
die() { echo "deploy: $*" >&2; exit 1; }
environment=${ENVIRONMENT:-default}
config=${CONFIG:-samconfig.toml}
[ ! -f "$config" ] || grep -q "^ *\[$environment[].]" "$config" || die "$config has no section [$environment]"
[ -z "${AWS_ENDPOINT_URL:-}" ] || say "deploying to $AWS_ENDPOINT_URL, not to AWS"
bash scripts/setup.sh venv
sam=.local/venv/bin/sam
command -v sam >/dev/null && sam=sam
export SAM_CLI_TELEMETRY=0
# Without --cached: that looks for changes in a function's own folder alone, and internal/ would be deployed as it was.
export CGO_ENABLED=0 GOFLAGS="${GOFLAGS:-} -trimpath -tags=lambda.norpc -ldflags=-s"
case $config in /*) ;; *) config=$PWD/$config ;; esac # sam looks for it beside the template it has built

# architecture prints what the configuration has for sam deploy, nothing for the template's default.
architecture() {
  .local/venv/bin/python - "$config" "$environment" <<'EOF'
import re, sys, tomlkit
config, environment = sys.argv[1:]
commands = tomlkit.parse(open(config).read()).unwrap().get(environment, {})
for command in "deploy", "global":
    if overrides := commands.get(command, {}).get("parameters", {}).get("parameter_overrides"):
        print(*re.findall(r"\bArchitecture\W+(\w+)", str(overrides))[-1:])
        break
EOF
}

if [ ! -f "$config" ]; then
  "$sam" build --parallel
  "$sam" deploy --guided --stack-name "${STACK_NAME:-download}" --capabilities CAPABILITY_IAM --config-env "$environment"
  [ -f "$config" ] || exit 0
  chosen=$(architecture)
  built=$(awk '/^  Architecture:/ {here = 1} here && $1 == "Default:" {print $2; exit}' template.yaml)
  [ "${chosen:-$built}" != "$built" ] || exit 0
  say "you chose $chosen, but the functions were built for $built: building and deploying again"
fi
chosen=$(architecture)
"$sam" build --parallel --config-file "$config" --config-env "$environment" ${chosen:+--parameter-overrides "Architecture=$chosen"}
"$sam" deploy --config-file "$config" --config-env "$environment" --no-fail-on-empty-changeset
