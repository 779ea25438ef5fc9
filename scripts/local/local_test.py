"""Tests of the local stack's own program: its processes, its parameters, its access control, and its queue.

    .local/venv/bin/python scripts/local/local_test.py
"""

import asyncio
import contextlib
import hashlib
import importlib.util
import io
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from unittest import mock

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import botocore.session

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(1, str(HERE.parent))

import parameters
import waits
from process import Daemon, Failed, answers, exclusive, run

spec = importlib.util.spec_from_file_location("stack", HERE / "__main__.py")
stack = importlib.util.module_from_spec(spec)
spec.loader.exec_module(stack)
SLEEP = [sys.executable, "-c", "import time; time.sleep(300)"]
# Starts a second process, and prints a line when it has.
FAMILY = [sys.executable, "-c", "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)']);"
          "print('ready', flush=True); time.sleep(300)"]


def group_exists(pid):
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    return True


class Daemons(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.state = pathlib.Path(folder.name)
        self.daemon = Daemon(self.state, "it")
        self.addCleanup(self.daemon.stop)

    def test_start_and_stop(self):
        self.assertIsNone(self.daemon.info())
        self.assertFalse(self.daemon.stop())
        self.daemon.start(FAMILY, port=7)
        self.daemon.wait_until(lambda: "ready" in self.daemon.log.read_text())
        info = Daemon(self.state, "it").info()  # another program sees the same
        self.assertEqual(info["port"], 7)
        self.assertTrue(self.daemon.stop())
        self.assertFalse(group_exists(info["pid"]), "a process is left")
        self.assertIsNone(self.daemon.info())
        self.assertFalse(self.daemon.path.exists())

    def test_the_file_of_a_dead_process(self):
        """Its process id may be another's by now, which is not ended."""
        self.daemon.start(SLEEP)
        pid = self.daemon.info()["pid"]
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        other = subprocess.Popen(SLEEP, start_new_session=True)
        self.addCleanup(other.wait)
        self.addCleanup(other.kill)
        self.daemon.path.write_text(json.dumps({"pid": other.pid}))
        self.assertIsNone(self.daemon.info())
        self.assertFalse(self.daemon.stop())
        self.assertIsNone(other.poll(), "an unrelated process was ended")

    def test_it_does_not_start(self):
        self.daemon.start([sys.executable, "-c", "print('no such port')"])
        with self.assertRaisesRegex(Failed, "^it did not start: no such port$"):
            self.daemon.wait_until(lambda: False)

    def test_one_at_a_time(self):
        with exclusive(self.state / "lock"):
            second = subprocess.Popen([sys.executable, "-c", "import sys; sys.argv = ['', 'up']\nfrom process import exclusive\nimport pathlib\n"
                                       f"with exclusive(pathlib.Path({str(self.state / 'lock')!r})): print('in', flush=True)"],
                                      cwd=HERE.parent, stdout=subprocess.PIPE, text=True)
            self.assertIn("waiting for another command", second.stdout.readline())
        self.assertEqual(second.communicate()[0], "in\n")


class Commands(unittest.TestCase):
    def test_run(self):
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()) as shown:
            log = pathlib.Path(folder, "log")
            run(["true"], log)
            with self.assertRaisesRegex(Failed, "^sh failed"):
                run(["sh", "-c", "echo File with same data already exists at a; echo Error: no; exit 1"], log)
        self.assertEqual(shown.getvalue(), "Error: no\n")

    def test_up_refuses(self):
        """Before anything is installed, built or started."""
        with tempfile.TemporaryDirectory() as folder:
            env = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")} | {"STATE": folder, "PARAMETERS": "", "ORIGIN_URL": ""}
            for extra, want in (
                ({"PORT": "abc"}, "up: PORT must be a number from 1 to 65535, not abc\n"),
                ({"PORT": "70000"}, "up: PORT must be a number from 1 to 65535, not 70000\n"),
                ({"STACK_NAME": "my stack"}, "up: STACK_NAME must begin with a letter and have letters, digits and hyphens, not 'my stack'\n"),
                ({"PORT": "1", "PARAMETERS": "ClientTimeoutSeconds=1h MaxFileByte=1"},
                 "up: ClientTimeoutSeconds must be a number, not '1h'\nup: there is no parameter MaxFileByte; did you mean MaxFileBytes?\n"),
            ):
                out = subprocess.run([sys.executable, HERE, "up"], env=env | extra, capture_output=True, text=True, check=False)
                self.assertEqual((out.returncode, out.stderr), (1, want))


