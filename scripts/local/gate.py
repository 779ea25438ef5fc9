"""Keeps others out of the local stack: web pages that the developer visits, and other users of the machine.

The deployed APIs and signed links are open, as on AWS. Everything else needs a valid signature with the key of this start
(AWS_ACCESS_KEY_ID in .local/env) or of a function's role, and is refused to browsers, since a page can send a simple POST
to any port of this machine. The emulator's own checks are not enough: they ignore the root key's signature, and its
routes below /_ministack and /_aws are open.

A Host other than this machine's is refused everywhere: a page can have a name that resolves to 127.0.0.1.
"""

import os
from urllib.parse import parse_qs, quote
from xml.sax.saxutils import escape

from ministack import app
from ministack.core import iam_evaluator, sigv4
from ministack.core.responses import get_account_id

APIS = "/_aws/execute-api/"


def is_api(path):
    """Whether the emulator routes the path to a deployed API, and not to the one with which functions post to
    connections. It routes paths that only begin like an API's by the service that the request names."""
    api = app._parse_execute_api_url("", path) if path.startswith(APIS) else None
    return api is not None and not api[2].startswith("/@connections")


def signature_of(headers, query):
    """Returns the request's SigV4 signature, or None, and whether it is in the query."""
    if headers.get("authorization", "").startswith("AWS4-HMAC-SHA256 "):
        found, presigned = sigv4.parse_header_signature(headers), False
    elif query.get("X-Amz-Algorithm") == ["AWS4-HMAC-SHA256"]:
        found, presigned = sigv4.parse_query_signature(query), True
    else:
        return None, False
    return (None if isinstance(found, tuple) else found), presigned


def is_signed(scope, headers, query, body):
    """Whether the request is signed with the key of this start or of a role's session."""
    signature, presigned = signature_of(headers, query)
    if signature is None:
        return False
    key = signature.access_key_id
    if iam_evaluator.is_root_access_key(key) and key != os.environ["AWS_ACCESS_KEY_ID"]:
        return False  # the emulator's default keys: test, and account ids
    token = query.get("X-Amz-Security-Token", [""])[0] if presigned else headers.get("x-amz-security-token", "")
    credential = iam_evaluator.resolve_credential(key, get_account_id(), token)
    if isinstance(credential, iam_evaluator.CredentialResolutionError):
        return False
    if not presigned and sigv4.request_time_failure(signature):
        return False
    raw_path = (scope.get("raw_path") or quote(scope["path"]).encode()).decode("latin-1")
    return sigv4.header_signature_failure(signature, credential.secret_access_key, scope["method"], raw_path, query, headers,
                                          body, presigned=presigned) is None


def is_plain(headers, signed_headers):
    """Whether a link's request has nothing unsigned that could lead the emulator to another service: a body, a second
    signature, or a header that S3, too, accepts only if it is signed."""
    signed = signed_headers.split(";") + ["x-amz-content-sha256"]
    return (headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers and "authorization" not in headers
            and all(name in signed for name in headers if name.startswith("x-amz-")))


async def refusal(scope, headers, read_body):
    """Why the request is refused, or None."""
    host, port = headers.get("host", ""), os.environ["GATEWAY_PORT"]
    if host.rpartition(":")[0] not in ("127.0.0.1", "localhost"):  # any port: a developer's proxy has its own
        return f"the local stack is at http://127.0.0.1:{port}, not at {host!r}"
    if is_api(scope["path"]):
        return None
    if scope["type"] == "websocket":
        return "the local stack has no WebSockets except those of its APIs"
    query = parse_qs(scope["query_string"].decode("utf-8", "replace"), keep_blank_values=True)
    signature, presigned = signature_of(headers, query)
    if presigned and not (signature and signature.service == "s3" and is_plain(headers, signature.signed_headers)):
        return "the local stack accepts a link only without a body and without additional AWS headers"
    if scope["method"] == "OPTIONS" and presigned and app._s3_cors_target(host, scope["path"]):
        return None  # a page's preflight for a link; the bucket's CORS rules answer
    if not presigned and ("origin" in headers or "sec-fetch-site" in headers):
        return "the local stack refuses this to browsers"
    # S3's requests have the hash of their body in a header, or sign no body; the others are short.
    needs_body = headers.get("x-amz-content-sha256", "STREAMING-AWS4").startswith("STREAMING-AWS4") and not presigned
    body = await read_body() if needs_body else b""
    if not is_signed(scope, headers, query, body):
        return "the local stack requires a signature with the key in .local/env"
    return None


class Gate:
    """The ASGI application in front of the emulator's."""

    def __init__(self, inner):
        self.inner = inner

    async def __call__(self, scope, receive, send):
        if scope["type"] not in ("http", "websocket"):
            return await self.inner(scope, receive, send)
        kept = []  # messages that were read and are still to be passed on

        async def read_body():
            while not kept or kept[-1].get("more_body"):
                kept.append(await receive())
            return b"".join(message.get("body", b"") for message in kept)

        async def receive_kept():
            return kept.pop(0) if kept else await receive()

        headers = {}
        for name, value in scope["headers"]:
            name, value = name.decode("latin-1").lower(), sigv4.decode_header_value(value)
            headers[name] = f"{headers[name]},{value}" if name in headers else value  # as SigV4 joins them
        reason = await refusal(scope, headers, read_body)
        if reason is None:
            return await self.inner(scope, receive_kept, send)
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1008})
        # AWS clients of every protocol show this message.
        body = f"<ErrorResponse><Error><Code>AccessDenied</Code><Message>{escape(reason)}</Message></Error></ErrorResponse>\n".encode()
        await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/xml"), (b"connection", b"close")]})
        await send({"type": "http.response.body", "body": body})
