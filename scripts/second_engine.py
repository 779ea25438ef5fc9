"""Runs the paths of the state machines in asl/ on a second Step Functions engine, moto's.

Unlike the local stack's engine, this one evaluates time-outs that are read from a path, missing paths, and
more. A scenario is a path through the states, each with the canned reply to its call. What the functions do
with the item is tested in Go, where internal/meeting runs the same machines with the real code.

One line per scenario; the exit code is 0 only if all passed. `--self-check` removes one safeguard at a
time from the machine, and the scenario that needs it must fail.
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
REGION, ACCOUNT = "us-east-1", "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/r"
SUBSTITUTIONS = {
    "Partition": "aws",
    "FetchFunctionArn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:fetch",
    "FinishFunctionArn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:finish",
    "ConnectionsTableName": "connections",
    "SendMessageFunctionArn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:send-message",
    "DeliverStateMachineArn": f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:deliver",
}
PATIENCE = 120  # seconds a scenario may take on a busy machine; the longest wait in one is 2
PATIENCE_BROKEN = 6  # of a machine without its safeguard, which may wait forever


def definition(name):
    text = (TOP / f"asl/{name}.asl.json").read_text()
    for key, value in SUBSTITUTIONS.items():
        text = text.replace("${%s}" % key, value)
    assert "${" not in text, "a substitution without a value"
    machine = json.loads(text)
    for state in machine["States"].values():
        # moto's grammar has no whole number here.
        if "ToleratedFailurePercentage" in state:
            state["ToleratedFailurePercentage"] = float(state["ToleratedFailurePercentage"])
    return machine


class Fails(Exception):
    """A reply: the call fails with this name."""

    def __init__(self, name, message="a reason"):
        super().__init__(name)
        self.name, self.message = name, message


class Resume:
    """A reply to the wait: the token was written, and then the wait is resumed, or fails with error."""

    def __init__(self, error=None):
        self.error = error


class Run:
    """One execution. answers has, for each state that calls something, the replies to its calls, in order."""

    running = None

    def __init__(self, name, edit, answers, timeout=60):
        self.answers = {state: list(replies) for state, replies in answers.items()}
        self.calls, self.lock = [], threading.Lock()
        self.sfn = boto3.client("stepfunctions", REGION)
        machine = definition(name)
        if edit:
            edit(machine["States"])
        Run.running = self
        arn = self.sfn.create_state_machine(name="m" + uuid.uuid4().hex, definition=json.dumps(machine), roleArn=ROLE)["stateMachineArn"]
        values = {"clientTimeoutSeconds": timeout, "maxConcurrentSegments": 2} if name == "download" else {"executionArn": "arn"}
        self.arn = self.sfn.start_execution(stateMachineArn=arn, name=uuid.uuid4().hex, input=json.dumps(values))["executionArn"]

    def answer(self, state, call):
        """Returns the next reply for this state, and records the call."""
        with self.lock:  # the Map's children call at the same time
            self.calls.append((state, call))
            reply = self.answers[state].pop(0)
        if isinstance(reply, Fails):
            raise reply
        if isinstance(reply, Resume):
            token = call["ExpressionAttributeValues"][":taskToken"]["S"]
            if reply.error:
                self.sfn.send_task_failure(taskToken=token, error=reply.error, cause="by the test")
            else:
                self.sfn.send_task_success(taskToken=token, output="{}")
            return {}
        return reply

    def end(self, patience):
        """Status, error, and the states entered, once it has ended."""
        until = time.monotonic() + patience
        while (got := self.sfn.describe_execution(executionArn=self.arn))["status"] == "RUNNING":
            assert time.monotonic() < until, f"not ended in {patience} s"
            time.sleep(0.02)
        pages = self.sfn.get_paginator("get_execution_history").paginate(executionArn=self.arn)
        states = [e["stateEnteredEventDetails"]["name"] for p in pages for e in p["events"] if "stateEnteredEventDetails" in e]
        return got["status"], got.get("error"), states


class Lambda:
    """Replaces boto3's client: moto itself would run functions in Docker."""

    def invoke(self, FunctionName, Payload, **_):
        task, function = json.loads(Payload), FunctionName.rpartition(":")[2]
        if function == "send-message":
            state, keys = "Send the link", {"executionArn"}
        elif "segment" in task:
            state, keys = "Copy the segment", {"executionArn", "plan", "segment"} | set(task) & {"copy"}
        elif "failure" in task:
            state, keys = "Note the failure", {"executionArn", "failure"}
        elif "work" in task:
            state, keys = "Finish the copy", {"executionArn", "work"}
        else:
            state, keys = "Copy the file", {"executionArn"}
        functions = {"Send the link": "send-message", "Copy the file": "fetch", "Copy the segment": "fetch"}
        assert set(task) == keys and function == functions.get(state, "finish"), f"{state}: {function} {task}"
        try:
            answer = Run.running.answer(state, task)
        except Fails as e:
            report = {"errorType": e.name, "errorMessage": e.message}
            return {"StatusCode": 200, "FunctionError": "Unhandled", "Payload": io.BytesIO(json.dumps(report).encode())}
        return {"StatusCode": 200, "Payload": io.BytesIO(json.dumps(answer).encode())}