class Up(unittest.TestCase):
    def test_env(self):
        """It is for its owner only, since it holds the key, and it can be sourced."""
        with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, {"PORT": "4599"}):
            it = stack.Stack(folder)
            it.env_file.write_text("old")
            it.env_file.chmod(0o644)
            it.write_env(it.aws_env | {"SLOW_PATH": "file/6MB/slow.bin?delay=6s&x='y'"})
            self.assertEqual(it.env_file.stat().st_mode & 0o777, 0o600)
            out = subprocess.run(["bash", "-c", f'. {it.env_file}; printf "%s\n" "$AWS_ACCESS_KEY_ID" "$SLOW_PATH" "$AWS_ENDPOINT_URL"'],
                                 capture_output=True, text=True, check=True).stdout
            self.assertEqual(out, f"{it.key}\nfile/6MB/slow.bin?delay=6s&x='y'\nhttp://127.0.0.1:4599\n")
            self.assertNotEqual(stack.Stack(folder).key, it.key)  # it is chosen again at the next start

    def test_unreachable(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{s.getsockname()[1]}/base"
            self.assertIn("refused", stack.unreachable(url))
            s.listen()
            self.assertIsNone(stack.unreachable(url))
        self.assertTrue(stack.unreachable("https://no-such-host.invalid"))


class Parameters(unittest.TestCase):
    def test_problems(self):
        for words, want in (
            ([], []),
            (["OriginUrl=http://127.0.0.1:1", "StageName=v1", "OriginUrl=http://localhost"], []),
            (["StageName"], ["PARAMETERS has 'StageName'; it takes Name=value"]),
            (["Xyzzy=1"], ["there is no parameter Xyzzy"]),
            (["LinkExpirySecond=1"], ["there is no parameter LinkExpirySecond; did you mean LinkExpirySeconds?"]),
            (["LinkExpirySeconds=0"], ["LinkExpirySeconds must be at least 1, not 0"]),
            (["LinkExpirySeconds=3601"], ["LinkExpirySeconds must be at most 3600, not 3601"]),
            (["LinkExpirySeconds=-5"], ["LinkExpirySeconds must be at least 1, not -5"]),
            (["LinkExpirySeconds=1.5"], ["LinkExpirySeconds must be a number, not '1.5'"]),
            (["ApiAuth=jwt"], ["ApiAuth must be one of NONE, IAM, API_KEY, JWT, not 'jwt'"]),
            (["OriginUrl=ftp://x"], ["OriginUrl must be an http or https URL without user, password and fragment; got 'ftp://x'"]),
            (["AllowedPaths=" + "a" * 1501], ["AllowedPaths must have at most 1500 characters, not 1501"]),
            (["AllowedPaths=reports,../x"], ["AllowedPaths must be paths without a leading slash and without .., separated by commas, such as reports,media/2026; got 'reports,../x'"]),
            (["AllowedPaths=reports,media/2026,a..b,.well-known"], []),
            (["BucketName=s3://mine"], ["BucketName must be the name of a bucket; got 's3://mine'"]),
            (["KmsKeyArn=alias/mine"], ["KmsKeyArn must be the ARN of a key, not of an alias; got 'alias/mine'"]),
            (["RequireTicket=yes", "Xyzzy=1"], ["RequireTicket must be one of true, false, not 'yes'", "there is no parameter Xyzzy"]),
        ):
            with self.subTest(words=words):
                self.assertEqual(parameters.check(words)[1], want)

    def test_a_rule_of_the_template(self):
        self.assertIn("JwtIssuer", *parameters.check(["ApiAuth=JWT"])[1])

    def test_defaults(self):
        values, _ = parameters.check(["LinkExpirySeconds=5"])
        self.assertEqual((values["LinkExpirySeconds"], values["StageName"], values["BucketName"]), ("5", "dev", ""))


# A function's bootstrap: it answers each event with its environment.
BOOTSTRAP = f"""#!{sys.executable}
import json, os, urllib.request
api = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"] + "/2018-06-01/runtime/invocation/"
while True:
    with urllib.request.urlopen(api + "next") as event:
        request = event.headers["Lambda-Runtime-Aws-Request-Id"]
    urllib.request.urlopen(api + request + "/response", json.dumps(dict(os.environ)).encode()).close()
"""
ROLE = "arn:aws:iam::000000000000:role/worker"


class Waits(unittest.IsolatedAsyncioTestCase):
    """Of the application behind: which requests it has, with which wait, until each is answered."""

    def setUp(self):
        self.requests, self.sent, self.answer = [], [], asyncio.Event()
        self.waits = waits.Waits(self.inner)

    async def inner(self, scope, receive, send):
        self.requests.append([value.decode() for name, value in scope["headers"] if name == b"prefer"])
        await self.answer.wait()

    def ask(self, *prefer, path="/_aws/execute-api/0123abcd/dev/download", kind="http"):
        headers = [(b"host", b"wait=9"), *((b"prefer", value.encode()) for value in prefer)]
        return asyncio.create_task(self.waits({"type": kind, "path": path, "headers": headers}, None, self.send))

    async def send(self, message):
        self.sent.append(message)

    async def settle(self):
        for _ in range(20):  # each goes as far as it can
            await asyncio.sleep(0)

    async def test_those_that_wait_queue(self):
        clients = [self.ask("wait=20") for _ in range(waits.MAX_WAITS)]
        clients += [self.ask('respond-async, WAIT = "99"') for _ in range(100)]
        await self.settle()
        self.assertEqual(self.requests, [["wait=20"]] * waits.MAX_WAITS)
        others = [self.ask(), self.ask("respond-async"), self.ask("wait=0"), self.ask("x-wait=5"), self.ask(kind="websocket"),
                  self.ask("wait=20", path="/bucket/key")]
        await self.settle()
        self.assertEqual(self.requests[waits.MAX_WAITS:], [[], ["respond-async"], ["wait=0"], ["x-wait=5"], [], ["wait=20"]])
        self.answer.set()
        await asyncio.gather(*clients, *others)
        queued = self.requests[waits.MAX_WAITS + len(others):]
        self.assertEqual(len(queued), 100)
        for prefer, in queued:
            self.assertRegex(prefer, "^respond-async, wait=(20|1[0-9])$")

    async def test_a_wait_that_passes_in_the_queue(self):
        clients = [self.ask("wait=20") for _ in range(waits.MAX_WAITS)] + [self.ask('Wait="99", respond-async')]
        await asyncio.wait_for(self.ask("wait=1"), 60)
        self.assertEqual([message.get("status") for message in self.sent], [429, None])
        self.answer.set()
        await asyncio.gather(*clients)
        self.assertRegex(self.requests[-1][0], "^wait=1[0-9], respond-async$")
        self.assertEqual(len(self.requests), waits.MAX_WAITS + 1)
        self.assertFalse(self.waits.free.locked(), "a place was lost")

    async def test_a_client_that_goes_leaves_the_queue(self):
        clients = [self.ask("wait=20") for _ in range(waits.MAX_WAITS)]
        gone = self.ask("wait=20")
        await self.settle()
        gone.cancel()
        clients[0].cancel()
        clients += [self.ask("wait=20")]
        await self.settle()
        self.assertEqual(len(self.requests), waits.MAX_WAITS + 1)
        self.answer.set()
        await asyncio.gather(*clients[1:])
        self.assertEqual(len(self.requests), waits.MAX_WAITS + 1)


class Gate(unittest.TestCase):
    """The emulator as up starts it, and the requests that it accepts from other users and from browsers."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.calls = pathlib.Path(folder.name, "calls.log")
        cls.calls.touch(0o644)  # of an earlier start
        taken = socket.socket()  # keeps the port from others; a server that sets SO_REUSEADDR, too, may listen there
        cls.addClassCleanup(taken.close)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", 0))
        cls.port = str(taken.getsockname()[1])
        cls.url = f"http://127.0.0.1:{cls.port}"
        cls.key, cls.secret = "LKIA0123456789", "the secret of this start"
        daemon = Daemon(pathlib.Path(folder.name), "ministack")
        daemon.start([sys.executable, HERE / "emulator.py"], env={
            "PATH": os.environ["PATH"], "HOME": folder.name, "TMPDIR": folder.name, "AWS_ENDPOINT_URL": cls.url, "GATEWAY_PORT": cls.port,
            "BIND_HOST": "127.0.0.1", "AUTH": "true", "SFTP_ENABLED": "0", "IOT_MTLS_ENABLED": "0", "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": cls.key, "AWS_SECRET_ACCESS_KEY": cls.secret})
        cls.addClassCleanup(daemon.stop)
        daemon.wait_until(lambda: answers(cls.url))

    def client(self, service, key=None, secret=None, token=None):
        return botocore.session.Session().create_client(
            service, "us-east-1", endpoint_url=self.url, aws_access_key_id=key or self.key, aws_secret_access_key=secret or self.secret,
            aws_session_token=token, config=botocore.config.Config(retries={"max_attempts": 0}, signature_version="s3v4" if service == "s3" else None))

    def status(self, method, path, headers=None, data=None, key=None, secret=None):
        """The status of a request, which is signed if a key is given."""
        headers = dict(headers or {})
        if key:
            request = botocore.awsrequest.AWSRequest(method, self.url + path, headers, data)
            botocore.auth.SigV4Auth(botocore.credentials.Credentials(key, secret), "lambda", "us-east-1").add_auth(request)
            headers = dict(request.headers.items())
        try:
            with urllib.request.urlopen(urllib.request.Request(self.url + path, data, headers, method=method), timeout=60) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            self.assertNotIn("Access-Control-Allow-Origin", error.headers)
            return error.code

    FUNCTIONS = "/2015-03-31/functions"

    def test_our_own_key(self):
        self.assertEqual(self.status("GET", self.FUNCTIONS, key=self.key, secret=self.secret), 200)
        self.client("s3").create_bucket(Bucket="own")
        self.client("s3").put_object(Bucket="own", Key="a b/c+d", Body=b"x" * 100000)
        self.assertEqual(self.client("s3").get_object(Bucket="own", Key="a b/c+d")["ContentLength"], 100000)

    def test_the_record_of_calls(self):
        self.assertEqual(self.calls.stat().st_mode & 0o777, 0o600)

    def test_another_user(self):
        function = json.dumps({"FunctionName": "attack", "Role": ROLE, "Runtime": "python3.12", "Handler": "x.x", "Code": {"ZipFile": ""}}).encode()
        for name, how in {
            "unsigned": {},
            "the key that the emulator has by default": {"key": "test", "secret": "test"},
            "that key, by the secret": {"key": "test", "secret": self.secret},
            "an account's number": {"key": "000000000000", "secret": "test"},
            "the right key, another secret": {"key": self.key, "secret": "test"},
            "a key that doesn't exist": {"key": "AKIAXXXXXXXXXXXXXXXX", "secret": "test"},
            "no signature": {"headers": {"Authorization": f"AWS4-HMAC-SHA256 Credential={self.key}/20260101/us-east-1/lambda/aws4_request"}},
            "an earlier kind of signature": {"headers": {"Authorization": f"AWS {self.key}:c2lnbmF0dXJl"}},
        }.items():
            with self.subTest(name):
                self.assertEqual(self.status("GET", self.FUNCTIONS, **how), 403)
                self.assertEqual(self.status("POST", self.FUNCTIONS, data=function, **how), 403)
        self.assertEqual(self.client("lambda").list_functions()["Functions"], [])

    def test_a_body_that_was_not_signed(self):
        request = botocore.awsrequest.AWSRequest("POST", self.url + self.FUNCTIONS, {}, b"{}")
        botocore.auth.SigV4Auth(botocore.credentials.Credentials(self.key, self.secret), "lambda", "us-east-1").add_auth(request)
        self.assertEqual(self.status("POST", self.FUNCTIONS, dict(request.headers.items()), b'{"x":1}'), 403)

    def test_the_emulators_own_routes(self):
        for method, path in (
            ("POST", "/_ministack/reset"), ("POST", "/_ministack/config"), ("GET", "/_ministack/health"), ("GET", "/_ministack/ready"),
            ("GET", "/_ministack/lambda-code/f"), ("GET", "/_localstack/health"), ("GET", "/health"), ("GET", "/_aws/sqs/messages"),
            ("GET", "/_aws/ses/messages"), ("POST", "/_ministack/rds/iam-auth"), ("POST", "/_ministack/eks-auth/x"), ("GET", "/v2/"),
            ("GET", "/iceberg/v1/config"), ("GET", "/_alb/x/"), ("GET", "/own/x"), ("PUT", "/bucket"), ("OPTIONS", "/"),
            ("POST", "/_aws/execute-api/0123abcd/dev/@connections/x"), ("POST", "/_aws/execute-api/0123abcd/dev/%40connections/x"),
            ("POST", "/_aws/execute-api/0123abcd//@connections/x"), ("GET", "/restapis/0123abcd/dev/_user_request_/"),
        ):
            with self.subTest(f"{method} {path}"):
                data = b"{}" if method == "POST" else None
                self.assertEqual(self.status(method, path, data=data), 403)
                self.assertEqual(self.status(method, path, data=data, key="test", secret="test"), 403)

    def test_browsers(self):
        """Browsers are refused even with the key; a page can't change these headers."""
        for headers in (
            {"Origin": "https://attacker.example"}, {"Origin": "http://localhost:3000"}, {"Origin": "null"}, {"Origin": self.url},
            {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Sec-Fetch-Site": "same-origin"},
        ):
            headers |= {"Content-Type": "text/plain"}
            for how in {}, {"key": self.key, "secret": self.secret}:
                with self.subTest(headers=headers, how=how):
                    self.assertEqual(self.status("POST", self.FUNCTIONS, headers, b"{}", **how), 403)
                    self.assertEqual(self.status("POST", "/_ministack/reset", headers, b"", **how), 403)
                    self.assertEqual(self.status("OPTIONS", self.FUNCTIONS, headers, **how), 403)

    def test_other_host_names(self):
        for host in "attacker.example", f"attacker.example:{self.port}", "127.0.0.1", "", f"0123abcd.execute-api.localhost:{self.port}":
            with self.subTest(host):
                self.assertEqual(self.status("GET", self.FUNCTIONS, {"Host": host}, key=self.key, secret=self.secret), 403)
                self.assertEqual(self.status("GET", "/_aws/execute-api/0123abcd/dev/", {"Host": host}), 403)

    def test_the_apis_are_open(self):
        """As on AWS: no API has this id."""
        self.assertEqual(self.status("GET", "/_aws/execute-api/0123abcd/dev/", {"Sec-Fetch-Site": "none"}), 404)
        self.assertEqual(self.status("GET", "/_aws/execute-api/0123abcd/dev/", {"Sec-Fetch-Site": "cross-site"}), 404)

    def form(self, path, headers):
        """The status of a form that makes a user of IAM, as an HTML page can send it to any address."""
        return self.status("POST", path, headers, b"Action=CreateUser&UserName=attack&Version=2010-05-08")

    def test_paths_like_an_api(self):
        """The emulator would route it to the service that the request names, signed with a key that everybody knows."""
        scope = "test/20260101/us-east-1/iam/aws4_request"
        header = {"Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=00"}
        query = "?" + urllib.parse.urlencode({"X-Amz-Algorithm": "AWS4-HMAC-SHA256", "X-Amz-Credential": scope, "X-Amz-Date": "20260101T000000Z",
                                              "X-Amz-Expires": "60", "X-Amz-SignedHeaders": "host", "X-Amz-Signature": "00"})
        page = {"Origin": "https://attacker.example", "Sec-Fetch-Site": "cross-site"}
        for path in "/_aws/execute-api/", "/_aws/execute-api/0123abcd", "/_aws/execute-api//dev/x", "/_aws/execute-api/%2Fdev":
            with self.subTest(path):
                self.assertEqual(self.form(path, header), 403)
                self.assertEqual(self.form(path + query, {}), 403)
                self.assertEqual(self.form(path + query, page), 403)
                self.assertEqual(self.status("OPTIONS", path, page | {"Access-Control-Request-Method": "POST"}), 403)
        self.assertEqual(self.client("iam").list_users()["Users"], [])

    def test_link_with_additions(self):
        """Whoever has a link can add to the request what its signature doesn't cover."""
        s3 = self.client("s3")
        s3.create_bucket(Bucket="more")
        s3.put_object(Bucket="more", Key="file", Body=b"bytes")
        link, post = (s3.generate_presigned_url("get_object", {"Bucket": "more", "Key": "file"}, HttpMethod=method).removeprefix(self.url)
                      for method in ("GET", "POST"))
        everybody = "Credential=test/20260101/us-east-1/dynamodb/aws4_request, SignedHeaders=host, Signature=00"
        for headers in ({"X-Amz-Target": "DynamoDB_20120810.ListTables"}, {"Authorization": "AWS4-HMAC-SHA256\t" + everybody},
                        {"Authorization": "aws4-hmac-sha256 " + everybody}, {"X-Amz-Request-Route": "x"}):
            with self.subTest(headers):
                for data in None, b"{}":
                    self.assertEqual(self.status("GET", link, headers, data), 403)
                    self.assertEqual(self.status("OPTIONS", link, headers, data), 403)
        self.assertEqual(self.form(post, {}), 403)
        self.assertEqual(self.status("GET", link, {"Range": "bytes=0-1", "If-Match": "*", "X-Amz-Content-Sha256": "UNSIGNED-PAYLOAD"}), 206)

    def test_links(self):
        s3 = self.client("s3")
        s3.create_bucket(Bucket="links")
        s3.put_object(Bucket="links", Key="file", Body=b"bytes")
        link = s3.generate_presigned_url("get_object", {"Bucket": "links", "Key": "file"}).removeprefix(self.url)
        self.assertIn("X-Amz-Signature", link)
        self.assertEqual(self.status("GET", link, {"Sec-Fetch-Site": "cross-site"}), 200)
        for other in link.replace("/file", "/other"), link[:-1] + ("0" if link[-1] != "0" else "1"), link.replace("links/file", "_ministack/health"):
            self.assertEqual(self.status("GET", other), 403)
        self.assertEqual(self.status("PUT", link, data=b"x"), 403)
        s3.put_bucket_cors(Bucket="links", CORSConfiguration={"CORSRules": [
            {"AllowedMethods": ["GET"], "AllowedOrigins": ["https://a.example"], "AllowedHeaders": ["range"]}]})
        for origin, want in ("https://a.example", "https://a.example"), ("https://b.example", None):
            request = urllib.request.Request(self.url + link, method="OPTIONS", headers={
                "Origin": origin, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "range"})
            try:
                answer = urllib.request.urlopen(request, timeout=60)
            except urllib.error.HTTPError as error:
                answer = error
            with answer:
                self.assertEqual(answer.headers["Access-Control-Allow-Origin"], want)

    def test_a_function(self):
        """No other user can compute the credentials of its role, or fetch its events."""
        self.client("iam").create_role(RoleName="worker", AssumeRolePolicyDocument=json.dumps({
            "Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}]}))
        code = io.BytesIO()
        with zipfile.ZipFile(code, "w") as zipped:
            info = zipfile.ZipInfo("bootstrap")
            info.external_attr = 0o755 << 16
            zipped.writestr(info, BOOTSTRAP)
        functions = self.client("lambda")
        arn = functions.create_function(FunctionName="it", Role=ROLE, Runtime="provided.al2023", Handler="bootstrap", Timeout=30,
                                        Code={"ZipFile": code.getvalue()})["FunctionArn"]
        self.addCleanup(functions.delete_function, FunctionName="it")
        end = time.monotonic() + 120
        while functions.get_function(FunctionName="it")["Configuration"]["State"] != "Active" and time.monotonic() < end:
            time.sleep(0.05)
        env = json.load(functions.invoke(FunctionName="it")["Payload"])
        self.assertNotIn(self.secret, json.dumps(env))
        role = env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], env["AWS_SESSION_TOKEN"]
        self.assertIn("/worker/it", self.client("sts", *role).get_caller_identity()["Arn"])

        digest = hashlib.sha256(f"{arn}:{ROLE}".encode()).hexdigest()  # as ministack's execution_credentials does
        guessed = f"ASIA{digest[:16].upper()}", *(hashlib.sha256(f"{kind}:{digest}".encode()).hexdigest() for kind in ("secret", "token"))
        with self.assertRaisesRegex(Exception, "requires a signature"):
            self.client("sts", *guessed).get_caller_identity()

        address, _, nonce = env["AWS_LAMBDA_RUNTIME_API"].partition("/")
        self.assertEqual(len(nonce), 32)
        with self.assertRaises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"http://{address}/2018-06-01/runtime/invocation/next", timeout=60)
        self.assertEqual(refused.exception.code, 404)
        refused.exception.close()


if __name__ == "__main__":
    unittest.main(warnings="ignore")  # about daemons, which outlive the code that started them
