#!/usr/bin/env bash
# The template and the state machines, as far as they can be judged without AWS. Two engines run the
# machines for real: the local stack's in the end-to-end tests, moto's here.
set -euo pipefail
cd "$(dirname "$0")/.."
export AWS_REGION=us-east-1 AWS_DEFAULT_REGION=us-east-1 SAM_CLI_TELEMETRY=0

engine=.local/second_engine.log
{ .local/check/bin/python scripts/second_engine.py && .local/check/bin/python scripts/second_engine.py --self-check; } >"$engine" 2>&1 & # mostly waits

.local/venv/bin/sam validate --lint --template template.yaml
.local/venv/bin/python scripts/template_test.py
.local/venv/bin/python scripts/openapi_test.py
.local/venv/bin/python scripts/asyncapi_test.py
.local/venv/bin/python scripts/docs_test.py
.local/venv/bin/python scripts/reference.py --check
.local/venv/bin/python scripts/cost.py --check
for machine in download deliver; do # with the one substitution that the validator's schema minds
  # shellcheck disable=SC2016
  sed 's/arn:${Partition}:/arn:aws:/' "asl/$machine.asl.json" >".local/$machine.asl.json"
  .local/npm/node_modules/.bin/asl-validator --json-path ".local/$machine.asl.json"
done
wait $! && passed=yes || passed=
cat "$engine"
[ -n "$passed" ]