class StepFunctions:
    """Replaces boto3's client: moto has no StartSyncExecution."""

    def start_sync_execution(self, StateMachineArn, Input):
        assert StateMachineArn == SUBSTITUTIONS["DeliverStateMachineArn"]
        assert list(json.loads(Input)) == ["executionArn"], f"input of the deliver machine: {Input}"
        ended = {"ExecutionArn": "arn", "StateMachineArn": StateMachineArn, "Input": Input}
        try:
            Run.running.answer("Send the link", Input)
        except Fails as e:
            return ended | {"Status": "FAILED", "Error": e.name, "Cause": e.message}
        return ended | {"Status": "SUCCEEDED", "Output": "{}"}


class DynamoDB:
    """Replaces boto3's client: the two states that write differ in what they set."""

    def update_item(self, **call):
        state = "Wait for the client" if ":taskToken" in call["ExpressionAttributeValues"] else "Note the expiry"
        try:
            return Run.running.answer(state, call)
        except Fails as e:
            # moto takes the name from the class and prepends the service, as AWS does.
            error = {"Error": {"Code": e.name, "Message": e.message}, "ResponseMetadata": {"HTTPStatusCode": 400, "RequestId": "r"}}
            raise type(e.name, (ClientError,), {})(error, "UpdateItem") from e


def patch():
    def client(service, region=None, state_credentials=None):
        return {"lambda": Lambda, "stepfunctions": StepFunctions, "dynamodb": DynamoDB}[service]()

    lambda_eval_utils.boto_client_for = client
    state_task_service_aws_sdk.boto_client_for = client

    def string_format(self, env):
        # moto keeps the backslashes of an escaped brace, as JSON has them, and takes the brace for a
        # placeholder; AWS doesn't (localstack/localstack#13425). Python's own escape is the brace twice.
        self.argument_list.eval(env=env)
        text, *values = env.stack.pop()
        env.stack.append(re.sub(r"\\+([{}])", r"\1\1", text).format(*values))

    StringFormat._eval_body = string_format  # pylint: disable=protected-access


# ---- the scenarios: a path, each state with the reply to its call


def outcome(missing=0, wait=0, *segments):
    # As Go writes it: a slice that is nil is null.
    work = {"plan": {"uploadId": "u1"} if missing else None, "segments": list(segments) or None, "missing": missing}
    return {"work": work, "waitSeconds": wait, "connected": False}


def noted(code, connected):
    return {"code": code, "message": "a reason", "connected": connected}


DONE, GONE, OPENING, STOPPED = outcome(), Fails("ConnectionGone"), Fails("ConnectionOpening"), Fails("CANCELLED")
REFUSED, TOKEN = Fails("ConditionalCheckFailedException"), None  # the wait's condition; the token is written, and no client comes
COPY = [("Copy the file", DONE), ("What is left to do?",)]
WAIT, MET = ("Wait for the client", Resume()), ("Wait for the client", REFUSED)
SENT = [("Send the link", {}), ("Was the link sent?",), ("Delivered",)]


