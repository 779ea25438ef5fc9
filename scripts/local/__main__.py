"""The app on this machine: python3 scripts/local up, down or demo (make up, make down, make demo).

up starts the local stack, builds the app and deploys it there; run again, it updates both in place. It writes env, a
file to source, into the folder STATE. down stops the stack and leaves no process. demo starts a separate stack, downloads
a file through it, compares SHA-256, shows the states that ran, and stops the stack.

    STATE       folder for locks, logs, env and the build (.local; demo: .local/demo)
    PORT        of the local stack on 127.0.0.1 (4566, or that of the stack that is up)
    STACK_NAME  of the CloudFormation stack (download)
    ORIGIN_URL  the origin; by default bin/origin, which serves generated files
    PARAMETERS  other stack parameters, as Name=value …; those that aren't named have the template's defaults
"""

import hashlib
import json
import os
import pathlib
import platform
import re
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import urllib.parse

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(1, str(TOP / "scripts"))

from process import GO, Daemon, Failed, Task, answers, direct, exclusive, heartbeat, run, say

VENV = pathlib.Path(".local/venv/bin")
REGION = "us-east-1"
ARCHITECTURE = platform.machine().replace("aarch64", "arm64")


class Stack:
    def __init__(self, state):
        self.state = pathlib.Path(state)
        self.emulator, self.origin = Daemon(self.state, "ministack"), Daemon(self.state, "origin")
        self.env_file = self.state / "env"
        up = self.emulator.info() or {}
        self.port = os.environ.get("PORT") or str(up.get("port", 4566))
        if not (self.port.isdecimal() and 1 <= int(self.port) <= 65535):
            raise Failed(f"PORT must be a number from 1 to 65535, not {self.port}")
        self.up_on = str(up.get("port", self.port))
        self.endpoint = f"http://127.0.0.1:{self.port}"
        # Chosen for each start, and known to this user only; see gate.py.
        self.key = up.get("key") or "LKIA" + secrets.token_hex(8).upper()
        self.secret = up.get("secret") or secrets.token_urlsafe(30)
        self.name = os.environ.get("STACK_NAME") or "download"
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{0,127}", self.name):
            raise Failed(f"STACK_NAME must begin with a letter and have letters, digits and hyphens, not {self.name!r}")

    @property
    def aws_env(self):
        return {"AWS_ENDPOINT_URL": self.endpoint, "AWS_ACCESS_KEY_ID": self.key, "AWS_SECRET_ACCESS_KEY": self.secret,
                "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION}

    def command_env(self):
        """The environment of aws and sam."""
        inherited = {k: v for k, v in os.environ.items() if k not in ("AWS_PROFILE", "AWS_SESSION_TOKEN")}
        # The emulator creates a stack in a second or two, so sam polls often.
        return inherited | self.aws_env | {"SAM_CLI_TELEMETRY": "0", "SAM_CLI_POLL_DELAY": "0.2", "AWS_PAGER": ""}

    def aws(self, *words):
        """Runs the AWS command line and returns its answer."""
        out = subprocess.run([VENV / "aws", *words, "--output", "json"], env=self.command_env(), capture_output=True, text=True, check=False)
        if out.returncode:
            raise Failed(f"aws {words[0]} {words[1]}: {out.stderr.strip()}")
        return json.loads(out.stdout or "null")

    def start_emulator(self):
        if self.emulator.info():
            return
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", int(self.port))) == 0:
                raise Failed(f"port {self.port} is in use; stop what uses it or choose another with PORT=…")
        (self.state / "tmp").mkdir(exist_ok=True)
        # A clean environment, since functions inherit it, AWS_ENDPOINT_URL included. AUTH enforces their roles, and
        # only loopback is listened to.
        env = {"PATH": os.environ["PATH"], "HOME": str(TOP / self.state), "TMPDIR": str(TOP / self.state / "tmp"),
               **self.aws_env, "GATEWAY_PORT": self.port, "BIND_HOST": "127.0.0.1", "AUTH": "true",
               "SFTP_ENABLED": "0", "IOT_MTLS_ENABLED": "0", "MINISTACK_ACCOUNT_ID": "000000000000"}
        self.emulator.start([VENV / "python", "scripts/local/emulator.py"], env=env,
                            port=int(self.port), key=self.key, secret=self.secret)
        self.emulator.wait_until(lambda: answers(self.endpoint))

    def start_origin(self):
        """Starts the demo's origin, unless it runs, and returns its URL."""
        address = self.state / "origin.addr"
        if not self.origin.info():
            address.unlink(missing_ok=True)
            self.origin.start(["bin/origin", "-listen", "127.0.0.1:0", "-addr-file", address])
            self.origin.wait_until(lambda: address.exists() and address.read_text())
        return "http://" + address.read_text().strip()

    def up(self):
        """Starts or updates everything and returns what env has."""
        if self.up_on != self.port:
            raise Failed(f"the local stack is up on {self.up_on}; make down first")
        self.state.mkdir(parents=True, exist_ok=True)
        pathlib.Path("bin").mkdir(exist_ok=True)
        origin_url, words = os.environ.get("ORIGIN_URL", ""), os.environ.get("PARAMETERS", "").split()
        # sam build compiles all functions separately and at the same time. On a new machine, it would compile each
        # package up to ten times; so they are compiled into Go's build cache first.
        with Task(["go", "build", "./functions/..."], self.state / "go.log", env=os.environ | GO) as compiled:
            run(["bash", "scripts/setup.sh", "venv"])
            parameters = self.check_parameters(words, origin_url)
            if origin_url and (reason := unreachable(origin_url)):
                say(f"warning: {origin_url} doesn't answer ({reason}); downloads fail until it does")
            with heartbeat("compiling"):
                compiled.wait()
                run(["go", "build", "-o", "bin/", "./cmd/origin"], self.state / "go.log", env=os.environ | GO)
        self.start_emulator()
        demo_origin = "" if origin_url else self.start_origin()
        build = self.state / "build"
        with heartbeat("building the functions"):
            run([VENV / "sam", "build", "--parallel", "--build-dir", build, "--parameter-overrides", f"Architecture={ARCHITECTURE}"],
                self.state / "build.log", env=self.command_env() | GO)
        self.adapt(build, next(p for p in reversed(parameters) if p.startswith("ClientTimeoutSeconds=")))
        with heartbeat("deploying"):
            # CloudFormation keeps the value of a parameter that isn't named, so all are; the last one of a name counts.
            run([VENV / "sam", "deploy", "--template", build / "template.yaml", "--stack-name", self.name, "--resolve-s3",
                 "--capabilities", "CAPABILITY_IAM", "--no-confirm-changeset", "--no-fail-on-empty-changeset", "--no-progressbar",
                 "--parameter-overrides", *parameters, f"OriginUrl={origin_url or demo_origin}", f"LocalEndpoint={self.endpoint}",
                 f"Architecture={ARCHITECTURE}", *words], self.state / "deploy.log", env=self.command_env())
            outputs = {o["OutputKey"]: o["OutputValue"] for o in
                       self.aws("cloudformation", "describe-stacks", "--stack-name", self.name)["Stacks"][0]["Outputs"]}
            self.set_time_to_live(outputs["ConnectionsTableName"])
        env = self.aws_env | {
            "API_URL": outputs["DownloadApiUrl"], "WEBSOCKET_ENDPOINT": outputs["WebSocketEndpoint"],
            "BUCKET": outputs["BucketName"], "TABLE": outputs["ConnectionsTableName"],
            "STATE_MACHINE_ARN": outputs["DownloadStateMachineArn"], "STACK_NAME": self.name,
            "DEMO_ORIGIN": demo_origin,  # for make load
            "SLOW_PATH": demo_origin and "file/6MB/slow.bin?delay=15s",  # for uat.sh: its client connects meanwhile
        }
        self.write_env(env)
        say(f"ready: the origin is {origin_url or demo_origin}, the API {env['API_URL']}")
        return env | {"PAGE_URL": outputs.get("PageUrl", env["API_URL"].rstrip("/") + "/")}

    def check_parameters(self, words, origin_url):
        """Returns the values of all parameters, as Name=value. Raises Failed, with a line per mistake, if one isn't allowed."""
        command = [VENV / "python", "scripts/parameters.py", *words, *([f"OriginUrl={origin_url}"] if origin_url else [])]
        out = subprocess.run(command, capture_output=True, text=True, check=False)
        if out.returncode:
            raise Failed(out.stderr.strip())
        return json.loads(out.stdout)

    def adapt(self, build, timeout):
        """Replaces TimeoutSecondsPath, which the emulator ignores, by the number, or it would wait forever."""
        machine = json.loads(pathlib.Path("asl/download.asl.json").read_text())
        wait = machine["States"]["Wait for the client"]
        if wait.pop("TimeoutSecondsPath") != "$.clientTimeoutSeconds":
            raise Failed("scripts/local: asl/download.asl.json no longer has the wait's TimeoutSecondsPath $.clientTimeoutSeconds")
        wait["TimeoutSeconds"] = int(timeout.partition("=")[2])
        (build / "download.asl.json").write_text(json.dumps(machine))
        template, n = re.subn(r"\S*asl/download\.asl\.json", "download.asl.json", (build / "template.yaml").read_text())
        if n != 1:
            raise Failed(f"scripts/local: the template names asl/download.asl.json {n} times, not once")
        (build / "template.yaml").write_text(template)

    def set_time_to_live(self, table):
        """Sets the table's time to live, which the emulator drops from the template."""
        if self.aws("dynamodb", "describe-time-to-live", "--table-name", table)["TimeToLiveDescription"]["TimeToLiveStatus"] != "ENABLED":
            self.aws("dynamodb", "update-time-to-live", "--table-name", table,
                     "--time-to-live-specification", "Enabled=true,AttributeName=expiresAt")

    def write_env(self, env):
        lines = [f"export {name}={shlex.quote(value)}" for name, value in env.items()]
        # For aws and wscat; last, so that python3 stays the system's.
        lines.append(f'export PATH="$PATH":{shlex.quote(f"{TOP}/.local/venv/bin:{TOP}/.local/npm/node_modules/.bin")}')
        self.env_file.unlink(missing_ok=True)
        with open(os.open(self.env_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write("\n".join(lines) + "\n")

    def down(self):
        stopped = [daemon.stop() for daemon in (self.emulator, self.origin)]
        for name in "env", "origin.addr":
            (self.state / name).unlink(missing_ok=True)
        if any(stopped):
            say("stopped")


def unreachable(url):
    """Returns why no connection to the URL's server can be opened, or None."""
    parts = urllib.parse.urlsplit(url)
    try:
        socket.create_connection((parts.hostname, parts.port or {"http": 80, "https": 443}[parts.scheme]), timeout=3).close()
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or error
    return None


def demo(stack):
    """Downloads a file through a stack that is stopped again, and fails unless it is the origin's."""
    env = os.environ | stack.up()
    with heartbeat("building bin/download", announce=False):
        run(["go", "build", "-o", "bin/", "./cmd/download"], stack.state / "go.log", env=os.environ | GO)
    folder = stack.state / "downloaded"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    say(f"GET {env['API_URL']}/download")
    if subprocess.run(["bin/download", "-o", folder / "report.bin", env["API_URL"]], env=env, check=False).returncode:
        raise Failed("the download failed")
    want = direct.open(stack.start_origin() + "/_sha256/", timeout=60).read().decode().strip()
    got = hashlib.sha256((folder / "report.bin").read_bytes()).hexdigest()
    say(f"SHA-256 of the origin's file {want}")
    say(f"SHA-256 of the download      {got}")
    arn = stack.aws("stepfunctions", "list-executions", "--state-machine-arn", env["STATE_MACHINE_ARN"])["executions"][0]["executionArn"]
    say("the execution's states, by get-execution-history:")
    for event in stack.aws("stepfunctions", "get-execution-history", "--execution-arn", arn)["events"]:
        if entered := event.get("stateEnteredEventDetails"):
            print(" ", entered["name"])
    if got != want:
        raise Failed("the file is not the origin's")


def main(command):
    os.chdir(TOP)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    state = pathlib.Path(os.environ.get("STATE") or (".local/demo" if command == "demo" else ".local"))
    state.mkdir(parents=True, exist_ok=True)
    with exclusive(state / "lock"):
        stack = Stack(state)
        if command == "up":
            say(f"the page is {stack.up()['PAGE_URL']}")
            say(f'next: source {stack.env_file}; make build; bin/download "$API_URL"')
        elif command == "down":
            stack.down()
        elif command == "demo":
            try:
                demo(stack)
            finally:
                stack.down()
            say("the file arrived whole; nothing is left running")
            say("next: make up, which leaves the stack running and prints the address of its page")
        else:
            raise Failed("usage: python3 scripts/local up|down|demo")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Failed as failed:
        for line in str(failed).splitlines():
            print(line if line.startswith(f"{sys.argv[1]}: ") else f"{sys.argv[1]}: {line}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
