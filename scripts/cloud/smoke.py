"""smoke.sh API_URL: what a deployed stack does, on AWS as on the local stack.

    STACK_NAME   of the stack (download), for what needs AWS credentials
    FILE_PATH    a file of the origin, of at least a few KiB
    EMPTY_PATH   an empty file
    LARGE_PATH   a large file, such as one of 5 GiB; only its ends are fetched
    SLOW_PATH    a file for which the origin takes at least 10 seconds

On the local stack with its own origin (source .local/env), each has a default. A check without its file or without
credentials is left out. All checks run, even after a failure; then the exit status is 1.
"""

import base64
import json
import os
import pathlib
import pty
import secrets
import select
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

import boto3
import botocore.exceptions

from process import Failed, heartbeat, say

PATIENCE = 180  # seconds for a copy of a file that isn't large
DEFAULTS = {"FILE_PATH": "file/1MiB/smoke.bin", "EMPTY_PATH": "file/0B/empty.bin", "LARGE_PATH": "file/64MiB/large.bin",
            "SLOW_PATH": "file/6MB/slow.bin?delay=15s"}


class LeftOut(Exception):
    """Why a check was not made."""


class Socket:
    """A WebSocket, as far as this test needs one (RFC 6455)."""

    def __init__(self, url, arn=None):
        parts = urllib.parse.urlsplit(url)
        self.socket = socket.create_connection((parts.hostname, parts.port or {"ws": 80, "wss": 443}[parts.scheme]), timeout=30)
        if parts.scheme == "wss":
            self.socket = ssl.create_default_context().wrap_socket(self.socket, server_hostname=parts.hostname)
        lines = [f"GET {parts.path or '/'}{'?' + parts.query if parts.query else ''} HTTP/1.1", f"Host: {parts.netloc}", "Connection: Upgrade",
                 "Upgrade: websocket", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {base64.b64encode(secrets.token_bytes(16)).decode()}"]
        if arn:
            lines.append(f"X-StateMachine-ExecutionArn: {arn}")
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode())
        head = b""
        while not head.endswith(b"\r\n\r\n") and (byte := self.socket.recv(1)):
            head += byte
        self.status = int(head.split()[1]) if head else 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def read(self, n):
        data = b""
        while len(data) < n:
            more = self.socket.recv(n - len(data))
            if not more:
                raise Failed("the socket was closed")
            data += more
        return data

    def frame(self, wanted, seconds):
        """Returns the content of the next frame of a kind: 1 text, 10 pong."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                kind, length = self.read(2)
                if length == 126:
                    length, = struct.unpack(">H", self.read(2))
                elif length == 127:
                    length, = struct.unpack(">Q", self.read(8))
                content = self.read(length)
            except TimeoutError:
                break
            if kind & 15 == wanted:
                return content.decode()
        raise Failed(f"no message in {seconds:.0f} s")

    def ping(self):
        mask = secrets.token_bytes(4)
        self.socket.sendall(b"\x89\x85" + mask + bytes(a ^ b for a, b in zip(b"hello", mask + mask)))
        return self.frame(10, 30)


def http(method, url, headers=None):
    """Returns status, headers and body."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method, headers=headers or {}), timeout=60) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def expect(got, want, what):
    if got != want:
        raise Failed(f"{what}: got {got}, want {want}")


