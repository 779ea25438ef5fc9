"""make destroy: deletes the stack STACK_NAME with everything in it, from any state. YES=1 doesn't ask.

docs/operations.md has the order of its steps, and the reason.
"""

import os
import time

import botocore.exceptions

from account import open_session
from process import Failed, heartbeat, say

# A worker whose execution has ended notices it at its next count of bytes, within a second, or because its upload no
# longer exists. Nothing may appear in the bucket for this long.
QUIET_SECONDS = 5
ATTEMPTS = 3  # to delete the stack; a worker that waits for a slow origin may still write after the first


class Stack:
    def __init__(self, session, name):
        self.name = name
        self.cloudformation, self.functions, self.machines, self.s3, self.logs = (
            session.client(service) for service in ("cloudformation", "lambda", "stepfunctions", "s3", "logs"))
        try:
            pages = self.cloudformation.get_paginator("list_stack_resources").paginate(StackName=name)
            self.resources = {r["LogicalResourceId"]: r.get("PhysicalResourceId", "") for page in pages
                              for r in page["StackResourceSummaries"] if r["ResourceStatus"] != "DELETE_COMPLETE"}
        except botocore.exceptions.ClientError as error:
            if error.response["Error"]["Code"] != "ValidationError":
                raise
            raise Failed(f"there is no stack {name} in {session.region_name}") from None
        self.bucket = self.resources.get("Bucket", "")

    def stop_intake(self):
        """Throttles the function that starts downloads."""
        if function := self.resources.get("DownloadFunction"):
            try:
                self.functions.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=0)
            except self.functions.exceptions.ResourceNotFoundException:
                pass  # an earlier deletion took it

    def running(self):
        """Returns the ARNs of running executions. Express executions can't be listed; they end within minutes."""
        arns = []
        for machine in "DownloadStateMachine", "DeliverStateMachine":
            if not self.resources.get(machine):
                continue
            try:
                for page in self.machines.get_paginator("list_executions").paginate(
                        stateMachineArn=self.resources[machine], statusFilter="RUNNING"):
                    arns += [e["executionArn"] for e in page["executions"]]
            except (self.machines.exceptions.StateMachineTypeNotSupported, self.machines.exceptions.StateMachineDoesNotExist):
                pass
        return arns

    def stop_executions(self):
        """Stops executions until none runs: those that start meanwhile, too."""
        stopped = set()
        with heartbeat("stopping the running executions"):
            while running := self.running():
                for arn in set(running) - stopped:
                    try:
                        self.machines.stop_execution(executionArn=arn, cause="the stack is being deleted")
                    except self.machines.exceptions.ExecutionDoesNotExist:
                        pass
                stopped.update(running)
                time.sleep(1)
        if stopped:
            say(f"{len(stopped)} executions stopped")

    def empty_bucket(self):
        """Removes every object, version and unfinished upload. Returns how many there were."""
        if not self.bucket:
            return 0
        n = 0
        try:
            for page in self.s3.get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket):
                for upload in page.get("Uploads", []):
                    n += 1
                    try:
                        self.s3.abort_multipart_upload(Bucket=self.bucket, Key=upload["Key"], UploadId=upload["UploadId"])
                    except self.s3.exceptions.NoSuchUpload:
                        pass
            for page in self.s3.get_paginator("list_object_versions").paginate(Bucket=self.bucket):
                objects = [{"Key": v["Key"], "VersionId": v["VersionId"]} for v in page.get("Versions", []) + page.get("DeleteMarkers", [])]
                if objects:
                    n += len(objects)
                    failed = self.s3.delete_objects(Bucket=self.bucket, Delete={"Objects": objects, "Quiet": True}).get("Errors", [])
                    if failed:
                        raise Failed(f"{failed[0]['Key']} can't be deleted: {failed[0].get('Message', failed[0]['Code'])}")
        except self.s3.exceptions.NoSuchBucket:
            self.bucket = ""
        return n

    def empty_until_quiet(self):
        """Empties the bucket until nothing has appeared in it for QUIET_SECONDS."""
        total, quiet_since = 0, time.monotonic()
        with heartbeat(f"emptying {self.bucket}, until no worker has written for {QUIET_SECONDS} s"):
            while self.bucket and time.monotonic() - quiet_since < QUIET_SECONDS:
                if n := self.empty_bucket():
                    total, quiet_since = total + n, time.monotonic()
                time.sleep(0.5)
        if total:
            say(f"{total} objects and uploads removed")

    def delete(self):
        """Deletes the stack and returns why that failed, or None."""
        self.cloudformation.delete_stack(StackName=self.name)
        with heartbeat("waiting for CloudFormation to delete the stack"):
            try:
                self.cloudformation.get_waiter("stack_delete_complete").wait(StackName=self.name, WaiterConfig={"Delay": 5, "MaxAttempts": 720})
            except botocore.exceptions.WaiterError:
                events = self.cloudformation.describe_stack_events(StackName=self.name)["StackEvents"]
                failed = [e for e in events if e["ResourceStatus"] == "DELETE_FAILED"]
                return "; ".join(f"{e['LogicalResourceId']}: {e.get('ResourceStatusReason', 'no reason given')}" for e in failed[-1:]) or "no reason given"
        return None


def destroy(stack):
    stack.stop_intake()
    for attempt in range(ATTEMPTS):
        stack.stop_executions()
        stack.empty_until_quiet()
        reason = stack.delete()
        if reason is None:
            break
        say(f"CloudFormation could not delete the stack: {reason}")
    else:
        raise Failed(f"{stack.name} is not deleted; what is left is in the console of CloudFormation")
    # A late log line may have created the log group again; then the next stack of this name could not create its own.
    try:
        stack.logs.delete_log_group(logGroupName=f"/aws/lambda/{stack.name}")
    except stack.logs.exceptions.ResourceNotFoundException:
        pass
    say(f"{stack.name} is deleted")


def main():
    name = os.environ.get("STACK_NAME")
    if not name:
        raise Failed("STACK_NAME is missing: make destroy STACK_NAME=…")
    stack = Stack(open_session(), name)
    if os.environ.get("YES") != "1":
        try:
            answer = input(f"Delete the stack {name}{f' and everything in its bucket {stack.bucket}' if stack.bucket else ''}? [y/N] ")
        except EOFError:
            raise Failed("nothing was deleted: stdin is no terminal; use YES=1") from None
        if answer not in ("y", "Y"):
            raise Failed("nothing was deleted")
    destroy(stack)
