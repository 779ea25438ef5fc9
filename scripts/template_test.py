"""Checks template.yaml, expanded by SAM's own translator, against what the documentation promises.

Nothing else tests much of this: the local stack grants a state machine whatever it asks for, and
has no retention, tracing, or public access to block. Run by the Python that has SAM:

    .local/venv/bin/python scripts/template_test.py
"""

import json
import pathlib
import re
import subprocess
import tempfile
import unittest

import tomlkit
import yaml
from samcli.commands._utils import template as sam_build
from samcli.commands.package import package_context as sam_package
from samcli.yamlhelper import yaml_dump

import expand_template

TOP = pathlib.Path(__file__).resolve().parent.parent
SOURCE = expand_template.source()
EXPANDED = expand_template.expand()
OWN = expand_template.decide(EXPANDED, {})["Resources"]  # with the stack's own bucket, on AWS
GIVEN = expand_template.decide(EXPANDED, {"BucketName": "given"})["Resources"]
JWT = expand_template.decide(EXPANDED, {
    "ApiAuth": "JWT", "JwtIssuer": "https://issuer.example", "JwtAudience": "files"})["Resources"]  # has every function
LOCAL = expand_template.decide(EXPANDED, {"LocalEndpoint": "http://127.0.0.1:4566"})["Resources"]
KEY = "arn:aws:kms:us-east-1:123456789012:key/5f0c3b1e-9a7d-4c62-88e1-f2a3b4c5d6e7"
TOPIC = "arn:aws:sns:us-east-1:123456789012:on-call"
HARDENED = expand_template.decide(EXPANDED, {
    "KmsKeyArn": KEY, "AlarmTopicArn": TOPIC, "AccessLogs": "true", "FetchReservedConcurrency": 40,
    "OriginSecretArn": "arn:aws:secretsmanager:us-east-1:123456789012:secret:origin-AbCdEf", "OpenToAnyone": "true"})["Resources"]
VPC = expand_template.decide(EXPANDED, {"VpcSubnetIds": "subnet-0a,subnet-0b", "VpcSecurityGroupIds": "sg-0c"})["Resources"]
RUNBOOK = (TOP / "docs/operations.md").read_text()


def of_type(resources, kind):
    return {name: r["Properties"] for name, r in resources.items() if r["Type"] == kind}


def listed(value):
    return value if isinstance(value, list) else [value]


