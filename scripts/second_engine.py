"""Runs the state machines in asl/ on a second Step Functions engine, moto's.

The local stack's engine passes over time-outs taken from a path, missing paths and more that AWS
minds; this one knows them. The functions and the deliver machine are replaced by the fakes below,
which change the item as internal/meeting does, in moto's DynamoDB: every expression they use is
looked up in its source, so that the two can't drift apart.

One line a scenario; the exit code is 0 only if all passed. `--self-check` takes a safeguard out of
the machine at a time and wants the scenario that needs it to fail.
"""

import io
import json
import logging
import os
import pathlib
import re
import sys
import threading
import time
import uuid

import boto3
from botocore.exceptions import ClientError
from moto import mock_aws
from moto.stepfunctions.parser.asl.component.intrinsic.function.statesfunction.generic.string_format import StringFormat
from moto.stepfunctions.parser.asl.component.state.exec.state_task import lambda_eval_utils
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service import state_task_service_aws_sdk

TOP = pathlib.Path(__file__).resolve().parent.parent
MEETING = (TOP / "internal/meeting/meeting.go").read_text()
REGION, ACCOUNT, TABLE = "us-east-1", "123456789012", "connections"
SUBSTITUTIONS = {
    "Partition": "aws",
    "FetchFunctionArn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:fetch",
    "FinishFunctionArn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:finish",
    "ConnectionsTableName": TABLE,
    "SendMessageFunctionArn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:send_message",
    "DeliverStateMachineArn": f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:deliver",
}
LIMIT = 30  # seconds a scenario may take; the longest wait in one is 2
LIMIT_BROKEN = 6  # one of a broken machine, which may wait for ever


def definition(name):
    text = (TOP / f"asl/{name}.asl.json").read_text()
    for name, value in SUBSTITUTIONS.items():
        text = text.replace("${%s}" % name, value)
    assert "${" not in text, "a substitution without a value"
    machine = json.loads(text)
    for state in machine["States"].values():
        # moto's grammar knows no whole number here, and its Map no tolerance: no scenario has a child fail.
        if "ToleratedFailurePercentage" in state:
            state["ToleratedFailurePercentage"] = float(state["ToleratedFailurePercentage"])
    return machine


# ---- AWS, where moto lacks it


class Failure(Exception):
    """What a function fails with: the name Step Functions sees, and a message."""

    def __init__(self, name, message="a reason"):
        super().__init__(name)
        self.name, self.message = name, message


class Lambda:
    """Stands in for boto3's Lambda client: moto itself would run functions in Docker."""

    def invoke(self, FunctionName, Payload, **_):
        run = Run.of(json.loads(Payload)["executionArn"])
        try:
            answer = getattr(run, FunctionName.rpartition(":")[2])(json.loads(Payload))
        except Failure as e:
            report = {"errorType": e.name, "errorMessage": e.message}
            return {"StatusCode": 200, "FunctionError": "Unhandled", "Payload": io.BytesIO(json.dumps(report).encode())}
        return {"StatusCode": 200, "Payload": io.BytesIO(json.dumps(answer).encode())}


class StepFunctions:
    """Stands in for boto3's Step Functions client: moto has no StartSyncExecution. Names are in Pascal case, as in the machine."""

    def start_sync_execution(self, StateMachineArn, Input):
        assert StateMachineArn == SUBSTITUTIONS["DeliverStateMachineArn"]
        task = json.loads(Input)
        assert list(task) == ["executionArn"], f"input of the deliver machine: {Input}"
        ended = {"ExecutionArn": "arn", "StateMachineArn": StateMachineArn, "Input": Input}
        try:
            Run.of(task["executionArn"]).deliver()
        except Failure as e:
            return ended | {"Status": "FAILED", "Error": e.name, "Cause": e.message}
        return ended | {"Status": "SUCCEEDED", "Output": "{}"}


class DynamoDB:
    """moto's own, with a chance for a scenario to act just before one of the machine's calls."""

    def __init__(self, client):
        self.client = client

    def get_item(self, **call):
        return self.client.get_item(**call)

    def update_item(self, **call):
        Run.of(call["Key"]["executionArn"]["S"]).before(call["UpdateExpression"])
        return self.client.update_item(**call)

    def __getattr__(self, name):
        return getattr(self.client, name)


