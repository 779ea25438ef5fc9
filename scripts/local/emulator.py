"""The local stack's AWS: ministack, behind the gate and the queue of waiting clients. Differences from AWS that matter to a
test are corrected:

REST APIs get the path decoded; AWS keeps event.path percent-encoded, as the client sent it.

SendTaskSuccess and SendTaskFailure are checked against the resource *; on AWS it is the state machine that issued the
token.

A multipart upload with CRC64NVME gets a checksum of the parts' checksums; on AWS it is always the whole object's.
ministack also computes it byte by byte in Python, at 10 MB/s; here awscrt does, which sam needs anyway.

The credentials of a function's role are computed from its names, which other users may know; here from a random number
as well. That number is also part of the address of each function's Runtime API, where its next event can be read.
"""

import base64
import contextvars
import json
import secrets

from awscrt import checksums
from ministack import app
from ministack.core import iam_actions, lambda_runtime
from ministack.services import apigateway_v1, lambda_svc, s3, stepfunctions

import calls
import gate
import waits

raw_path = contextvars.ContextVar("raw_path", default=None)
extract = iam_actions.extract_resource_arn
handle, build_event = app._handle_execute_api_request, apigateway_v1._build_lambda_event_v1
part_checksums, composite = s3._resolve_part_checksums, s3._composite_checksum
create_upload, complete_upload = s3._create_multipart_upload, s3._complete_multipart_upload
credentials, worker_env = lambda_runtime.execution_credentials, lambda_svc._provided_worker_env
runtime_api = lambda_runtime.ProvidedWorker._build_handler_class
nonce = secrets.token_hex(16)


async def handle_execute_api_request(*args, **kwargs):
    raw_path.set(kwargs.get("raw_path"))
    return await handle(*args, **kwargs)


def build_lambda_event(api_id, stage_name, *args, **kwargs):
    event = build_event(api_id, stage_name, *args, **kwargs)
    prefix = f"/_aws/execute-api/{api_id}/{stage_name}"
    if (raw_path.get() or "").startswith(prefix):
        event["path"] = raw_path.get()[len(prefix):]
        event["requestContext"]["path"] = f"/{stage_name}{event['path']}"
    return event


def extract_resource_arn(service, method, path, headers, body, *args, **kwargs):
    arn = extract(service, method, path, headers, body, *args, **kwargs)
    if service == "states" and arn == "*" and "taskToken" in json.loads(body or b"{}"):
        # ministack doesn't record which machine issued a token; only one machine here has a state that waits.
        for machine_arn, machine in stepfunctions._state_machines.items():
            if ".waitForTaskToken" in machine["definition"]:
                return machine_arn
    return arn


class PartChecksum(str):
    size = 0  # of the part, in bytes


def resolve_part_checksums(body, headers, upload):
    found, error = part_checksums(body, headers, upload)
    found = {algorithm: PartChecksum(value) for algorithm, value in found.items()}
    for value in found.values():
        value.size = len(body)
    return found, error


def whole_checksum(algorithm, parts):
    if algorithm != "CRC64NVME" or not parts or None in parts:
        return composite(algorithm, parts)
    whole = 0
    for part in parts:
        whole = checksums.combine_crc64nvme(whole, int.from_bytes(base64.b64decode(part), "big"), part.size)
    return base64.b64encode(whole.to_bytes(8, "big")).decode()


def create_multipart_upload(*args):
    status, headers, body = create_upload(*args)
    if headers.get("x-amz-checksum-algorithm") == "CRC64NVME":
        headers["x-amz-checksum-type"] = "FULL_OBJECT"
    return status, headers, body


def complete_multipart_upload(bucket, key, *args):
    status, headers, body = complete_upload(bucket, key, *args)
    if b"<ChecksumCRC64NVME>" in body:
        body = body.replace(b"COMPOSITE", b"FULL_OBJECT")
        if key in s3._ensure_bucket(bucket)["objects"]:  # a repeated call may come after the object was deleted
            s3._ensure_bucket(bucket)["objects"][key]["checksum_type"] = "FULL_OBJECT"
    return status, headers, body


def execution_credentials(config):
    # They are derived from the function's ARN and the role's, of which only the part behind the last slash is used.
    return credentials({**config, "Role": f"{nonce}/{config.get('Role', '')}"})


def provided_worker_env(config, code_dir, port):
    return worker_env(config, code_dir, f"{port}/{nonce}")


def runtime_api_handler(worker, *args):
    class Handler(runtime_api(worker, *args)):
        def parse_request(self):
            if not super().parse_request():
                return False
            if self.path.startswith(f"/{nonce}/"):
                return True
            self.send_error(404)
            return False

    return Handler


app._handle_execute_api_request = handle_execute_api_request
apigateway_v1._build_lambda_event_v1 = build_lambda_event
iam_actions.extract_resource_arn = extract_resource_arn
s3._crc64nvme = checksums.crc64nvme
s3._resolve_part_checksums, s3._composite_checksum = resolve_part_checksums, whole_checksum
s3._create_multipart_upload, s3._complete_multipart_upload = create_multipart_upload, complete_multipart_upload

lambda_runtime.execution_credentials = lambda_svc.execution_credentials = execution_credentials
lambda_svc._provided_worker_env = provided_worker_env
lambda_runtime.ProvidedWorker._build_handler_class = runtime_api_handler
calls.keep()
app.app = gate.Gate(waits.Waits(app.app))

if __name__ == "__main__":
    app.main()
