"""Records the functions' calls to DynamoDB and S3, for TestCallsOfADownload: one line each in calls.log in the home
folder, with the operation and its key or body.
"""

import json
import os

from ministack.core import iam_actions, router

action_of = iam_actions.extract_iam_action
log = None

# By method and the part of the query that names it.
S3 = {
    ("HEAD", None): "HeadObject", ("GET", None): "GetObject", ("PUT", None): "PutObject", ("DELETE", None): "DeleteObject",
    ("GET", "uploads"): "ListMultipartUploads", ("POST", "uploads"): "CreateMultipartUpload", ("PUT", "partNumber"): "UploadPart",
    ("GET", "uploadId"): "ListParts", ("POST", "uploadId"): "CompleteMultipartUpload", ("DELETE", "uploadId"): "AbortMultipartUpload",
}


def extract_iam_action(service, method, path, headers, body, query, *args):
    action = action_of(service, method, path, headers, body, query, *args)
    # Neither the use of a link nor the tests' own calls.
    from_function = "X-Amz-Signature" not in query and router.extract_access_key_id(headers) != os.environ["AWS_ACCESS_KEY_ID"]
    if service in ("s3", "dynamodb") and from_function:
        if service == "s3":
            named = next((name for name in ("partNumber", "uploads", "uploadId") if name in query), None)
            call, about = "s3:" + S3.get((method, named), method), [path, query.get("prefix")]
        else:
            call, about = action, json.loads(body)
        log.write(f"{call} {json.dumps(about)}\n")
    return action


def keep():
    global log
    log = open(os.path.join(os.environ["HOME"], "calls.log"), "w", buffering=1)
    os.chmod(log.fileno(), 0o600)  # the calls have queries, bodies, and tokens
    iam_actions.extract_iam_action = extract_iam_action