class Contract(unittest.TestCase):
    """Names that scripts and people rely on."""

    def test_logical_ids(self):
        want = {
            "AWS::Serverless::Function": [
                "DownloadFunction", "OnConnectFunction", "OnDisconnectFunction", "MessageFunction", "FetchFunction",
                "FinishFunction", "SendMessageFunction", "CleanUpFunction", "ExecutionsFunction", "AuthorizerFunction"],
            "AWS::Serverless::StateMachine": ["DownloadStateMachine", "DeliverStateMachine"],
            "AWS::DynamoDB::Table": ["ConnectionsTable"],
            "AWS::Serverless::Api": ["DownloadApi"],
            "AWS::Serverless::WebSocketApi": ["WebSocketApi"],
        }
        for kind, names in want.items():
            self.assertCountEqual(of_type(SOURCE["Resources"], kind), names, kind)

    def test_parameters(self):
        parameters = {name: p.get("Default") for name, p in SOURCE["Parameters"].items()}
        contract = {
            "StageName": "dev", "BucketName": "", "OriginUrl": None, "LinkExpirySeconds": 600, "ClientTimeoutSeconds": 3600,
            "ObjectExpiryDays": 1, "MaxFileBytes": 2**40, "MaxConcurrentSegments": 40, "OriginAnswerSeconds": 300, "OriginConnections": 8, "OriginIsPrivate": "false",
            "EventBusName": "", "AllowedMethods": "GET", "ForwardedHeaders": "", "CallerHeader": "",
            "Architecture": "arm64", "LocalEndpoint": "",
        }
        for name, default in contract.items():
            self.assertEqual(parameters.get(name), default, f"{name} is promised to users with this default")
        self.assertEqual([name for name, default in parameters.items() if default is None], ["OriginUrl"], "parameters without a default")
        self.assertEqual(SOURCE["Parameters"]["LinkExpirySeconds"]["MaxValue"], 3600)
        for name, p in SOURCE["Parameters"].items():
            self.assertTrue(p.get("Description"), f"{name} has no description for sam deploy --guided")
            self.assertEqual("AllowedPattern" in p, "ConstraintDescription" in p, f"{name}: a pattern and its meaning in words go together")

    def test_each_parameter_is_in_one_group(self):
        groups = SOURCE["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
        self.assertCountEqual([name for g in groups for name in g["Parameters"]], SOURCE["Parameters"])
        self.assertEqual(len(groups[0]["Parameters"]), 6)  # the README explains these

    def test_outputs(self):
        self.assertCountEqual(SOURCE["Outputs"], [
            "PageUrl", "DownloadApiUrl", "WebSocketEndpoint", "BucketName", "ConnectionsTableName", "DownloadStateMachineArn", "ApiKeyId"])


class Deployable(unittest.TestCase):
    """Mistakes that CloudFormation would refuse."""

    def test_no_yaml_alias_is_deployed(self):
        """CloudFormation doesn't support YAML aliases; sam build and sam package resolve them."""
        self.assertIs(sam_build.yaml_dump, yaml_dump)
        self.assertIs(sam_package.yaml_dump, yaml_dump)

        def anchors(text):
            return [e for e in yaml.parse(text) if isinstance(e, yaml.AliasEvent) or getattr(e, "anchor", None)]

        self.assertTrue(anchors(expand_template.TEMPLATE.read_text()), "no aliases in the source: this test is not needed any more")
        self.assertEqual(anchors(yaml_dump(SOURCE)), [])

    def test_cfn_lint(self):
        """Also finds cycles, missing references, and unused parameters. sam validate --lint does the same for template.yaml."""
        lint = str(TOP / ".local/check/bin/cfn-lint")
        with tempfile.TemporaryDirectory() as folder:
            expanded = pathlib.Path(folder, "expanded.json")
            expanded.write_text(json.dumps(EXPANDED))
            got = subprocess.run([lint, "--regions", "us-east-1", "--", expanded, TOP / "docs/events.yaml"], capture_output=True, text=True, check=False)
            self.assertEqual((got.returncode, got.stdout), (0, ""), got.stderr)


def statements(resources, role=None):
    """(role, statement) of every policy, or of one role's."""
    for name, p in of_type(resources, "AWS::IAM::Role").items():
        for policy in p.get("Policies", []):
            for s in policy["PolicyDocument"]["Statement"]:
                if role in (None, name):
                    yield name, s
    for p in of_type(resources, "AWS::IAM::Policy").values():
        for name in (r["Ref"] for r in p["Roles"]):
            for s in p["PolicyDocument"]["Statement"]:
                if role in (None, name):
                    yield name, s


# Actions without resource-level permissions: https://docs.aws.amazon.com/service-authorization/latest/reference/
LOGS_AND_TRACES = {
    "xray:PutTraceSegments", "xray:PutTelemetryRecords", "xray:GetSamplingRules", "xray:GetSamplingTargets",
    "logs:CreateLogDelivery", "logs:GetLogDelivery", "logs:UpdateLogDelivery", "logs:DeleteLogDelivery",
    "logs:ListLogDeliveries", "logs:PutResourcePolicy", "logs:DescribeResourcePolicies", "logs:DescribeLogGroups",
}
# https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc.html#configuration-vpc-permissions
INTERFACES = {
    "ec2:CreateNetworkInterface", "ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets", "ec2:DeleteNetworkInterface",
    "ec2:AssignPrivateIpAddresses", "ec2:UnassignPrivateIpAddresses",
}


class Permissions(unittest.TestCase):
    def test_least_privilege(self):
        seen = 0
        for resources in (OWN, GIVEN, VPC):
            for role, s in statements(resources):
                with self.subTest(role=role, statement=s):
                    seen += 1
                    self.assertEqual(s["Effect"], "Allow")
                    self.assertFalse({"NotAction", "NotResource"} & set(s))
                    actions = set(listed(s["Action"]))
                    self.assertEqual([a for a in actions if "*" in a or a == "dynamodb:Scan"], [])
                    if "*" in listed(s["Resource"]):
                        self.assertLessEqual(actions, LOGS_AND_TRACES | INTERFACES)
                    for resource in listed(s["Resource"]):
                        if isinstance(resource, str):
                            self.assertEqual(resource, "*")
                            continue
                        # A * is at the end, or replaces what can't be known, and never a whole service.
                        arn = resource.get("Fn::Sub", "")
                        arn = arn if isinstance(arn, str) else arn[0]
                        self.assertNotRegex(arn, r"^arn:[^:]*:\w+:[^:]*:[^:]*:\*$")
        self.assertGreater(seen, 30)

    def test_functions_have_no_managed_policy(self):
        """AWSLambdaBasicExecutionRole and AWSLambdaVPCAccessExecutionRole may write any log group of the account."""
        for resources in (JWT, VPC, HARDENED, LOCAL):
            for name in of_type(resources, "AWS::Lambda::Function"):
                self.assertEqual(resources[name]["Properties"]["Role"], {"Fn::GetAtt": [name + "Role", "Arn"]})
                self.assertNotIn("ManagedPolicyArns", resources[name + "Role"]["Properties"], name)
                writes = [s for _, s in statements(resources, name + "Role") if any(a.startswith("logs:") for a in listed(s["Action"]))]
                self.assertEqual(writes, [{
                    "Effect": "Allow", "Action": ["logs:CreateLogStream", "logs:PutLogEvents"], "Resource": {"Fn::GetAtt": ["FunctionLogs", "Arn"]}}], name)
        for name, p in of_type(JWT, "AWS::IAM::Role").items():  # SAM gives it to a machine that is traced
            for arn in p.get("ManagedPolicyArns", []):
                self.assertTrue(name.endswith("StateMachineRole") and arn.endswith("/AWSXrayWriteOnlyAccess"), f"{name}: {arn}")

    def test_only_functions_in_a_vpc_may_have_interfaces(self):
        for resources, want in ((OWN, set()), (VPC, {"FetchFunctionRole", "FinishFunctionRole"})):
            self.assertEqual({role for role, s in statements(resources) for a in listed(s["Action"]) if a.startswith("ec2:")}, want)

    def test_functions_leave_a_vpc_before_they_lose_its_permissions(self):
        """CloudFormation removes a resource after all others are updated; an inline policy would change before the functions."""
        self.assertEqual(SOURCE["Resources"]["NetworkInterfacesPolicy"]["Condition"], "InVpc")
        for name in ("FetchFunction", "FinishFunction"):
            self.assertIn("NetworkInterfacesPolicy", json.dumps(VPC[name]))
            self.assertNotIn("NetworkInterfacesPolicy", json.dumps(OWN[name]))

    def test_machine_permissions_match_their_states(self):
        for machine in of_type(SOURCE["Resources"], "AWS::Serverless::StateMachine"):
            with self.subTest(machine):
                got = set()
                role = OWN[machine]["Properties"]["RoleArn"]["Fn::GetAtt"][0]
                for _, s in statements(OWN, role):
                    for action in set(listed(s["Action"])) - LOGS_AND_TRACES:
                        got |= {(action, json.dumps(r)) for r in listed(s["Resource"])}
                self.assertEqual(got, needs(machine))

    def test_each_substitution_is_used_and_has_a_value(self):
        for name, p in of_type(SOURCE["Resources"], "AWS::Serverless::StateMachine").items():
            used = set(re.findall(r"\$\{(\w+)\}", (TOP / p["DefinitionUri"]).read_text()))
            self.assertEqual(set(p["DefinitionSubstitutions"]), used, name)

    def test_machines_may_log(self):
        """Without them the machine isn't made: https://docs.aws.amazon.com/step-functions/latest/dg/cw-logs.html"""
        for machine in of_type(SOURCE["Resources"], "AWS::Serverless::StateMachine"):
            role = OWN[machine]["Properties"]["RoleArn"]["Fn::GetAtt"][0]
            got = {a for _, s in statements(OWN, role) if s["Resource"] == "*" for a in listed(s["Action"])}
            self.assertEqual(got, LOGS_AND_TRACES, machine)

    def test_function_permissions_match_their_calls(self):
        """Actions on the item and on task tokens, followed from main through internal/, so that a permission that only
        a rare race needs isn't missing."""
        calls = json.loads(subprocess.run(["go", "run", "./scripts/calls"], cwd=TOP, capture_output=True, text=True, check=True).stdout)
        for name, p in of_type(SOURCE["Resources"], "AWS::Serverless::Function").items():
            granted = {a for _, s in statements(OWN, name + "Role") for a in listed(s["Action"])
                       if a.startswith(("dynamodb:", "states:SendTask", "states:StopExecution"))}
            with self.subTest(name):
                self.assertEqual(granted, set(calls[pathlib.Path(p["CodeUri"]).name] or []))

    def test_signer(self):
        """Only the functions that sign may assume the role, and it can only read the copied files."""
        trust, = OWN["SignerRole"]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
        signers = {name + "Role" for name, p in of_type(OWN, "AWS::Lambda::Function").items()
                   if "SIGNER_ROLE_ARN" in p["Environment"]["Variables"]}
        self.assertEqual({arn["Fn::GetAtt"][0] for arn in trust["Principal"]["AWS"]}, signers)
        self.assertEqual({role for role, s in statements(OWN) if s["Action"] == "sts:AssumeRole"}, signers)
        self.assertEqual([s["Action"] for _, s in statements(OWN, "SignerRole")], ["s3:GetObject"])


def needs(machine):
    """(action, resource) of everything a machine's states do, from its definition."""
    properties = SOURCE["Resources"][machine]["Properties"]
    values = properties["DefinitionSubstitutions"]
    definition = json.loads((TOP / properties["DefinitionUri"]).read_text())
    found = set()

    def add(action, resource):
        found.add((action, json.dumps(resource)))

    def value(name):
        return values[re.fullmatch(r"\$\{(\w+)\}", name)[1]]

    def walk(states):
        for s in states.values():
            if s["Type"] == "Map":
                assert s["ItemProcessor"]["ProcessorConfig"]["Mode"] == "DISTRIBUTED"
                # https://docs.aws.amazon.com/step-functions/latest/dg/iam-policies-eg-dist-map.html
                add("states:StartExecution", {"Ref": machine})
                children = "arn:${AWS::Partition}:states:${AWS::Region}:${AWS::AccountId}:execution:${%s.Name}/*" % machine
                for action in ("DescribeExecution", "StopExecution", "RedriveExecution"):
                    for resource in (children, children.replace("/*", ":*")):
                        add("states:" + action, {"Fn::Sub": resource})
                walk(s["ItemProcessor"]["States"])
            if s["Type"] != "Task":
                continue
            call, p = s["Resource"].removeprefix("arn:${Partition}:states:::").removesuffix(".waitForTaskToken"), s["Parameters"]
            if call == "lambda:invoke":
                add("lambda:InvokeFunction", value(p["FunctionName"]))
            elif call.startswith("aws-sdk:dynamodb:"):
                action = call.rpartition(":")[2]
                add("dynamodb:" + action[0].upper() + action[1:], {"Fn::GetAtt": [value(p["TableName"])["Ref"], "Arn"]})
            elif call == "aws-sdk:sfn:startSyncExecution":
                add("states:StartSyncExecution", value(p["StateMachineArn"]))
            else:
                raise AssertionError(f"no permission is known for {call}")

    walk(definition["States"])
    return found


class Partitions(unittest.TestCase):
    """GovCloud and China have other ARNs and other domains."""

    def test_no_hardcoded_partition_or_domain(self):
        resources = {name: r for name, r in SOURCE["Resources"].items()}
        texts = {"template.yaml": json.dumps(resources)} | {file.name: file.read_text() for file in (TOP / "asl").glob("*.json")}
        for name, text in texts.items():
            self.assertEqual(re.findall(r"arn:aws\S*", text), [], name)
            hosts = set(re.findall(r"[\w.$\-{}:]*\.amazonaws\.com\S*?(?=[\"'])", text))
            # Service principals are the same everywhere: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_principal.html
            self.assertLessEqual(hosts, {"lambda.amazonaws.com", "apigateway.amazonaws.com", "events.amazonaws.com"}, name)
        for name, p in of_type(SOURCE["Resources"], "AWS::Serverless::StateMachine").items():
            self.assertEqual(p["DefinitionSubstitutions"]["Partition"], {"Ref": "AWS::Partition"}, name)

    def test_keys_are_used_by_the_services_of_the_partition(self):
        used = [c for _, s in statements(HARDENED) for c in s.get("Condition", {}).get("StringEquals", {}).items() if c[0] == "kms:ViaService"]
        self.assertGreater(len(used), 3)
        for _, service in used:
            self.assertTrue(service["Fn::Sub"].endswith(".${AWS::Region}.${AWS::URLSuffix}"), service)


class Storage(unittest.TestCase):
    """The table and the bucket."""

    def test_table(self):
        p = OWN["ConnectionsTable"]["Properties"]
        self.assertEqual(p["TimeToLiveSpecification"], {"AttributeName": "expiresAt", "Enabled": True})
        self.assertFalse(p["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"])  # it would outlive the stack by 35 days
        self.assertNotIn("SSESpecification", p)  # without a key it would be the account's, which is billed
        self.assertEqual(p["KeySchema"], [{"AttributeName": "executionArn", "KeyType": "HASH"}])
        index, = p["GlobalSecondaryIndexes"]
        self.assertEqual((index["IndexName"], index["KeySchema"][0]["AttributeName"]), ("connectionId", "connectionId"))

    def test_workers_leave_write_capacity_of_the_item(self):
        """Each worker writes to the item once per second (tick in internal/copying), in two units when it has grown over
        1 KB; a key takes 1,000 units a second, and connecting, cancelling and the end need some of them.
        https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/bp-partition-key-design.html"""
        self.assertLessEqual(2 * SOURCE["Parameters"]["MaxConcurrentSegments"]["MaxValue"], 800)

    def test_bucket(self):
        p = OWN["Bucket"]["Properties"]
        self.assertEqual(p["PublicAccessBlockConfiguration"], {
            "BlockPublicAcls": True, "BlockPublicPolicy": True, "IgnorePublicAcls": True, "RestrictPublicBuckets": True})
        self.assertEqual(p["OwnershipControls"]["Rules"], [{"ObjectOwnership": "BucketOwnerEnforced"}])
        encryption, = p["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        self.assertIn(encryption["ServerSideEncryptionByDefault"]["SSEAlgorithm"], ("AES256", "aws:kms"))
        self.assertEqual(OWN["Bucket"]["DeletionPolicy"], "Delete")
        self.assertEqual(OWN["Bucket"]["UpdateReplacePolicy"], "Retain")

    def test_lifecycle(self):
        objects, uploads = OWN["Bucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
        for rule in (objects, uploads):
            self.assertEqual((rule["Status"], rule["Prefix"]), ("Enabled", "downloads/"))
        self.assertEqual(objects["ExpirationInDays"], "1")
        self.assertEqual(expand_template.decide(EXPANDED, {"ObjectExpiryDays": 7})["Resources"]["Bucket"]["Properties"]
                         ["LifecycleConfiguration"]["Rules"][0]["ExpirationInDays"], "7")
        self.assertEqual(uploads["AbortIncompleteMultipartUpload"], {"DaysAfterInitiation": 1})

    def test_no_file_expires_while_its_execution_waits(self):
        """S3 keeps an object for at least ExpirationInDays from the start of its upload."""
        day = json.loads((TOP / "asl/download.asl.json").read_text())["TimeoutSeconds"]
        parameters = SOURCE["Parameters"]
        self.assertLessEqual(day, parameters["ObjectExpiryDays"]["MinValue"] * 86400)
        self.assertLessEqual(2 * parameters["ClientTimeoutSeconds"]["MaxValue"], day, "time for the copy")
        uploads = OWN["Bucket"]["Properties"]["LifecycleConfiguration"]["Rules"][1]
        self.assertLessEqual(day, uploads["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] * 86400)

    def test_tls_only(self):
        s, _ = OWN["BucketPolicy"]["Properties"]["PolicyDocument"]["Statement"]
        self.assertEqual((s["Effect"], s["Principal"], s["Action"], s["Condition"]),
                         ("Deny", "*", "s3:*", {"Bool": {"aws:SecureTransport": "false"}}))
        self.assertEqual(s["Resource"], [{"Fn::GetAtt": ["Bucket", "Arn"]}, {"Fn::Sub": "${Bucket.Arn}/*"}])

    def test_no_link_outlives_its_time(self):
        """A signature is as old as its link; s3:signatureAge is in milliseconds."""
        policy = expand_template.decide(EXPANDED, {"LinkExpirySeconds": 60})["Resources"]["BucketPolicy"]["Properties"]["PolicyDocument"]
        _, s = policy["Statement"]
        self.assertEqual((s["Effect"], s["Principal"], s["Action"], s["Resource"]), ("Deny", "*", "s3:*", {"Fn::Sub": "${Bucket.Arn}/*"}))
        self.assertEqual(s["Condition"], {
            "StringEquals": {"s3:authType": "REST-QUERY-STRING"}, "NumericGreaterThan": {"s3:signatureAge": {"Fn::Sub": "60000"}}})

    def test_given_bucket_is_not_changed(self):
        self.assertEqual(of_type(GIVEN, "AWS::S3::Bucket") | of_type(GIVEN, "AWS::S3::BucketPolicy"), {})
        for name, p in of_type(GIVEN, "AWS::Lambda::Function").items():
            self.assertIn(p["Environment"]["Variables"].get("BUCKET", "given"), ("given",), name)
        buckets = {r["Fn::Sub"][0] for _, s in statements(GIVEN) for r in listed(s["Resource"]) if ":s3:::" in json.dumps(r)}
        self.assertEqual(buckets, {"arn:${AWS::Partition}:s3:::given", "arn:${AWS::Partition}:s3:::given/downloads/*"})


class LogsAndTraces(unittest.TestCase):
    """Logs, traces, throttling, and clean-up."""

    def test_tracing(self):
        for name, p in of_type(OWN, "AWS::Lambda::Function").items():
            self.assertEqual(p["TracingConfig"], {"Mode": "Active"}, name)
        for name, p in of_type(OWN, "AWS::StepFunctions::StateMachine").items():
            self.assertEqual(p["TracingConfiguration"], {"Enabled": True}, name)
        for resources in (OWN, LOCAL, HARDENED, JWT):
            for name, p in of_type(resources, "AWS::ApiGateway::Stage").items():
                self.assertFalse(p.get("TracingEnabled"), f"{name}: its segment has each URL with its query, tickets included")

    def test_machines_log_no_data(self):
        for name, p in of_type(OWN, "AWS::StepFunctions::StateMachine").items():
            self.assertIs(p["LoggingConfiguration"]["IncludeExecutionData"], False, name)
            self.assertIn(p["LoggingConfiguration"]["Level"], ("ERROR", "ALL"), name)

    def test_logs_end(self):
        groups = of_type(OWN, "AWS::Logs::LogGroup")
        for name, p in groups.items():
            self.assertGreater(p["RetentionInDays"], 0, name)
        for name, p in of_type(OWN, "AWS::Lambda::Function").items():
            self.assertIn(p["LoggingConfig"]["LogGroup"]["Ref"], groups, name)
        for name, p in of_type(OWN, "AWS::StepFunctions::StateMachine").items():
            to, = p["LoggingConfiguration"]["Destinations"]
            self.assertIn(to["CloudWatchLogsLogGroup"]["LogGroupArn"]["Fn::GetAtt"][0], groups, name)

    def test_apis_are_throttled(self):
        settings, = OWN["DownloadApiStage"]["Properties"]["MethodSettings"]
        for limits in (settings, OWN["WebSocketApiStage"]["Properties"]["DefaultRouteSettings"]):
            self.assertGreater(limits["ThrottlingRateLimit"], 0)
            self.assertGreater(limits["ThrottlingBurstLimit"], 0)

    def test_clean_up_is_called_after_every_bad_end(self):
        rule, = of_type(OWN, "AWS::Events::Rule").values()
        self.assertEqual(rule["EventPattern"]["detail"], {
            "stateMachineArn": [{"Ref": "DownloadStateMachine"}], "status": ["FAILED", "TIMED_OUT", "ABORTED"]})
        self.assertEqual(rule["Targets"][0]["Arn"], {"Fn::GetAtt": ["CleanUpFunction", "Arn"]})


# Metrics that AWS documents, with the dimensions they have:
# https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
# https://docs.aws.amazon.com/step-functions/latest/dg/procedure-cw-metrics.html
# https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-metrics-and-dimensions.html
# https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-websocket-api-logging.html
# https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-monitoring.html
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
DOCUMENTED = {
    ("AWS/Lambda", ("FunctionName",)): {"Errors", "Throttles", "Duration", "ConcurrentExecutions"},
    ("AWS/States", ("StateMachineArn",)): {
        "ExecutionsStarted", "ExecutionsSucceeded", "ExecutionsFailed", "ExecutionsAborted", "ExecutionsTimedOut", "ExecutionThrottled"},
    ("AWS/ApiGateway", ("ApiName", "Stage")): {"Count", "4XXError", "5XXError"},
    ("AWS/ApiGateway", ("ApiId", "Stage")): {"ConnectCount", "MessageCount", "ClientError", "IntegrationError", "ExecutionError"},
    ("AWS/Events", ("RuleName",)): {"FailedInvocations"},
    ("AWS/SQS", ("QueueName",)): {"ApproximateNumberOfMessagesVisible"},
}


def own_metrics():
    """The names that internal/metric declares and a function records."""
    declared = set(re.findall(r'^\s+(\w+)\s+Name = "\1"', (TOP / "internal/metric/metric.go").read_text(), re.M))
    files = [file for pattern in ("functions/*/main.go", "internal/copying/*.go", "internal/download/*.go", "internal/metric/audit.go") for file in TOP.glob(pattern)]
    recorded = {name for file in files
                for name in re.findall(r"\b(?:metric\.)?(\w+)\b", file.read_text())}
    assert len(declared) == 12, declared
    return declared & recorded


class Alarms(unittest.TestCase):
    """Alarms and the dashboard. CloudWatch silently accepts a metric that nobody writes."""

    def check(self, where, namespace, name, dimensions):
        filters = [t for p in of_type(OWN, "AWS::Logs::MetricFilter").values() for t in p["MetricTransformations"]]
        if isinstance(namespace, dict):  # by a filter of the functions' log lines
            self.assertIn((namespace, name), [(t["MetricNamespace"], t["MetricName"]) for t in filters], where)
            self.assertEqual(dimensions, {}, where)
        elif namespace == "AsyncDownload":
            self.assertIn(name, own_metrics(), where)
            self.assertIn(set(dimensions), ({"Stack"}, {"Stack", "Code"}) if name == "Failed" else ({"Stack"},), where)
        else:
            self.assertIn(name, DOCUMENTED.get((namespace, tuple(sorted(dimensions))), ()), f"{where}: {namespace} {dimensions}")

    def alarms(self):
        """(alarm, its properties, its metrics as (namespace, name, dimensions))."""
        for name, p in of_type(OWN, "AWS::CloudWatch::Alarm").items():
            metrics = [q["MetricStat"]["Metric"] for q in p.get("Metrics", []) if "MetricStat" in q] or [p]
            yield name, p, [(m["Namespace"], m["MetricName"], {d["Name"]: d["Value"] for d in m.get("Dimensions", [])}) for m in metrics]

    def test_every_alarm_is_in_the_runbook(self):
        headings = set(re.findall(r"^### (\w+Alarm)$", RUNBOOK, re.M))
        self.assertEqual({name for name, _, _ in self.alarms()}, headings)
        for name, p, _ in self.alarms():
            self.assertTrue(p["AlarmDescription"].endswith(f". docs/operations.md, {name}."), name)

    def test_every_metric_of_an_alarm_is_written(self):
        for name, _, metrics in self.alarms():
            self.assertTrue(metrics)
            for namespace, metric, dimensions in metrics:
                self.check(name, namespace, metric, dimensions)

    def test_intended_5xx_answers_raise_no_alarm(self):
        """With Prefer: wait, 503 says that a file isn't ready, and 502 and 500 that its copy failed."""
        for name, _, metrics in self.alarms():
            self.assertNotIn("5XXError", [metric for _, metric, _ in metrics], name)

    def test_filtered_lines_are_written(self):
        p = OWN["RequestFaults"]["Properties"]
        self.assertEqual(p["LogGroupName"], {"Ref": "FunctionLogs"})
        main = "".join(f.read_text() for f in TOP.glob("functions/*/main.go"))
        messages = re.findall(r'message = "([^"]+)"', p["FilterPattern"])
        self.assertEqual(len(messages), 1)
        for message in messages:
            self.assertIn(f'WarnContext(ctx, "{message}"', main)
        codes = re.findall(r'error\.code = "(\w+)"', p["FilterPattern"])
        self.assertEqual([c for c in codes if f'Code = "{c}"' not in (TOP / "internal/failure/failure.go").read_text()], [])

    def test_errors_of_each_function_raise_an_alarm(self):
        functions = set(of_type(OWN, "AWS::Lambda::Function"))
        of = {name: {d.get("FunctionName", {}).get("Ref") for _, _, d in metrics} for name, _, metrics in self.alarms()}
        # These three report a download's failure as an error; FaultAlarm counts those.
        self.assertEqual(functions - of["ErrorAlarm"], {"FetchFunction", "FinishFunction", "SendMessageFunction"})

    def test_what_raises_no_alarm_is_on_the_dashboard(self):
        body = OWN["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
        functions = set(of_type(OWN, "AWS::Lambda::Function"))
        for metric in ("Errors", "Throttles", "Duration"):
            self.assertEqual(set(re.findall(r'"AWS/Lambda", "%s", "FunctionName", "\$\{(\w+)\}"' % metric, body)), functions, metric)
        for metric in ("ExecutionsTimedOut", "ExecutionThrottled", "WaitSeconds", "NotDiscarded", "IntegrationError"):
            self.assertIn(f'"{metric}"', body)

    def test_no_detailed_metrics(self):
        settings, = OWN["DownloadApiStage"]["Properties"]["MethodSettings"]
        self.assertFalse(settings["MetricsEnabled"])
        self.assertFalse(OWN["WebSocketApiStage"]["Properties"]["DefaultRouteSettings"]["DetailedMetricsEnabled"])

    def test_expressions(self):
        """Each alarm has one metric that it returns, and its expression knows the others."""
        for name, p, _ in self.alarms():
            if "Metrics" not in p:
                continue
            ids = {q["Id"] for q in p["Metrics"] if "MetricStat" in q}
            returned, = [q for q in p["Metrics"] if q["ReturnData"]]
            expression = returned["Expression"]
            used = set(re.findall(r"\b[a-z]\w*\b", expression))
            self.assertEqual(used or (ids if "METRICS()" in expression else set()), ids, f"{name}: {expression}")
            self.assertLessEqual(len(ids), 10, f"{name}: an alarm takes ten metrics")

    def test_missing_data_raises_no_alarm(self):
        for name, p, _ in self.alarms():
            self.assertEqual(p["TreatMissingData"], "notBreaching", name)
            self.assertNotIn("AlarmActions", p, name)
            self.assertNotIn("OKActions", p, name)
        for name, p in of_type(HARDENED, "AWS::CloudWatch::Alarm").items():
            self.assertEqual((p["AlarmActions"], p["OKActions"]), ([TOPIC], [TOPIC]), name)

    def test_dashboard(self):
        body = OWN["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
        widgets = json.loads(re.sub(r"\$\{[^}]+\}", "x", body))["widgets"]
        seen = set()
        for w in widgets:
            title = w["properties"]["title"]
            self.assertLessEqual(w["x"] + w["width"], 24, title)
            for m in w["properties"].get("metrics", []):
                if isinstance(m[0], dict):
                    self.assertIn("{AsyncDownload,Stack,Code}", m[0]["expression"])
                    continue
                names = [part for part in m[2:] if isinstance(part, str)]
                self.check(title, m[0], m[1], names[::2])
                seen.add(m[1])
        self.assertEqual(own_metrics() - seen, set(), "written and shown nowhere")
        places = [(w["x"], w["y"]) for w in widgets]
        self.assertEqual(len(places), len(set(places)))

    def test_log_searches_use_members_that_are_written(self):
        """Searches of the dashboard and of the runbook."""
        written = {"execution", "message", "level", "timestamp", "requestId", "status", "error", "segment"}
        for file in [*TOP.glob("functions/*/main.go"), *TOP.glob("internal/metric/*.go")]:
            written |= set(re.findall(r'"(\w+)":', file.read_text())) | set(re.findall(r'"(\w+)", ', file.read_text()))
        written |= own_metrics()
        body = OWN["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
        searches = re.findall(r"\bfields ([\w@.]+(?:, [\w@.]+)*)", body + RUNBOOK)
        self.assertGreater(len(searches), 3)
        for fields in searches:
            for field in fields.split(", "):
                self.assertTrue(field.startswith("@") or field.split(".")[0] in written, field)

    def test_dead_letters(self):
        rule, = of_type(OWN, "AWS::Events::Rule").values()
        queue = {"Fn::GetAtt": ["CleanUpDeadLetters", "Arn"]}
        self.assertEqual(rule["Targets"][0]["DeadLetterConfig"], {"Arn": queue})
        self.assertEqual(OWN["CleanUpFunction"]["Properties"]["DeadLetterConfig"], {"TargetArn": queue})
        s, = OWN["CleanUpDeadLettersPolicy"]["Properties"]["PolicyDocument"]["Statement"]
        self.assertEqual((s["Principal"], s["Action"], s["Condition"]), (
            {"Service": "events.amazonaws.com"}, "sqs:SendMessage",
            {"ArnEquals": {"aws:SourceArn": {"Fn::GetAtt": ["CleanUpFunctionExecutionEnded", "Arn"]}}}))
        self.assertIn(("CleanUpFunctionRole", "sqs:SendMessage"), [(role, s["Action"]) for role, s in statements(OWN)])

    def test_access_logs_hold_no_secret(self):
        self.assertNotIn("AccessLogGroup", OWN)
        self.assertNotIn("AccessLogSetting", OWN["DownloadApiStage"]["Properties"])
        self.assertNotIn("AccessLogSettings", OWN["WebSocketApiStage"]["Properties"])
        for settings in (HARDENED["DownloadApiStage"]["Properties"]["AccessLogSetting"], HARDENED["WebSocketApiStage"]["Properties"]["AccessLogSettings"]):
            self.assertEqual(settings["DestinationArn"], {"Fn::GetAtt": ["AccessLogGroup", "Arn"]})
            line = json.loads(settings["Format"])
            self.assertIn("$context.identity.sourceIp", line.values())
            for value in line.values():
                self.assertRegex(value, r"^\$context\.[\w.]+$")
                self.assertNotRegex(value, r"(?i)query|header|token|apiKey$|error|requestOverride|claims")


class OptionalParameters(unittest.TestCase):
    """What the optional parameters add, and that it is missing without them."""

    def test_key(self):
        self.assertEqual(HARDENED["Bucket"]["Properties"]["BucketEncryption"]["ServerSideEncryptionConfiguration"], [
            {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": KEY}, "BucketKeyEnabled": True}])
        self.assertEqual(HARDENED["ConnectionsTable"]["Properties"]["SSESpecification"], {"SSEEnabled": True, "SSEType": "KMS", "KMSMasterKeyId": KEY})
        for name, p in of_type(HARDENED, "AWS::Logs::LogGroup").items():
            self.assertEqual(p["KmsKeyId"], KEY, name)
        self.assertNotIn("kms:", json.dumps(OWN).replace("aws:kms", ""))
        self.assertNotIn("KmsKeyId", json.dumps(OWN))

    def test_events(self):
        """The functions that know an outcome may put events on that bus, and nobody may put any without one."""
        resources = expand_template.decide(expand_template.expand({"EventBusName": "files"}), {"EventBusName": "files"})["Resources"]
        policy = resources["PutEventsPolicy"]["Properties"]
        self.assertEqual(policy["Roles"], [{"Ref": f"{name}FunctionRole"} for name in ("Fetch", "Finish", "CleanUp")])
        statement, = policy["PolicyDocument"]["Statement"]
        self.assertEqual(statement["Action"], "events:PutEvents")
        self.assertTrue(statement["Resource"]["Fn::Sub"].endswith(":event-bus/files"))
        self.assertNotIn("events:PutEvents", json.dumps(OWN))

    def test_who_may_use_the_key(self):
        """A role that may use the table or an object may use the key for it, only through that service."""
        self.assertTrue(any("kms:" in a for _, s in statements(HARDENED) for a in listed(s["Action"])))
        for role in of_type(HARDENED, "AWS::IAM::Role"):
            allowed, keys = set(), {}
            for _, s in statements(HARDENED, role):
                for a in listed(s["Action"]):
                    if a.startswith("kms:"):
                        self.assertEqual(s["Resource"], KEY)
                        service, = s["Condition"]["StringEquals"].values()
                        keys.setdefault(service["Fn::Sub"].split(".")[0], set()).add(a)
                    else:
                        allowed.add(a)
            want = {}
            if any(a.startswith("dynamodb:") for a in allowed):
                want["dynamodb"] = {"kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey",
                                    "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncryptFrom", "kms:ReEncryptTo"}
            if "s3:GetObject" in allowed:
                want["s3"] = {"kms:Decrypt"}
            if "s3:PutObject" in allowed:
                want["s3"] = {"kms:Decrypt", "kms:GenerateDataKey"}
            if "secretsmanager:GetSecretValue" in allowed:
                want["secretsmanager"] = {"kms:Decrypt"}
            self.assertEqual(keys, want, role)

    def test_reservation(self):
        for resources, want in ((OWN, {}), (HARDENED, {"FetchFunction": "40"})):
            got = {name: p["ReservedConcurrentExecutions"] for name, p in of_type(resources, "AWS::Lambda::Function").items() if "ReservedConcurrentExecutions" in p}
            self.assertEqual(got, want)

    def test_one_file_leaves_a_slot_of_the_reservation(self):
        """Rules of CloudFormation compare no numbers; internal/download does, with this variable."""
        variables = lambda resources: resources["DownloadFunction"]["Properties"]["Environment"]["Variables"]
        self.assertEqual(variables(HARDENED)["FETCH_CONCURRENCY"], "40")
        self.assertGreater(int(variables(OWN)["FETCH_CONCURRENCY"]), SOURCE["Parameters"]["MaxConcurrentSegments"]["MaxValue"])

    def test_vpc(self):
        """Only the functions that call the origin are in the VPC."""
        for resources, want in ((OWN, set()), (VPC, {"FetchFunction", "FinishFunction"})):
            self.assertEqual({name for name, p in of_type(resources, "AWS::Lambda::Function").items() if "VpcConfig" in p}, want)
        for name in ("FetchFunction", "FinishFunction"):
            self.assertIn("ORIGIN_URL", OWN[name]["Properties"]["Environment"]["Variables"])
            self.assertEqual(VPC[name]["Properties"]["VpcConfig"], {
                "SubnetIds": {"Fn::Split": [",", "subnet-0a,subnet-0b"]}, "SecurityGroupIds": {"Fn::Split": [",", "sg-0c"]}})
        with self.assertRaises(expand_template.Refused):
            expand_template.decide(EXPANDED, {"VpcSubnetIds": "subnet-0a"})


class Callers(unittest.TestCase):
    """Who may call the REST API, for each value of ApiAuth: none fails open."""

    VALUES = {
        "NONE": ({}, []),
        "IAM": ({}, [{"iam": []}]),
        "API_KEY": ({}, [{"apiKey": []}]),
        "JWT": ({"JwtIssuer": "https://issuer.example", "JwtAudience": "files"}, [{"jwt": []}]),
    }

    def test_each_method_is_secured(self):
        self.assertEqual(list(self.VALUES), SOURCE["Parameters"]["ApiAuth"]["AllowedValues"])
        for auth, (more, want) in self.VALUES.items():
            body = expand_template.decide(expand_template.expand({"ApiAuth": auth} | more), {"ApiAuth": auth} | more)["Resources"]["DownloadApi"]["Properties"]["Body"]
            methods = [(path, verb, method) for path, verbs in body["paths"].items() for verb, method in verbs.items()]
            self.assertGreaterEqual(len(methods), 7)
            for path, verb, method in methods:
                self.assertIn("x-amazon-apigateway-integration", method)
                if (verb == "options" or path in ("/", "/client.js")  # a preflight has no credentials; the page is no secret
                        or (path.split("/")[1], verb) not in (  # 405; a POST also, where AllowedMethods has none
                            ("download", "get"), ("download", "post"), ("executions", "get"), ("executions", "delete"))
                        or path.endswith("/file") and verb == "delete"):
                    self.assertNotIn("security", method, f"{auth}: {verb} {path}")
                    continue
                self.assertEqual(method.get("security"), want, f"{auth}: {verb} {path}")
            schemes = body["components"]["securitySchemes"]
            for requirement in want:
                self.assertLessEqual(set(requirement), set(schemes))
            self.assertEqual(schemes["iam"]["x-amazon-apigateway-authtype"], "awsSigv4")
            self.assertEqual(schemes["apiKey"], {"type": "apiKey", "name": "x-api-key", "in": "header"})
            self.assertEqual("jwt" in schemes, auth == "JWT")

    def test_refusals_of_api_gateway_itself(self):
        """Pages of other hosts may read them, and they have the form of the functions' errors."""
        responses = OWN["DownloadApi"]["Properties"]["Body"]["x-amazon-apigateway-gateway-responses"]
        self.assertEqual(set(responses), {"DEFAULT_4XX", "DEFAULT_5XX", "UNAUTHORIZED", "THROTTLED"})
        self.assertEqual(responses["UNAUTHORIZED"]["responseParameters"]["gatewayresponse.header.WWW-Authenticate"], "'Bearer'")
        self.assertEqual(responses["THROTTLED"]["responseParameters"]["gatewayresponse.header.Retry-After"], "'1'")
        for response in responses.values():
            self.assertEqual(response["responseParameters"]["gatewayresponse.header.Access-Control-Allow-Origin"], "'*'")
            # API Gateway inserts messageString with its quotes.
            text = response["responseTemplates"]["application/json"].replace("$context.error.messageString", '"a message"')
            self.assertEqual(json.loads(text)["error"]["message"], "a message")

    def test_headers_for_the_origin(self):
        """The patterns refuse what internal/rest refuses, at deployment."""
        names = (TOP / "internal/rest/testdata/unforwardable.txt").read_text().splitlines()
        self.assertGreater(len(names), 30)
        for parameter in ("ForwardedHeaders", "CallerHeader"):
            pattern = SOURCE["Parameters"][parameter]["AllowedPattern"]
            for name in names:
                for spelling in (name, name.lower(), name.upper()):
                    self.assertNotRegex(spelling, pattern, parameter)
                    self.assertNotRegex("Accept," + spelling, pattern, parameter)
                    self.assertNotRegex(spelling + ",Accept", pattern, parameter)
            for text in ("Accept,", ",Accept", "Accept,,Authorization", "Accept, Authorization", ","):
                self.assertNotRegex(text, pattern, parameter)
            for text in ("", "Authorization", "X-Tenant_1", "Hosted", "Ranges", "Te2", "X-Amzn-Trace-Id", "Contents"):
                self.assertRegex(text, pattern, parameter)
        self.assertRegex("Authorization,Accept-Language,X-Tenant", SOURCE["Parameters"]["ForwardedHeaders"]["AllowedPattern"])
        self.assertNotRegex("Authorization,Accept", SOURCE["Parameters"]["CallerHeader"]["AllowedPattern"])

    def test_caller_header_needs_auth(self):
        with self.assertRaises(expand_template.Refused):
            expand_template.decide(EXPANDED, {"CallerHeader": "X-Caller"})
        for auth, (more, _) in self.VALUES.items():
            if auth != "NONE":
                resources = expand_template.decide(EXPANDED, {"ApiAuth": auth, "CallerHeader": "X-Caller"} | more)["Resources"]
                self.assertEqual(resources["DownloadFunction"]["Properties"]["Environment"]["Variables"]["CALLER_HEADER"], "X-Caller")

    def test_a_changed_value_reaches_the_stage(self):
        # The deployment's name is a hash of the source, which doesn't contain the value.
        self.assertTrue(SOURCE["Resources"]["DownloadApi"]["Properties"]["AlwaysDeploy"])

    def test_api_key_opens_this_stage(self):
        resources = expand_template.decide(EXPANDED, {"ApiAuth": "API_KEY"})["Resources"]
        self.assertEqual(resources["UsagePlanKey"]["Properties"]["KeyId"], {"Ref": "ApiKey"})
        self.assertEqual(resources["UsagePlan"]["Properties"]["ApiStages"], [{"ApiId": {"Ref": "DownloadApi"}, "Stage": {"Ref": "DownloadApiStage"}}])
        self.assertNotIn("ApiKey", OWN)

    def test_jwt_is_verified_by_the_authorizer(self):
        scheme = JWT["DownloadApi"]["Properties"]["Body"]["components"]["securitySchemes"]["jwt"]
        authorizer = scheme["x-amazon-apigateway-authorizer"]
        self.assertIn("AuthorizerFunction.Arn", json.dumps(authorizer["authorizerUri"]))
        self.assertEqual(authorizer["authorizerResultTtlInSeconds"], 60)
        self.assertIn("AuthorizerPermission", JWT)
        self.assertNotIn("AuthorizerFunction", OWN)
        for missing in ("JwtIssuer", "JwtAudience"):
            with self.assertRaises(expand_template.Refused):
                expand_template.decide(EXPANDED, {"ApiAuth": "JWT", "JwtIssuer": "https://i.example", "JwtAudience": "a"} | {missing: ""})

    def test_only_what_looks_like_a_token_reaches_the_authorizer(self):
        scheme = JWT["DownloadApi"]["Properties"]["Body"]["components"]["securitySchemes"]["jwt"]
        expression = scheme["x-amazon-apigateway-authorizer"]["identityValidationExpression"]
        for text in ("Bearer eyJh.eyJz.c2ln", "bearer e-_0.e.s", "BEARER  a.b.c"):
            self.assertRegex(text, expression)
        for text in ("", "Bearer", "Bearer ", "Bearer x", "Bearer a.b", "Bearer a.b.c.d", "Bearer a..c", "Bearer a.b.c=", "Bearer a.b.c d",
                     "Basic dXNlcjpwYXNz", "eyJh.eyJz.c2ln", "xBearer a.b.c", "Bearer a.b.\u00e9"):
            self.assertNotRegex(text, expression)

    def test_origin_secret_needs_auth(self):
        secret = {"OriginSecretArn": "arn:aws:secretsmanager:us-east-1:123456789012:secret:origin-AbCdEf"}
        with self.assertRaises(expand_template.Refused):
            expand_template.decide(EXPANDED, secret)
        for more in ({"OpenToAnyone": "true"}, {"ApiAuth": "IAM"}, {"ApiAuth": "API_KEY"}):
            resources = expand_template.decide(EXPANDED, secret | more)["Resources"]
            self.assertEqual(resources["OriginSecretPolicy"]["Properties"]["PolicyDocument"]["Statement"], [
                {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": secret["OriginSecretArn"]}])
        self.assertNotIn("OriginSecretPolicy", OWN)


class SamconfigExample(unittest.TestCase):
    def test_parameters_exist(self):
        environments = tomlkit.parse((TOP / "samconfig.example.toml").read_text()).unwrap()
        environments.pop("version")
        self.assertEqual(len(environments), 2)
        for name, environment in environments.items():
            overrides = dict(o.split("=", 1) for o in environment["deploy"]["parameters"]["parameter_overrides"])
            self.assertLessEqual(set(overrides), set(SOURCE["Parameters"]), name)
            self.assertIn("OriginUrl", overrides)


class Functions(unittest.TestCase):
    def functions(self):
        for name, r in SOURCE["Resources"].items():
            if r["Type"] == "AWS::Serverless::Function":
                yield name, r["Properties"]["CodeUri"], JWT[name]["Properties"]

    def test_build(self):
        folders = {str(p.parent.relative_to(TOP)) for p in TOP.glob("functions/*/main.go")}
        self.assertEqual({code for _, code, _ in self.functions()}, folders)
        for name, code, p in self.functions():
            self.assertEqual(SOURCE["Resources"][name]["Metadata"]["BuildMethod"], "go1.x", name)
            self.assertEqual((p["Runtime"], p["Architectures"]), ("provided.al2023", ["arm64"]), name)
            self.assertEqual(name, "".join(word.capitalize() for word in code.removeprefix("functions/").split("-")) + "Function")

    def test_environment(self):
        """Go reads the variables that the template sets. That each function finds those it can't run without is tested in
        functions/; one that may be empty would not be missed there under another name."""
        text = "".join(f.read_text() for f in [TOP / "internal/start/start.go", *TOP.glob("functions/*/main.go")])
        given = {variable for _, _, p in self.functions() for variable in p["Environment"]["Variables"]}
        self.assertEqual(set(re.findall(r'env\.\w+\("(\w+)"\)', text)), given)

    def test_variables_are_text(self):
        """The local stack doesn't make text of a number, as CloudFormation does."""
        for resources in (JWT, HARDENED, LOCAL):
            for name, p in of_type(resources, "AWS::Lambda::Function").items():
                numbers = {k: v for k, v in p["Environment"]["Variables"].items() if isinstance(v, (int, float))}
                self.assertEqual(numbers, {}, name)

    def test_time_limits(self):
        """A function times out before the state that called it, which would otherwise start it twice."""
        states = json.loads((TOP / "asl/download.asl.json").read_text())["States"]
        limits = {"FetchFunction": states["Copy the file"], "FinishFunction": states["Finish the copy"],
                  "SendMessageFunction": json.loads((TOP / "asl/deliver.asl.json").read_text())["States"]["Send the link"]}
        for name, state in limits.items():
            self.assertLess(OWN[name]["Properties"]["Timeout"], state["TimeoutSeconds"], name)

    def test_local_endpoint_is_the_one_switch(self):
        for name, p in of_type(OWN, "AWS::Lambda::Function").items():
            self.assertNotIn("127.0.0.1", json.dumps(p), name)
            self.assertEqual(p["Environment"]["Variables"]["LOCAL_ENDPOINT"], "", name)
        for name, p in of_type(LOCAL, "AWS::Lambda::Function").items():
            self.assertNotIn("execute-api.${AWS::Region}", json.dumps(p), name)


if __name__ == "__main__":
    unittest.main()