def patch():
    original = state_task_service_aws_sdk.boto_client_for

    def client(service, region, state_credentials=None):
        if service == "lambda":
            return Lambda()
        if service == "stepfunctions":
            return StepFunctions()
        return DynamoDB(original(region=region, service=service, state_credentials=state_credentials))

    lambda_eval_utils.boto_client_for = client
    state_task_service_aws_sdk.boto_client_for = client

    def string_format(self, env):
        # moto leaves the backslashes of an escaped brace, as JSON has them, and takes the brace for a
        # place of a value; AWS doesn't (localstack/localstack#13425). Python's own escape is the brace twice.
        self.argument_list.eval(env=env)
        text, *values = env.stack.pop()
        env.stack.append(re.sub(r"\\+([{}])", r"\1\1", text).format(*values))

    StringFormat._eval_body = string_format  # pylint: disable=protected-access


# ---- the app, where it is not the machine


def go(expression):
    """An expression, which must stand in internal/meeting."""
    assert f'"{expression}"' in MEETING, f"internal/meeting doesn't say {expression!r}"
    return expression


EXISTS = go("attribute_exists(executionArn)")
NOBODY = go("REMOVE connectionId, connectedAt, #format")
RUNNING = go("#status IN (:copying, :ready)")
COPYING_OR_READY = {":copying": "COPYING", ":ready": "READY"}