def send(answer):
    return [("Send the link", answer), ("Was the link sent?",)]


def failure(code, connected):
    end = ("Cancelled",) if code == "CANCELLED" else ("Failed",)
    report = [("Report the failure", {})] if connected else []
    return [("Note the failure", noted(code, connected)), ("Is the client connected?",), *report, ("How did it end?",), end]


SEGMENTS = [{"first": 1, "last": 10}, {"first": 11, "last": 20}]
CHILD = [("Copy the segment", {"waitSeconds": 0}), ("Did the origin ask for a delay?",), ("Segment copied",)]

# name: (path, status, error)
SCENARIOS = {
    "client connects first": (COPY + [MET] + SENT, "SUCCEEDED", None),
    "workflow waits": (COPY + [WAIT] + SENT, "SUCCEEDED", None),
    "client is gone, then back": (COPY + [MET] + send(GONE) + [WAIT] + SENT, "SUCCEEDED", None),
    "client is still connecting": (COPY + [MET] + send(OPENING) + [MET] + SENT, "SUCCEEDED", None),
    "no client": (COPY + [("Wait for the client", {}), ("Note the expiry", {}), ("Expired",)], "FAILED", "EXPIRED"),
    "client connects as the time runs out": (COPY + [("Wait for the client", {}), ("Note the expiry", REFUSED)] + SENT, "SUCCEEDED", None),
    "cancelled while waiting": (COPY + [("Wait for the client", Resume("CANCELLED"))] + failure("CANCELLED", False), "FAILED", "CANCELLED"),
    "cancelled before the wait": (COPY + [MET] + send(STOPPED) + [("It was cancelled",)] + failure("CANCELLED", True), "FAILED", "CANCELLED"),
    "delivery fails": (COPY + [MET] + [("Send the link", Fails("INTERNAL")), ("Was the link sent?",), ("Not sent",)], "FAILED", "INTERNAL"),
    "copy fails, client connected": ([("Copy the file", Fails("ORIGIN_STATUS"))] + failure("ORIGIN_STATUS", True), "FAILED", "ORIGIN_STATUS"),
    "copy fails, no client": ([("Copy the file", Fails("ORIGIN_UNREACHABLE"))] + failure("ORIGIN_UNREACHABLE", False), "FAILED", "ORIGIN_UNREACHABLE"),
    "Lambda throttles": ([("Copy the file", Fails("Lambda.TooManyRequestsException"), DONE), ("What is left to do?",), MET] + SENT, "SUCCEEDED", None),
    "table fails for a moment": (COPY + [("Wait for the client", Fails("ThrottlingException"), REFUSED)] + SENT, "SUCCEEDED", None),
    "origin asks for a delay": ([("Copy the file", outcome(0, 1)), ("What is left to do?",), ("Wait for the origin",)] + COPY + [MET] + SENT, "SUCCEEDED", None),
    "segments in two rounds": (
        [("Copy the file", outcome(20, 0, *SEGMENTS)), ("What is left to do?",), ("Copy the segments",), *CHILD, *CHILD,
         ("Finish the copy", outcome(10, 0, SEGMENTS[1])), ("What is left to do?",), ("Copy the segments",), *CHILD,
         ("Finish the copy", DONE), ("What is left to do?",), MET] + SENT, "SUCCEEDED", None),
    "finish fails": (
        [("Copy the file", outcome(10, 0, SEGMENTS[0])), ("What is left to do?",), ("Copy the segments",), *CHILD,
         ("Finish the copy", Fails("DIGEST_MISMATCH"))] + failure("DIGEST_MISMATCH", False), "FAILED", "DIGEST_MISMATCH"),
    "deliver: handshake is open": ([("Send the link", OPENING, OPENING, {})], "SUCCEEDED", None),
    "deliver: client is gone": ([("Send the link", GONE)], "FAILED", "ConnectionGone"),
    "deliver: fails for a moment": ([("Send the link", Fails("INTERNAL"), {})], "SUCCEEDED", None),
}
IN_A_CHILD = {"Copy the segment", "Did the origin ask for a delay?", "Segment copied"}  # whose executions have their own histories