class Smoke:
    def __init__(self, api):
        self.api, self.seen, self.secret = api.rstrip("/"), [], "smoke" + secrets.token_hex(8)
        local = bool(os.environ.get("DEMO_ORIGIN"))
        self.paths = {name: os.environ.get(name) or (DEFAULTS[name] if local else "") for name in DEFAULTS}
        self.stack_name = os.environ.get("STACK_NAME") or "download"
        self.bucket = None

    # ---- what the checks are made of

    def path(self, name):
        if not self.paths[name]:
            raise LeftOut(f"{name} names no file")
        return self.paths[name]

    def ask(self, name):
        """Starts a download and returns the answer. Its query has a word that must not be found in a log."""
        path = self.path(name)
        url = f"{self.api}/download/{path}{'&' if '?' in path else '?'}{self.secret}={self.secret}"
        status, _, body = http("GET", url)
        expect(status, 200, f"GET /download/{path}")
        answer = json.loads(body)
        self.seen.append(answer["executionArn"])
        return answer

    def status(self, answer):
        status, _, body = http("GET", answer["statusUrl"])
        expect(status, 200, "GET statusUrl")
        return json.loads(body)

    def wait(self, answer, *wanted, seconds=PATIENCE):
        """Waits until the download has one of the states, and returns its status."""
        end = time.monotonic() + seconds
        while (status := self.status(answer))["status"] not in wanted:
            if time.monotonic() > end or status["status"] in ("FAILED", "CANCELLED", "EXPIRED"):
                raise Failed(f"its status is {status['status']} {status.get('error', '')}, want {' or '.join(wanted)}")
            time.sleep(1)
        return status

    def link(self, answer, seconds=PATIENCE):
        with Socket(answer["webSocketEndpoint"], answer["executionArn"]) as s:
            expect(s.status, 101, "handshake")
            message = s.frame(1, seconds)
            if not message.startswith("http"):
                raise Failed(message)
            return message

    def fetch(self, link, headers=None):
        status, headers, body = http("GET", link, headers)
        if status not in (200, 206, 416):
            raise Failed(f"GET of the link: {status}: {body[:200]}")
        return status, headers, body

    def client(self, service):
        if not os.environ.get("AWS_REGION") and not boto3.Session().region_name:
            raise LeftOut("there is no region and so no look into the account")
        if boto3.Session().get_credentials() is None:
            raise LeftOut("there are no credentials")
        return boto3.client(service)

    def resource(self, logical_id):
        answer = self.client("cloudformation").describe_stack_resource(StackName=self.stack_name, LogicalResourceId=logical_id)
        return answer["StackResourceDetail"]["PhysicalResourceId"]

    # ---- the checks; what one returns is printed

    def page(self):
        """GET / is the page"""
        status, headers, _ = http("GET", self.api + "/")
        expect((status, headers.get_content_type()), (200, "text/html"), "GET /")

    def early(self):
        """a client that connects during the copy"""
        answer = self.ask("SLOW_PATH")
        return f"{len(self.fetch(self.link(answer))[2])} bytes"

    def late(self):
        """a client that connects after the copy, and again after the delivery"""
        answer = self.ask("FILE_PATH")
        self.wait(answer, "READY")
        first, again = self.link(answer), self.link(answer)
        if self.fetch(first)[2] != self.fetch(again)[2]:
            raise Failed("the two links lead to different bytes")

    def empty(self):
        """a file of 0 bytes"""
        expect(len(self.fetch(self.link(self.ask("EMPTY_PATH")))[2]), 0, "length")

    def large(self):
        """a large file, by its ends"""
        answer = self.ask("LARGE_PATH")
        size = self.wait(answer, "READY", seconds=3600)["bytesTotal"]
        link = self.link(answer)
        for range_ in "bytes=0-9", "bytes=-10":
            status, headers, body = self.fetch(link, {"Range": range_})
            expect((status, len(body), headers["Content-Range"].rpartition("/")[2]), (206, 10, str(size)), range_)
        return f"{size} bytes"

    def program(self):
        """bin/download, which verifies the checksum"""
        with tempfile.TemporaryDirectory() as folder:
            out = subprocess.run(["bin/download", "-o", f"{folder}/file", f"{self.api}/download/{self.path('FILE_PATH')}"],
                                 capture_output=True, text=True, check=False)
            if out.returncode:
                raise Failed(out.stderr.strip().rpartition("\n")[2])
            return f"{pathlib.Path(folder, 'file').stat().st_size} bytes"

    def wscat(self):
        """wscat, as a person uses it"""
        found = shutil.which("wscat") or shutil.which("wscat", path=".local/npm/node_modules/.bin")
        if not found:
            raise LeftOut("there is no wscat")
        answer = self.ask("FILE_PATH")
        ours, theirs = pty.openpty()  # without a terminal it prints nothing
        process = subprocess.Popen([found, "--no-color", "-c", answer["webSocketEndpoint"], "-H", f"X-StateMachine-ExecutionArn:{answer['executionArn']}"],
                                   stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
        os.close(theirs)
        text, end = "", time.monotonic() + PATIENCE
        try:
            while "X-Amz-Signature=" not in text:
                if "error:" in text or not select.select([ours], [], [], max(0, end - time.monotonic()))[0]:
                    raise Failed(f"no link came: {text[-200:]!r}")
                text += os.read(ours, 65536).decode(errors="replace")
        finally:
            process.kill()
            process.wait()
            os.close(ours)

    def ping(self):
        """ping frames are answered"""
        answer = self.ask("FILE_PATH")
        with Socket(answer["webSocketEndpoint"], answer["executionArn"]) as s:
            expect(s.ping(), "hello", "pong")

    def unknown_arn(self):
        """an unknown ARN is refused with 403"""
        arn = self.ask("FILE_PATH")
        endpoint, arn = arn["webSocketEndpoint"], arn["executionArn"].rpartition(":")[0] + ":" + secrets.token_hex(16)
        with Socket(endpoint, arn) as s:
            expect(s.status, 403, "handshake")

    def unknown_name(self):
        """an unknown name is 404: HEAD of an object that isn't there was 404 or 403"""
        expect(http("GET", f"{self.api}/executions/{secrets.token_hex(16)}")[0], 404, "GET /executions/…")

    def cancel(self):
        """cancelling leaves nothing"""
        answer = self.ask("SLOW_PATH")
        expect(http("DELETE", answer["statusUrl"])[0], 202, "DELETE statusUrl")
        end = time.monotonic() + PATIENCE
        while (status := self.status(answer))["status"] != "CANCELLED":
            if time.monotonic() > end:
                raise Failed(f"its status is {status['status']}")
            time.sleep(1)
        name = answer["executionArn"].rpartition(":")[2]
        s3, bucket = self.client("s3"), os.environ.get("BUCKET") or self.resource("Bucket")
        while s3.list_objects_v2(Bucket=bucket, Prefix=f"downloads/{name}").get("Contents") or \
                s3.list_multipart_uploads(Bucket=bucket, Prefix=f"downloads/{name}").get("Uploads"):
            if time.monotonic() > end:
                raise Failed("an object or an upload is left")
            time.sleep(1)

    def throttled(self):
        """a throttled worker is repeated"""
        functions, name = self.client("lambda"), self.resource("FetchFunction")
        before = functions.get_function_concurrency(FunctionName=name).get("ReservedConcurrentExecutions")
        functions.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
        try:
            answer = self.ask("FILE_PATH")
            time.sleep(3)
            expect(self.status(answer)["status"], "COPYING", "status of a download without workers")
        finally:
            if before is None:
                functions.delete_function_concurrency(FunctionName=name)
            else:
                functions.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=before)
        self.wait(answer, "READY")

    def logs(self):
        """the log has each download, and no query"""
        logs, name = self.client("logs"), self.seen[0].rpartition(":")[2]
        end = time.monotonic() + 60
        while True:
            lines = [e["message"] for page in logs.get_paginator("filter_log_events").paginate(
                logGroupName=f"/aws/lambda/{self.stack_name}", startTime=int((time.time() - 3600) * 1000)) for e in page["events"]]
            if any(name in line for line in lines) or time.monotonic() > end:
                break
            time.sleep(2)
        if not any(name in line for line in lines):
            raise Failed(f"no line has {name}")
        if leak := next((line for line in lines if self.secret in line), None):
            raise Failed(f"the query is in a line: {leak[:200]}")
        return f"{len(lines)} lines"

    def traces(self):
        """X-Ray has no query"""
        xray = self.client("xray")
        try:
            ids = [t["Id"] for page in xray.get_paginator("get_trace_summaries").paginate(StartTime=time.time() - 1800, EndTime=time.time())
                   for t in page["TraceSummaries"]]
            if not ids:
                raise LeftOut("there are no traces")
            for n in range(0, len(ids), 5):
                if self.secret in json.dumps(xray.batch_get_traces(TraceIds=ids[n:n + 5])["Traces"]):
                    raise Failed("the query is in a trace")
        except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError) as error:
            raise LeftOut(str(error)[:100]) from None
        return f"{len(ids)} traces"

    CHECKS = (page, program, early, late, empty, large, wscat, ping, unknown_arn, unknown_name, cancel, throttled, logs, traces)


def main():
    smoke = Smoke(sys.argv[2])
    counts = {"ok": 0, "FAILED": 0, "left out": 0}
    for check in smoke.CHECKS:
        began = time.monotonic()
        try:
            with heartbeat(check.__doc__, announce=False):
                result, detail = "ok", check(smoke)
        except LeftOut as reason:
            result, detail = "left out", reason
        except Exception as error:  # of whatever kind: the next check is still worth making
            result, detail = "FAILED", error if isinstance(error, Failed) else f"{type(error).__name__}: {error}"
        counts[result] += 1
        say(f"{result}: {check.__doc__}{f': {detail}' if detail else ''} ({time.monotonic() - began:.1f} s)")
    say(", ".join(f"{n} {result}" for result, n in counts.items()))
    if counts["FAILED"] or not counts["ok"]:
        sys.exit(1)
