"""Starts the local stack with what it does otherwise than AWS put right, where a test depends on it.

REST APIs get the path decoded; AWS keeps event.path percent-encoded, as the client sent it.
"""

import contextvars

from ministack import app
from ministack.services import apigateway_v1

raw_path = contextvars.ContextVar("raw_path", default=None)
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


app._handle_execute_api_request = handle_execute_api_request
apigateway_v1._build_lambda_event_v1 = build_lambda_event

if __name__ == "__main__":
    app.main()
