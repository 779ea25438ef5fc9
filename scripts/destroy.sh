#!/usr/bin/env bash
# Deletes the stack STACK_NAME with all it holds. CloudFormation deletes an empty bucket only, so the
# stack's own bucket is emptied first, unfinished uploads included; a bucket given as BucketName is left alone.
set -euo pipefail
cd "$(dirname "$0")/.."
die() { echo "destroy: $*" >&2; exit 1; }
[ -n "${STACK_NAME:-}" ] || die "say which stack: make destroy STACK_NAME=…"
bash scripts/setup.sh venv
export AWS_PAGER='' SAM_CLI_TELEMETRY=0
[ -z "${AWS_REGION:-}" ] || export AWS_DEFAULT_REGION=$AWS_REGION # this command line knows only the latter
aws=.local/venv/bin/aws

bucket=$("$aws" cloudformation describe-stack-resources --stack-name "$STACK_NAME" \
  --query "StackResources[?LogicalResourceId=='Bucket'].PhysicalResourceId" --output text) ||
  die "there is no stack called $STACK_NAME here"
if [ "${YES:-}" != 1 ]; then
  read -r -p "Delete the stack $STACK_NAME${bucket:+ and everything in its bucket $bucket}? [y/N] " answer ||
    die "nothing was deleted: there is nobody to ask; YES=1 answers it"
  [ "$answer" = y ] || [ "$answer" = Y ] || die "nothing was deleted"
fi
if [ -n "$bucket" ] && [ "$bucket" != None ]; then
  "$aws" s3 rm "s3://$bucket" --recursive --only-show-errors
  "$aws" s3api list-multipart-uploads --bucket "$bucket" --query 'Uploads[].[Key,UploadId]' --output text |
    while read -r key id; do
      [ "$key" = None ] || "$aws" s3api abort-multipart-upload --bucket "$bucket" --key "$key" --upload-id "$id"
    done
fi
"$aws" cloudformation delete-stack --stack-name "$STACK_NAME"
"$aws" cloudformation wait stack-delete-complete --stack-name "$STACK_NAME"
# Lines that came late have made the log group again, in whose place the next stack of this name couldn't have its own.
"$aws" logs delete-log-group --log-group-name "/aws/lambda/$STACK_NAME" 2>/dev/null || true
echo "destroy: $STACK_NAME is gone"