class Run:
    """One execution, the item it has, its origin and its client.

    fetches and finishes are what the functions answer in turn: a dict, a Failure to raise, or a
    callable that gives either. posts says of each message whether the client "took" it or is "gone".
    """

    all = {}
    limit = LIMIT

    def __init__(self, fetches=({},), finishes=(), posts=("took",), timeout=60):
        self.fetches, self.finishes, self.posts = list(fetches), list(finishes), list(posts)
        self.timeout = timeout
        self.segments, self.told, self.sooner = [], [], {}
        self.lock = threading.Lock()  # the Map's children call fetch at the same time
        self.dynamodb, self.sfn = boto3.client("dynamodb", REGION), boto3.client("stepfunctions", REGION)
        self.name = uuid.uuid4().hex
        self.arn = f"{MACHINE.replace(':stateMachine:', ':execution:')}:{self.name}"
        Run.all[self.arn] = self

    @classmethod
    def of(cls, arn):
        return cls.all[arn]

    def start(self):
        self.dynamodb.put_item(
            TableName=TABLE,
            Item={"executionArn": {"S": self.arn}, "status": {"S": "COPYING"}, "path": {"S": ""}, "query": {"S": ""}},
            ConditionExpression=go("attribute_not_exists(executionArn)"),
        )
        self.sfn.start_execution(
            stateMachineArn=MACHINE,
            name=self.name,
            input=json.dumps({"clientTimeoutSeconds": self.timeout, "maxConcurrentSegments": 2}),
        )
        return self

    def before(self, expression):
        """Does what the scenario wants done just before this update of the machine's, once."""
        for part, act in list(self.sooner.items()):
            if part in expression:
                del self.sooner[part]
                act()

    # the item

    def item(self):
        item = self.dynamodb.get_item(TableName=TABLE, Key={"executionArn": {"S": self.arn}}, ConsistentRead=True).get("Item", {})
        return {name: next(iter(value.values())) for name, value in item.items()}

    def update(self, expression, condition, values):
        """Returns the item as it is then, or None where the condition doesn't hold."""
        names = {"#" + n: n for n in ("status", "format") if "#" + n in expression + condition}
        encoded = {n: {"BOOL": v} if isinstance(v, bool) else {"S": v} for n, v in values.items()}
        try:
            self.dynamodb.update_item(
                TableName=TABLE, Key={"executionArn": {"S": self.arn}},
                UpdateExpression=expression, ConditionExpression=condition,
                **({"ExpressionAttributeNames": names} if names else {}), ExpressionAttributeValues=encoded,
            )
        except ClientError as e:
            if e.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            return None
        return self.item()

    # the client

    def connect(self, connection="c1"):
        item = self.update(go("SET connectionId = :id, #format = :format, connectedAt = :at"), EXISTS,
                           {":id": connection, ":format": "plain", ":at": "1"})
        if item and "taskToken" in item:
            self.answer(item, lambda token: self.sfn.send_task_success(taskToken=token, output="{}"))
        return item

    def cancel(self):
        item = self.update(go("SET cancelled = :true"), RUNNING, {":true": True} | COPYING_OR_READY)
        if item and "taskToken" in item:
            self.answer(item, lambda token: self.sfn.send_task_failure(taskToken=token, error="CANCELLED", cause="cancelled by the client"))
        return item

    def answer(self, item, send):
        send(item["taskToken"])
        self.update(go("REMOVE taskToken"), go("taskToken = :token"), {":token": item["taskToken"]})

    # the functions

    def fetch(self, task):
        if "plan" in task:
            assert set(task) - {"copy"} == {"executionArn", "plan", "segment"}, f"a segment's task: {task}"
            with self.lock:
                self.segments.append((task["plan"]["uploadId"], task["segment"]["first"]))
            return {"work": {"segments": None}, "waitSeconds": 0}
        assert list(task) == ["executionArn"], f"fetch's task: {task}"
        return self.outcome(self.fetches)

    def finish(self, task):
        if "failure" in task:
            return self.fail(task["failure"])
        assert set(task) == {"executionArn", "work"}, f"finish's task: {task}"
        return self.outcome(self.finishes)

    def next(self, answers):
        answer = answers.pop(0)
        if callable(answer):
            answer = answer()
        if isinstance(answer, Failure):
            raise answer
        return answer

    def outcome(self, answers):
        answer = self.next(answers)
        # As Go writes it: a slice that is nil is null.
        outcome = {"work": {"plan": {"uploadId": ""}, "segments": None, "missing": 0}, "waitSeconds": 0, "connected": False} | answer
        if not outcome["work"]["segments"] and not outcome["waitSeconds"]:
            done = self.update(go("SET #status = :ready, bytesCopied = :size, bytesTotal = :size, copiedAt = :now REMOVE uploadId"),
                               RUNNING + " AND attribute_not_exists(cancelled)", {":size": "1", ":now": "1"} | COPYING_OR_READY)
            if not done:
                raise Failure("CANCELLED")
        return outcome

    def fail(self, why):
        code = why["Error"]
        status = code if code in ("CANCELLED", "EXPIRED") else "FAILED"
        item = self.update(go("SET #status = :status, failure = :why REMOVE taskToken, uploadId"), RUNNING,
                           {":status": status, ":why": code} | COPYING_OR_READY) or self.item()
        return {"work": {"segments": None}, "waitSeconds": 0, "code": code, "message": "a reason", "connected": "connectionId" in item}

    def deliver(self):
        item = self.item()
        if item.get("cancelled") and item["status"] in COPYING_OR_READY.values() or "connectionId" not in item:
            raise Failure("ConnectionGone")
        mine = {":id": item["connectionId"]}
        if self.posts.pop(0) == "gone":
            self.update(NOBODY, go("connectionId = :id"), mine)
            raise Failure("ConnectionGone")
        without = item["status"] in ("FAILED", "CANCELLED")
        self.told.append((item["connectionId"], item["failure"] if without else "link"))
        if not without:
            self.update(go("SET #status = :delivered REMOVE taskToken"), go("connectionId = :id"), mine | {":delivered": "DELIVERED"})

    # what is waited for and looked at

    def until(self, what, holds):
        end = time.monotonic() + self.limit
        while not holds():
            assert time.monotonic() < end, f"{what}: not in {self.limit} s"
            time.sleep(0.02)

    def waits(self):
        self.until("the token in the item", lambda: "taskToken" in self.item())
        return self

    def ends(self, status, states, error=None, told=(), item=None):
        """Waits for the end and compares. item None is an item that is not looked at."""
        describe = lambda: self.sfn.describe_execution(executionArn=self.arn)
        self.until("the end", lambda: describe()["status"] != "RUNNING")
        got = describe()
        compare("status", got["status"], status)
        compare("states", self.states(), states)
        compare("error", got.get("error"), error)
        compare("messages", self.told, list(told))
        if item is not None:
            now = self.item()
            compare("item", {k: now.get(k) for k in item}, item)
            compare("token in the item", now.get("taskToken"), None)

    def states(self):
        events, more = [], {}
        while True:
            page = self.sfn.get_execution_history(executionArn=self.arn, **more)
            events += page["events"]
            if "nextToken" not in page:
                return [e["stateEnteredEventDetails"]["name"] for e in events if "stateEnteredEventDetails" in e]
            more = {"nextToken": page["nextToken"]}


