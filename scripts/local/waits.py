"""Lets the emulator serve hundreds of clients that wait for their answer (Prefer: wait=N).

AWS runs a thousand functions at the same time. ministack runs them in 64 threads, and each client that waits holds one: with
more of them, no socket would open and no file would be copied. So only a few wait at a time, and the others queue. Time in
the queue counts as waiting: the function waits for the rest of N. If none is left, the client gets API Gateway's answer
for throttling.
"""

import asyncio
import re
import time

MAX_WAITS = 24  # at the same time
MAX_SECONDS = 20  # what internal/rest allows
WAIT = re.compile(r'(?<![\w-])wait\s*=\s*"?(\d+)"?', re.IGNORECASE)

# As the template's response THROTTLED.
THROTTLED = [(b"access-control-allow-origin", b"*"), (b"cache-control", b"no-store"), (b"content-type", b"application/json"),
             (b"retry-after", b"1")]
TOO_MANY = b'{"error":{"code":"THROTTLED","message":"Too Many Requests"}}'


def preferred_wait(scope):
    """Returns the seconds that the client prefers to wait for an API's answer; 0 if it doesn't wait."""
    if scope["type"] == "http" and scope["path"].startswith("/_aws/execute-api/"):
        for name, value in scope["headers"]:
            if name.lower() == b"prefer" and (found := WAIT.search(value.decode("latin-1"))):
                return min(int(found[1]), MAX_SECONDS)
    return 0


def with_wait(scope, seconds):
    """The same request with another wait."""
    return {**scope, "headers": [
        (name, WAIT.sub(f"wait={seconds}", value.decode("latin-1")).encode("latin-1") if name.lower() == b"prefer" else value)
        for name, value in scope["headers"]]}


class Waits:
    """The ASGI application in front of the emulator's."""

    def __init__(self, inner):
        self.inner = inner
        self.free = asyncio.Semaphore(MAX_WAITS)

    async def __call__(self, scope, receive, send):
        seconds = preferred_wait(scope)
        if not seconds:
            return await self.inner(scope, receive, send)
        if not self.free.locked():
            await self.free.acquire()  # without a pause
        else:
            began = time.monotonic()
            try:
                await asyncio.wait_for(self.free.acquire(), seconds)
            except asyncio.TimeoutError:
                await send({"type": "http.response.start", "status": 429, "headers": THROTTLED})
                return await send({"type": "http.response.body", "body": TOO_MANY})
            scope = with_wait(scope, max(0, seconds - round(time.monotonic() - began)))
        try:
            return await self.inner(scope, receive, send)
        finally:
            self.free.release()
