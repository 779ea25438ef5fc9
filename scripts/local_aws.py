"""Starts the local stack with what it does otherwise than AWS put right, where a test depends on it.

REST APIs get the path decoded; AWS keeps event.path percent-encoded, as the client sent it.

SendTaskSuccess and SendTaskFailure are checked against the resource *; on AWS it is the state machine
whose task the token stands for.
"""

import contextvars
import json

from ministack import app
from ministack.core import iam_actions
from ministack.services import apigateway_v1, stepfunctions

raw_path = contextvars.ContextVar("raw_path", default=None)
extract = iam_actions.extract_resource_arn
handle, build_event = app._handle_execute_api_request, apigateway_v1._build_lambda_event_v1


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
        # The emulator doesn't keep which machine a token is of; one machine here has a state that waits.
        for machine_arn, machine in stepfunctions._state_machines.items():
            if ".waitForTaskToken" in machine["definition"]:
                return machine_arn
    return arn


app._handle_execute_api_request = handle_execute_api_request
apigateway_v1._build_lambda_event_v1 = build_lambda_event
iam_actions.extract_resource_arn = extract_resource_arn

if __name__ == "__main__":
    app.main()
