"""Tests of make deploy and make destroy, against an AWS that records what it is asked.

    .local/deploy/bin/python scripts/cloud/cloud_test.py
"""

import contextlib
import http.server
import io
import os
import pathlib
import pty
import runpy
import sys
import tempfile
import threading
import traceback
import unittest
import urllib.parse
from unittest import mock

import botocore.exceptions

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(1, str(HERE.parent))

import deploy
import destroy
from process import Failed


def client_error(code):
    return botocore.exceptions.ClientError({"Error": {"Code": code, "Message": "as AWS says"}}, "operation")


class Sts(http.server.BaseHTTPRequestHandler):
    """Says who the caller is, unless the key is the refused one."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        assert urllib.parse.parse_qs(body)["Action"] == ["GetCallerIdentity"], body
        if "Credential=REFUSED/" in self.headers["Authorization"]:
            status, text = 403, "<ErrorResponse><Error><Code>ExpiredToken</Code><Message>it has expired</Message></Error></ErrorResponse>"
        else:
            status, text = 200, ("<GetCallerIdentityResponse><GetCallerIdentityResult><Account>123456789012</Account><Arn>arn:aws:iam::123456789012:user/me</Arn>"
                                 "<UserId>U</UserId></GetCallerIdentityResult></GetCallerIdentityResponse>")
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


# Prints its command and the options that matter, and fails where the test wants it.
SAM = """#!/bin/sh
echo "sam $1 $(echo "$*" | grep -oE -- '--parameter-overrides .*')"
[ "$1" != "$FAIL" ]
"""


class Deploy(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.config = self.folder / "samconfig.toml"
        (self.folder / "bin").mkdir()
        (self.folder / "bin/sam").write_text(SAM)
        (self.folder / "bin/sam").chmod(0o755)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sts)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        self.env = {"PATH": f"{self.folder}/bin:{os.environ['PATH']}", "HOME": folder.name, "CONFIG": str(self.config),
                    "AWS_EC2_METADATA_DISABLED": "true", "AWS_REGION": "eu-central-1",
                    "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}", "AWS_ACCESS_KEY_ID": "KEY", "AWS_SECRET_ACCESS_KEY": "secret"}

    def run_it(self, command="deploy", answers=None, **env):
        """Runs the command and returns its exit status and all it printed. With answers, it has a terminal."""
        env = {k: v for k, v in (self.env | env).items() if v is not None}
        terminal, stdin = (None, os.open(os.devnull, os.O_RDONLY)) if answers is None else pty.openpty()
        shown, stdout = os.pipe()
        child = os.fork()  # has imported everything already; a new process would need two seconds for that
        if child == 0:
            status = 70
            try:
                for ours, standard in (stdin, 0), (stdout, 1), (stdout, 2):
                    os.dup2(ours, standard)
                os.environ.clear()
                os.environ.update(env)
                sys.argv = [str(HERE), command]
                # Line by line, as the commands that it starts write to the same pipe.
                sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w", buffering=1), open(2, "w", buffering=1)
                runpy.run_path(str(HERE / "__main__.py"), run_name="__main__")
                status = 0
            except SystemExit as end:
                status = end.code or 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                os._exit(status)
        os.close(stdin)
        os.close(stdout)
        if terminal is not None:
            os.write(terminal, "".join(a + "\n" for a in answers).encode())
        with open(shown) as pipe:
            text = pipe.read()
        if terminal is not None:
            os.close(terminal)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text

    def test_who_and_where(self):
        for name, env, want in (
            ("no credentials", {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, "{}: no credentials: run aws configure or aws sso login, or set AWS_PROFILE"),
            ("expired", {"AWS_ACCESS_KEY_ID": "REFUSED"}, "{}: AWS refuses the credentials: ExpiredToken: it has expired"),
            ("no region", {"AWS_REGION": None}, "{}: no region: set AWS_REGION"),
        ):
            for command in "deploy", "destroy":
                with self.subTest(name, command=command):
                    status, text = self.run_it(command, ORIGIN_URL="https://x.example", STACK_NAME="download", YES="1", **env)
                    self.assertEqual(status, 1)
                    self.assertTrue(text.startswith(want.format(command)), text)
                    self.assertFalse(self.config.exists())

    def test_asks_nothing_with_an_origin(self):
        status, text = self.run_it(ORIGIN_URL="https://files.example.com/base")
        self.assertEqual(status, 0, text)
        lines = text.splitlines()
        self.assertIn("account 123456789012, region eu-central-1, as arn:aws:iam::123456789012:user/me", lines[0])
        self.assertIn("warning: ApiAuth is NONE: anyone who knows the URL can copy any path of https://files.example.com/base", text)
        self.assertIn("pages of any site can", text)
        self.assertEqual([line for line in lines if line.startswith("sam ")], ["sam build --parameter-overrides Architecture=arm64", "sam deploy "])
        settings = deploy.Config(self.config, "default").settings()
        self.assertEqual(settings, {"stack_name": "download", "region": "eu-central-1", "resolve_s3": True, "capabilities": "CAPABILITY_IAM",
                                    "parameter_overrides": ["OriginUrl=https://files.example.com/base"]})
        status, text = self.run_it()  # again, with what is in the file
        self.assertEqual((status, text.splitlines()[-1]), (0, "sam deploy "))

    def test_asks_for_the_main_settings(self):
        """A wrong answer is asked again; JWT needs two more; what was answered survives a failure."""
        answers = ["ftp://x", "https://files.example.com", "", "JWT", "https://issuer.example", "files", "https://app.example", "true", ""]
        status, text = self.run_it(answers=answers, FAIL="build")
        self.assertEqual(status, 1, text)
        self.assertIn("OriginUrl must be an http or https URL", text)
        self.assertNotIn("ApiAuth is NONE", text)
        self.assertTrue(text.endswith(f"deploy: sam build failed; the parameters are kept in {self.config}\n"), text)
        self.assertEqual(deploy.Config(self.config, "default").overrides(), {
            "OriginUrl": "https://files.example.com", "ApiAuth": "JWT", "JwtIssuer": "https://issuer.example", "JwtAudience": "files",
            "AllowedWebOrigins": "https://app.example", "RequireTicket": "true"})
        self.assertNotIn("LinkExpirySeconds", text)

    def test_nobody_to_ask(self):
        self.assertIn("deploy: stdin is no terminal, so nothing can be asked; make deploy ORIGIN_URL=… asks nothing\n", self.run_it()[1])

    def test_wrong_values(self):
        status, text = self.run_it(ORIGIN_URL="ftp://x", PARAMETERS="ApiAuth=jwt")
        self.assertEqual(status, 1)
        self.assertNotIn("sam ", text)
        self.assertIn("deploy: ApiAuth must be one of", text)
        self.assertIn("deploy: OriginUrl must be", text)

    def test_a_section(self):
        self.config.write_text('version = 0.1\n[prod.deploy.parameters]\nregion = "us-west-2"\nparameter_overrides = "OriginUrl=\\"https://a\\" Architecture=x86_64"\n')
        self.assertEqual(self.run_it(), (1, f"deploy: {self.config} has no section [default]\n"))
        status, text = self.run_it(ENVIRONMENT="prod")
        self.assertEqual(status, 0, text)
        self.assertIn("region us-west-2", text)
        self.assertIn("sam build --parameter-overrides Architecture=x86_64\n", text)

    def test_architecture(self):
        """Functions are built for the processor that they are deployed to."""
        origin = '[default.deploy.parameters]\nparameter_overrides = ["OriginUrl=https://x"{}]\n'
        for name, text, want in (
            ("default", origin.format(""), "arm64"),
            ("a list", origin.format(', "Architecture=x86_64"'), "x86_64"),
            ("for all commands", '[default.global.parameters]\nparameter_overrides = ["OriginUrl=https://x", "Architecture=x86_64"]\n', "x86_64"),
            ("a comment", origin.format('\n# "Architecture=x86_64"\n'), "arm64"),
            ("of another section", origin.format("") + '[prod.deploy.parameters]\nparameter_overrides = "Architecture=x86_64"\n', "arm64"),
        ):
            with self.subTest(name):
                self.config.write_text(text)
                status, out = self.run_it()
                self.assertEqual(status, 0, out)
                self.assertIn(f"sam build --parameter-overrides Architecture={want}\n", out)
                self.assertEqual(self.config.read_text(), text)  # nothing new, so nothing is written


class Bucket(unittest.TestCase):
    KEY = "arn:aws:kms:eu-central-1:123456789012:key/5f0c3b1e"

    def check(self, key="", **answers):
        """Returns the lines about a bucket whose answers differ from those of a good one; an exception is raised."""
        s3 = mock.Mock()
        good = {
            "get_bucket_location": {"LocationConstraint": "eu-central-1"}, "get_bucket_versioning": {},
            "get_bucket_encryption": self.encryption("AES256"),
            "get_bucket_lifecycle_configuration": {"Rules": [{"Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1},
                                                              "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1}}]}}
        for method, answer in (good | answers).items():
            getattr(s3, method).side_effect = [answer] * 2 if not isinstance(answer, Exception) else answer
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown), mock.patch.object(sys, "argv", ["", "deploy"]):
            try:
                deploy.check_bucket(s3, "given", "eu-central-1", key)
            except Failed as failed:
                return str(failed).splitlines()
        return shown.getvalue().splitlines()

    @staticmethod
    def encryption(algorithm, key=None):
        by = {"SSEAlgorithm": algorithm} | ({"KMSMasterKeyID": key} if key else {})
        return {"ServerSideEncryptionConfiguration": {"Rules": [{"ApplyServerSideEncryptionByDefault": by}]}}

    def test_fits(self):
        self.assertEqual(self.check(), [])
        self.assertEqual(self.check(get_bucket_versioning={"Status": "Suspended"}), [])
        self.assertEqual(self.check(get_bucket_encryption=client_error("ServerSideEncryptionConfigurationNotFoundError")), [])
        self.assertEqual(self.check(self.KEY, get_bucket_encryption=self.encryption("aws:kms", self.KEY)), [])
        self.assertEqual(self.check(self.KEY, get_bucket_encryption=self.encryption("aws:kms", "5f0c3b1e")), [])

    def test_does_not_fit(self):
        for word, answers in (
            ("versioning", {"get_bucket_versioning": {"Status": "Enabled"}}),
            ("us-east-1", {"get_bucket_location": {"LocationConstraint": None}}),
            ("eu-west-1", {"get_bucket_location": {"LocationConstraint": "EU"}}),
            ("aws:kms and the key aws/s3", {"get_bucket_encryption": self.encryption("aws:kms")}),
            ("key/other", {"get_bucket_encryption": self.encryption("aws:kms", "key/other"), "key": self.KEY}),
            ("NoSuchBucket", {"get_bucket_location": client_error("NoSuchBucket")}),
            ("AccessDenied", {"get_bucket_encryption": client_error("AccessDenied")}),
        ):
            with self.subTest(word):
                lines = self.check(**answers)
                self.assertEqual(len(lines), 1, lines)
                self.assertTrue(lines[0].startswith("BucketName: given: "), lines)
                self.assertIn(word, lines[0])
        self.assertEqual(len(self.check(get_bucket_versioning={"Status": "Enabled"}, get_bucket_location={"LocationConstraint": "us-west-2"})), 2)

    def test_lifecycle(self):
        self.assertEqual(len(self.check(get_bucket_lifecycle_configuration=client_error("NoSuchLifecycleConfiguration"))), 2)
        other = {"Rules": [{"Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 1}, "AbortIncompleteMultipartUpload": {}},
                           {"Status": "Disabled", "Prefix": "", "Expiration": {"Days": 1}, "AbortIncompleteMultipartUpload": {}},
                           {"Status": "Enabled", "Prefix": "down", "Expiration": {"Days": 9}}]}
        self.assertEqual(self.check(get_bucket_lifecycle_configuration=other),
                         ["deploy: warning: BucketName: given: no lifecycle rule aborts unfinished uploads of downloads/ after a day"])


class Aws:
    """The services, as far as make destroy needs them, with the refusals that the local stack's emulator doesn't have.

    Executions end some time after they were stopped. Workers outlive them, and write an object afterwards.
    """

    def __init__(self, running=3, late_objects=1, express=True):
        self.calls, self.running, self.stopped = [], [f"execution{n}" for n in range(running)], []
        self.late, self.objects, self.uploads, self.express, self.now, self.deleting, self.intake = late_objects, ["a", "b"], ["u"], express, 0.0, False, True
        self.gone, self.ended = False, 0.0
        for name in ("StateMachineTypeNotSupported", "StateMachineDoesNotExist", "ExecutionDoesNotExist", "NoSuchUpload", "NoSuchBucket", "ResourceNotFoundException"):
            setattr(self, name, type(name, (Exception,), {}))
        self.exceptions = self

    def client(self, service):
        return self

    region_name = "us-east-1"

    def sleep(self, seconds):
        self.now += seconds
        if self.stopped and self.now > 3:
            self.running.remove(self.stopped.pop())
        if not self.running:
            self.ended = self.ended or self.now
            if self.late and self.now > self.ended + 3:
                self.late -= 1
                self.objects.append("late")

    def get_paginator(self, operation):
        return mock.Mock(paginate=lambda **arguments: [getattr(self, operation)(**arguments)])

    def list_stack_resources(self, StackName):
        if StackName != "it":
            raise client_error("ValidationError")
        return {"StackResourceSummaries": [{"LogicalResourceId": n, "PhysicalResourceId": n, "ResourceStatus": "CREATE_COMPLETE"}
                                           for n in ("DownloadStateMachine", "DeliverStateMachine", "DownloadFunction", "Bucket")]}

    def put_function_concurrency(self, FunctionName, ReservedConcurrentExecutions):
        self.calls.append("stop intake")
        self.intake = False

    def list_executions(self, stateMachineArn, statusFilter):
        if stateMachineArn == "DeliverStateMachine":
            if self.express:
                raise self.StateMachineTypeNotSupported
            return {"executions": []}
        if self.intake:
            self.running.append("another")
        return {"executions": [{"executionArn": arn} for arn in self.running]}

    def stop_execution(self, executionArn, cause):
        self.calls.append("stop")
        self.stopped.append(executionArn)

    def list_multipart_uploads(self, Bucket):
        return {"Uploads": [{"Key": "k", "UploadId": u} for u in self.uploads]} if self.uploads else {}

    def abort_multipart_upload(self, Bucket, Key, UploadId):
        self.calls.append("abort")
        self.uploads.remove(UploadId)

    def list_object_versions(self, Bucket):
        found = [{"Key": o, "VersionId": "null"} for o in self.objects]
        return {"Versions": found[:1], "DeleteMarkers": found[1:]} if found else {}

    def delete_objects(self, Bucket, Delete):
        self.calls.append("remove")
        for o in Delete["Objects"]:
            self.objects.remove(o["Key"])
        return {}

    def delete_stack(self, StackName):
        self.calls.append("delete")
        if self.running:
            raise AssertionError("the state machine would wait for its executions")
        self.gone = not (self.objects or self.uploads or self.late)
        if self.late:
            self.objects.append("late")
            self.late = 0

    def get_waiter(self, name):
        assert name == "stack_delete_complete", name

        def wait(**_):
            if not self.gone:
                raise botocore.exceptions.WaiterError(name, "DELETE_FAILED", {})

        return mock.Mock(wait=wait)

    def describe_stack_events(self, StackName):
        return {"StackEvents": [{"ResourceStatus": "DELETE_FAILED", "LogicalResourceId": "Bucket", "ResourceStatusReason": "not empty"}]}

    def delete_log_group(self, logGroupName):
        self.calls.append(logGroupName)
        raise self.ResourceNotFoundException


class Destroy(unittest.TestCase):
    def destroy(self, aws):
        """Returns what it prints."""
        shown = io.StringIO()
        with (mock.patch.object(destroy, "time", mock.Mock(sleep=aws.sleep, monotonic=lambda: aws.now)), contextlib.redirect_stdout(shown),
              mock.patch.object(sys, "argv", ["", "destroy"])):
            destroy.destroy(destroy.Stack(aws, "it"))
        return shown.getvalue()

    def test_order(self):
        aws = Aws()
        text = self.destroy(aws)
        self.assertEqual(aws.calls, ["stop intake", "stop", "stop", "stop", "abort", "remove", "remove", "delete", "/aws/lambda/it"])
        self.assertTrue(aws.gone)
        for line in ("destroy: stopping the running executions", "destroy: 3 executions stopped", "destroy: emptying Bucket, until no worker has written for 5 s",
                     "destroy: 4 objects and uploads removed", "destroy: waiting for CloudFormation to delete the stack", "destroy: it is deleted"):
            self.assertIn(line + "\n", text)

    def test_worker_that_writes_late(self):
        """It writes after the bucket was found empty, so the stack's deletion fails, and is repeated."""
        aws = Aws(running=0, late_objects=1)
        aws.sleep = lambda seconds: setattr(aws, "now", aws.now + seconds)
        text = self.destroy(aws)
        self.assertIn("could not delete the stack: Bucket: not empty", text)
        self.assertEqual(aws.calls.count("delete"), 2)
        self.assertTrue(aws.gone)

    def test_nothing_runs(self):
        aws = Aws(running=0, late_objects=0, express=False)
        self.destroy(aws)
        self.assertEqual(aws.calls, ["stop intake", "abort", "remove", "delete", "/aws/lambda/it"])

    def test_no_such_stack(self):
        with self.assertRaisesRegex(Failed, "^there is no stack other in us-east-1$"):
            destroy.Stack(Aws(), "other")

    def test_nobody_to_ask(self):
        with (mock.patch.object(destroy, "open_session", return_value=Aws()), mock.patch.dict(os.environ, {"STACK_NAME": "it", "YES": ""}),
              mock.patch.object(sys, "stdin", io.StringIO()), contextlib.redirect_stdout(io.StringIO()), self.assertRaisesRegex(Failed, "no terminal; use YES=1")):
            destroy.main()
        with mock.patch.dict(os.environ, {"STACK_NAME": ""}), self.assertRaisesRegex(Failed, "^STACK_NAME is missing"):
            destroy.main()


if __name__ == "__main__":
    unittest.main()