def compare(what, got, want):
    assert got == want, f"{what}: got {got}, want {want}"


# ---- the scenarios

COPY = ["Copy the file", "What is left to do?"]
LOOK = ["Look for the client", "Is the client here?"]
SEND = ["Send the link", "Was the link sent?"]
WAIT = ["Wait for the client"]
TOLD = ["Note the failure", "Is the client connected?", "Report the failure", "How did it end?"]
UNHEARD = ["Note the failure", "Is the client connected?", "How did it end?"]


def work(*first):
    return {"work": {"plan": {"uploadId": "u1"}, "segments": [{"first": f, "last": f + 9} for f in first], "missing": 10 * len(first)}}


def client_is_early():
    run = Run()
    run.fetches = [lambda: run.connect() and {}]
    run.start().ends("SUCCEEDED", COPY + LOOK + SEND + ["Delivered"], told=[("c1", "link")], item={"status": "DELIVERED", "connectionId": "c1"})


def client_is_late():
    run = Run().start().waits()
    run.connect()
    run.ends("SUCCEEDED", COPY + LOOK + WAIT + SEND + ["Delivered"], told=[("c1", "link")], item={"status": "DELIVERED"})


def client_comes_between_look_and_wait():
    run = Run(timeout=2)
    run.sooner = {"SET taskToken": run.connect}
    run.start().ends("SUCCEEDED", COPY + LOOK + WAIT + LOOK + SEND + ["Delivered"], told=[("c1", "link")], item={"status": "DELIVERED"})


def copy_fails_and_client_is_told():
    run = Run()

    def fail():
        run.connect()
        return Failure("ORIGIN_STATUS")

    run.fetches = [fail]
    run.start().ends("FAILED", ["Copy the file"] + TOLD + ["Failed"], "ORIGIN_STATUS", told=[("c1", "ORIGIN_STATUS")],
                     item={"status": "FAILED", "failure": "ORIGIN_STATUS"})


def copy_fails_and_nobody_is_there():
    Run([Failure("ORIGIN_UNREACHABLE")]).start().ends(
        "FAILED", ["Copy the file"] + UNHEARD + ["Failed"], "ORIGIN_UNREACHABLE", item={"status": "FAILED", "failure": "ORIGIN_UNREACHABLE"})


def lambda_breaks_and_is_tried_again():
    run = Run([Failure("Lambda.TooManyRequestsException"), {}])
    run.start().waits().connect()
    run.ends("SUCCEEDED", COPY + LOOK + WAIT + SEND + ["Delivered"], told=[("c1", "link")], item={"status": "DELIVERED"})


def nobody_comes():
    begun = time.monotonic()
    Run(timeout=2).start().ends("FAILED", COPY + LOOK + WAIT + ["Note the expiry", "Expired"], "EXPIRED", item={"status": "EXPIRED"})
    assert time.monotonic() - begun >= 2, "expired before its time"


def client_comes_as_time_runs_out():
    run = Run(timeout=1)
    # on-connect finds the token, and its task closed: it has no more to do than this.
    run.sooner = {"SET #status": lambda: run.update("SET connectionId = :id", EXISTS, {":id": "c1"})}
    run.start().ends("SUCCEEDED", COPY + LOOK + WAIT + ["Note the expiry"] + LOOK + SEND + ["Delivered"], told=[("c1", "link")], item={"status": "DELIVERED"})


def cancelled_while_waiting():
    run = Run().start().waits()
    run.cancel()
    run.ends("FAILED", COPY + LOOK + WAIT + UNHEARD + ["Cancelled"], "CANCELLED", item={"status": "CANCELLED"})


def cancelled_between_look_and_wait():
    run = Run(timeout=2)
    run.sooner = {"SET taskToken": run.cancel}
    run.start().ends("FAILED", COPY + LOOK + WAIT + LOOK + ["It was cancelled"] + UNHEARD + ["Cancelled"], "CANCELLED", item={"status": "CANCELLED"})


def cancelled_while_copying():
    run = Run()
    run.fetches = [lambda: run.connect() and run.cancel() and {}]
    run.start().ends("FAILED", ["Copy the file"] + TOLD + ["Cancelled"], "CANCELLED", told=[("c1", "CANCELLED")], item={"status": "CANCELLED"})