def attempt(name, edit=None, patience=PATIENCE):
    """Runs the scenario of this name. Returns what is wrong, or None."""
    path, status, error = SCENARIOS[name]
    answers = {}
    for state, *replies in path:
        # Both states start the deliver machine.
        answers.setdefault("Send the link" if state == "Report the failure" else state, []).extend(replies)
    begun = time.monotonic()
    try:
        run = Run("deliver" if name.startswith("deliver:") else "download", edit, answers, timeout=2 if "no client" == name or "time runs out" in name else 60)
        got = run.end(patience)
        outside = [state for state, *_ in path if state not in IN_A_CHILD]
        assert got == (status, error, outside), f"got {got}, want {(status, error, outside)}"
        left = {state: replies for state, replies in run.answers.items() if replies}
        assert not left, f"calls that weren't made: {left}"
        segments = sorted(call["segment"]["first"] for state, call in run.calls if state == "Copy the segment")
        assert name != "segments in two rounds" or segments == [1, 11, 11], f"segments: {segments}"
        least = {"no client": 2, "origin asks for a delay": 1, "deliver: handshake is open": 2}.get(name, 0)
        assert time.monotonic() - begun >= least, f"took less than {least} s"
    except (AssertionError, ClientError, KeyError, IndexError) as e:
        return str(e) or repr(e)
    return None


def without(state, field):
    return lambda states: states[state].pop(field)


def without_choice(error):
    def edit(states):
        question = states["Was the link sent?"]
        question["Choices"] = [c for c in question["Choices"] if error not in json.dumps(c)]
    return edit


def without_catch(state, error):
    def edit(states):
        states[state]["Catch"] = [c for c in states[state]["Catch"] if error not in json.dumps(c)]
    return edit


# A safeguard, how it is removed, and the scenario that must fail then.
CONDITION = "ConditionalCheckFailedException"
SELF_CHECK = [
    ("the way on when the wait's condition fails", without_catch("Wait for the client", CONDITION), "client connects first"),
    ("the wait's time-out", without("Wait for the client", "TimeoutSecondsPath"), "no client"),
    ("the expiry's last check", without_catch("Note the expiry", CONDITION), "client connects as the time runs out"),
    ("gone means wait again", without_choice("ConnectionGone"), "client is gone, then back"),
    ("connecting means wait again", without_choice("ConnectionOpening"), "client is still connecting"),
    ("a cancel found by the delivery", without_choice("CANCELLED"), "cancelled before the wait"),
    ("the copy's Catch", without("Copy the file", "Catch"), "copy fails, client connected"),
    ("the copy's Retry", without("Copy the file", "Retry"), "Lambda throttles"),
]


def main():
    logging.disable(logging.CRITICAL)  # moto logs every error that a scenario provokes
    checking = sys.argv[1:] == ["--self-check"]
    if sys.argv[1:] and not checking:
        sys.exit(__doc__)
    failed = 0
    patch()
    with mock_aws(config={"stepfunctions": {"execute_state_machine": True}}):
        cases = [(f"without {what}: {name}", name, edit) for what, edit, name in SELF_CHECK] if checking else [(n, n, None) for n in SCENARIOS]
        for title, name, edit in cases:
            begun = time.monotonic()
            wrong = attempt(name, edit, PATIENCE_BROKEN if checking else PATIENCE)
            ok = bool(wrong) == checking
            failed += not ok
            print(f"{'ok  ' if ok else 'FAIL'} {title} ({time.monotonic() - begun:.1f} s)" + ("" if ok or checking else f": {wrong}"), flush=True)
    print(f"{len(cases) - failed} passed, {failed} failed", flush=True)
    # Executions that a self-check broke still wait; their threads must not hold the program.
    os._exit(1 if failed else 0)


if __name__ == "__main__":
    main()
