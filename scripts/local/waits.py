"""Lets a machine of two cores serve hundreds of clients that wait for their answer.

AWS runs a thousand functions at the same time. ministack runs them in 64 threads, and a client that waits (Prefer: wait=N)
holds one: with more of them than that, no socket is opened and no file is copied. So only a few wait at a time, and the
others queue. Time in the queue counts as waiting: the function is asked to wait for what is left of N.
"""

import asyncio
import re
import time

MAX_WAITS = 24  # at the same time
MAX_SECONDS = 20  # what internal/rest allows
WAIT = re.compile(r'(?<![\w-])wait\s*=\s*"?(\d+)"?', re.IGNORECASE)


def preferred_wait(scope):
    """For how many seconds the client prefers to wait for an answer of an API, 0 for not at all."""
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
        began = time.monotonic()
        try:
            await asyncio.wait_for(self.free.acquire(), seconds)
        except asyncio.TimeoutError:
            return await self.inner(with_wait(scope, 0), receive, send)
        left = max(0, seconds - round(time.monotonic() - began))
        if left < seconds:
            scope = with_wait(scope, left)
        try:
            return await self.inner(scope, receive, send)
        finally:
            self.free.release()