def cancelled_just_before_the_link():
    run = Run().start().waits()
    deliver = run.deliver

    def cancel_first():
        run.deliver = deliver
        run.cancel()
        deliver()

    run.deliver = cancel_first
    run.connect()
    run.ends("FAILED", COPY + LOOK + WAIT + SEND + LOOK + ["It was cancelled"] + TOLD + ["Cancelled"], "CANCELLED",
             told=[("c1", "CANCELLED")], item={"status": "CANCELLED"})


def client_is_gone_then_back():
    run = Run(posts=["gone", "took"])
    run.fetches = [lambda: run.connect("c1") and {}]
    run.start().waits()
    run.connect("c2")
    run.ends("SUCCEEDED", COPY + LOOK + SEND + LOOK + WAIT + SEND + ["Delivered"], told=[("c2", "link")], item={"status": "DELIVERED", "connectionId": "c2"})


def client_is_gone_and_nobody_comes():
    run = Run(posts=["gone"], timeout=2)
    run.fetches = [lambda: run.connect() and {}]
    run.start().ends("FAILED", COPY + LOOK + SEND + LOOK + WAIT + ["Note the expiry", "Expired"], "EXPIRED", item={"status": "EXPIRED", "connectionId": None})


def delivery_breaks():
    run = Run(posts=[])
    run.fetches = [lambda: run.connect() and {}]

    def broken():
        raise Failure("INTERNAL")

    run.deliver = broken
    run.start().ends("FAILED", COPY + LOOK + SEND + ["Not sent"], "INTERNAL", item={"status": "READY"})


def item_is_gone():
    run = Run(timeout=1)
    run.sooner = {"SET #status": lambda: run.dynamodb.delete_item(TableName=TABLE, Key={"executionArn": {"S": run.arn}})}
    run.start().ends("FAILED", COPY + LOOK + WAIT + ["Note the expiry"] + LOOK + ["Expired"], "EXPIRED")


def origin_wants_to_be_left_alone():
    begun = time.monotonic()
    run = Run([{"waitSeconds": 1}, {}])
    run.start().waits().connect()
    run.ends("SUCCEEDED", COPY + ["Wait for the origin"] + COPY + LOOK + WAIT + SEND + ["Delivered"], told=[("c1", "link")])
    assert time.monotonic() - begun >= 1, "didn't wait"


def segments_in_two_rounds():
    run = Run([work(1, 11, 21)], [work(11), {}])
    run.start().waits().connect()
    rounds = COPY + 2 * ["Copy the segments", "Finish the copy", "What is left to do?"]
    run.ends("SUCCEEDED", rounds + LOOK + WAIT + SEND + ["Delivered"], told=[("c1", "link")], item={"status": "DELIVERED"})
    compare("segments", sorted(run.segments), [("u1", 1), ("u1", 11), ("u1", 11), ("u1", 21)])


def finish_fails():
    run = Run([work(1)], [Failure("DIGEST_MISMATCH")])
    run.start().ends("FAILED", COPY + ["Copy the segments", "Finish the copy"] + UNHEARD + ["Failed"], "DIGEST_MISMATCH",
                     item={"status": "FAILED", "failure": "DIGEST_MISMATCH"})


def delivery(*answers):
    """Runs the deliver machine; send-message answers in turn. Returns how it ended and what was not asked for."""
    sfn, left = boto3.client("stepfunctions", REGION), list(answers)
    run = Run()
    run.send_message = lambda task: run.next(left)
    arn = sfn.start_execution(stateMachineArn=machine(sfn, "deliver"), input=json.dumps({"executionArn": run.arn}))["executionArn"]
    run.until("the end", lambda: sfn.describe_execution(executionArn=arn)["status"] != "RUNNING")
    ended = sfn.describe_execution(executionArn=arn)
    return ended["status"], ended.get("error"), len(left)


def delivery_outlasts_the_handshake():
    begun = time.monotonic()
    compare("delivery", delivery(Failure("ConnectionOpening"), Failure("ConnectionOpening"), {}), ("SUCCEEDED", None, 0))
    assert time.monotonic() - begun >= 2, "didn't wait a second before each try"


def delivery_to_nobody():
    compare("delivery", delivery(Failure("ConnectionGone"), {}), ("FAILED", "ConnectionGone", 1))


def delivery_is_tried_again():
    compare("delivery", delivery(Failure("INTERNAL"), {}), ("SUCCEEDED", None, 0))


SCENARIOS = [
    client_is_early, client_is_late, client_comes_between_look_and_wait, copy_fails_and_client_is_told,
    copy_fails_and_nobody_is_there, lambda_breaks_and_is_tried_again, nobody_comes, client_comes_as_time_runs_out,
    cancelled_while_waiting, cancelled_between_look_and_wait, cancelled_while_copying, cancelled_just_before_the_link,
    client_is_gone_then_back, client_is_gone_and_nobody_comes, delivery_breaks, item_is_gone,
    origin_wants_to_be_left_alone, segments_in_two_rounds, finish_fails,
    delivery_outlasts_the_handshake, delivery_to_nobody, delivery_is_tried_again,
]


# ---- the program


def machine(client, name="download", edit=None):
    m = definition(name)
    if edit:
        edit(m["States"])
    return client.create_state_machine(
        name="m" + uuid.uuid4().hex, definition=json.dumps(m), roleArn=f"arn:aws:iam::{ACCOUNT}:role/r")["stateMachineArn"]


def attempt(scenario):
    """Returns what went wrong, None if nothing did."""
    try:
        scenario()
    except (AssertionError, ClientError, KeyError, IndexError) as e:
        return str(e) or repr(e)
    return None


def without(state, field):
    return lambda states: (states[state] if field in states[state] else states[state]["Parameters"]).pop(field)


def forget_gone(states):
    question = states["Was the link sent?"]
    question["Choices"] = [c for c in question["Choices"] if c["Next"] == "Delivered"]


def look_no_more(states):
    catch = states["Wait for the client"]["Catch"]
    catch.remove(next(c for c in catch if c["Next"] == "Look for the client"))


# A safeguard, how it is taken out, and the scenario that must notice.
SELF_CHECK = [
    ("the wait's condition", without("Wait for the client", "ConditionExpression"), client_comes_between_look_and_wait),
    ("the look after the wait's condition failed", look_no_more, client_comes_between_look_and_wait),
    ("the wait's time-out", without("Wait for the client", "TimeoutSecondsPath"), nobody_comes),
    ("the expiry's condition", without("Note the expiry", "ConditionExpression"), client_comes_as_time_runs_out),
    ("gone means wait again", forget_gone, client_is_gone_then_back),
    ("the copy's Catch", without("Copy the file", "Catch"), copy_fails_and_client_is_told),
    ("the copy's Retry", without("Copy the file", "Retry"), lambda_breaks_and_is_tried_again),
]


def main():
    global MACHINE  # pylint: disable=global-statement
    logging.disable(logging.CRITICAL)  # moto tells every error that a scenario provokes
    checking = sys.argv[1:] == ["--self-check"]
    if sys.argv[1:] and not checking:
        sys.exit(__doc__)
    Run.limit = LIMIT_BROKEN if checking else LIMIT
    passed = failed = 0
    patch()
    with mock_aws(config={"stepfunctions": {"execute_state_machine": True}}):
        boto3.client("dynamodb", REGION).create_table(
            TableName=TABLE, BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": "executionArn", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "executionArn", "AttributeType": "S"}])
        client = boto3.client("stepfunctions", REGION)
        cases = [(name, edit, scenario) for name, edit, scenario in SELF_CHECK] if checking else [(None, None, s) for s in SCENARIOS]
        for name, edit, scenario in cases:
            MACHINE = machine(client, edit=edit)
            begun = time.monotonic()
            wrong = attempt(scenario)
            title = scenario.__name__.replace("_", " ")
            ok = bool(wrong) == checking
            if checking:
                title = f"without {name}: {title}" + (" fails" if ok else " passes all the same")
            print(f"{'ok  ' if ok else 'FAIL'} {title} ({time.monotonic() - begun:.1f} s)" + ("" if ok or checking else f": {wrong}"), flush=True)
            passed, failed = passed + ok, failed + (not ok)
    print(f"{passed} passed, {failed} failed")
    sys.stdout.flush()
    # Executions that a self-check broke wait on; their threads must not hold the program.
    os._exit(1 if failed else 0)


MACHINE = None

if __name__ == "__main__":
    main()
