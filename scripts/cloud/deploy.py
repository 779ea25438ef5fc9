"""make deploy: builds the app and deploys it, with the parameters of samconfig.toml, which it writes the first time.

    ORIGIN_URL=https://…         the parameter OriginUrl; then nothing is asked
    PARAMETERS='Name=value …'    other parameters; then nothing is asked either, if samconfig.toml or this has OriginUrl
    STACK_NAME=download          of a new samconfig.toml
    ENVIRONMENT=default          section of samconfig.toml
    CONFIG=samconfig.toml        another file
"""

import os
import pathlib
import shlex
import shutil
import subprocess
import sys

import botocore.exceptions
import tomlkit

import expand_template
import parameters
from account import QUICK, open_session
from process import GO, Failed, heartbeat, say


class Config:
    """A section of samconfig.toml: what sam deploy takes from there."""

    def __init__(self, path, environment):
        self.path, self.environment = pathlib.Path(path), environment
        self.document = tomlkit.parse(self.path.read_text()) if self.path.exists() else tomlkit.parse("version = 0.1\n")
        if self.path.exists() and environment not in self.document:
            raise Failed(f"{path} has no section [{environment}]")
        self.exists = self.path.exists()

    def settings(self):
        """Returns the parameters of sam deploy; those of the section deploy have precedence over those of global."""
        section = self.document.unwrap().get(self.environment, {})
        return section.get("global", {}).get("parameters", {}) | section.get("deploy", {}).get("parameters", {})

    def overrides(self):
        """Returns the stack's parameters as a dictionary."""
        found = self.settings().get("parameter_overrides", [])
        words = shlex.split(found) if isinstance(found, str) else [word for item in found for word in shlex.split(str(item))]
        return dict(word.split("=", 1) for word in words if "=" in word)

    def save(self, overrides, **defaults):
        """Writes the stack's parameters, and each of defaults that has no value yet."""
        section = self.document
        for name in self.environment, "deploy", "parameters":
            section = section.setdefault(name, tomlkit.table())
        for name, value in defaults.items():
            if name not in self.settings():
                section[name] = value
        values = tomlkit.array()
        values.extend(f"{name}={value}" for name, value in overrides.items())
        section["parameter_overrides"] = values.multiline(True)
        self.path.write_text(tomlkit.dumps(self.document))


def ask(template, known):
    """Asks for the main settings, the first group of the template's interface. Returns those with an answer."""
    if not sys.stdin.isatty():
        raise Failed("stdin is no terminal, so nothing can be asked; make deploy ORIGIN_URL=… asks nothing")
    names = list(template["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"][0]["Parameters"])
    answers = {}
    print("Enter takes the value in brackets. samconfig.toml can have all other parameters.")
    while names:
        name = names.pop(0)
        p = template["Parameters"][name]
        default = known.get(name, str(p.get("Default", "")))
        print(f"\n{name}: {' '.join(p['Description'].split())}")
        while True:
            answer = input(f"{name} [{default}]: ").strip() or default
            wrong = list(parameters.problems(template["Parameters"], {name: answer})) if answer != p.get("Default") else []
            if not wrong and (answer or "Default" in p):
                break
            print(*(wrong or [f"{name} has no default"]), sep="\n")
        if answer != str(p.get("Default")):
            answers[name] = answer
        if name == "ApiAuth" and answer == "JWT":
            names = ["JwtIssuer", "JwtAudience"] + names
    return answers


def warn_if_open(values):
    """Warns if anyone who knows the URL can start copies."""
    if values["ApiAuth"] == "NONE":
        paths = f"the paths {values['AllowedPaths']}" if values["AllowedPaths"] else "any path"
        pages = "pages of any site" if values["AllowedWebOrigins"] == "*" else f"pages of {values['AllowedWebOrigins']}"
        say(f"warning: ApiAuth is NONE: anyone who knows the URL can copy {paths} of {values['OriginUrl']} at your expense, and "
            f"{pages} can; ApiAuth, AllowedPaths and AllowedWebOrigins limit this")


def check_bucket(s3, bucket, region, key):
    """Raises Failed, with a line per reason, if the stack can't work with a given bucket."""

    def get(method, absent):
        try:
            return getattr(s3, method)(Bucket=bucket)
        except botocore.exceptions.ClientError as error:
            code = error.response["Error"]["Code"]
            if code in absent:
                return {}
            raise Failed(f"BucketName: {bucket}: {code}: {error.response['Error']['Message']}") from None

    wrong = []
    location = get("get_bucket_location", ()).get("LocationConstraint") or "us-east-1"
    location = {"EU": "eu-west-1"}.get(location, location)
    if location != region:
        wrong.append(f"it is in {location}, and the stack in {region}")
    if get("get_bucket_versioning", ()).get("Status") == "Enabled":
        wrong.append("it has versioning, which would keep every copied file; suspend it or choose another")
    rules = get("get_bucket_encryption", ("ServerSideEncryptionConfigurationNotFoundError",)).get("ServerSideEncryptionConfiguration", {}).get("Rules", [])
    for rule in rules:
        by = rule.get("ApplyServerSideEncryptionByDefault", {})
        if by.get("SSEAlgorithm", "AES256") != "AES256" and (not key or by.get("KMSMasterKeyID", "").rpartition("/")[2] != key.rpartition("/")[2]):
            wrong.append(f"it encrypts with {by['SSEAlgorithm']} and the key {by.get('KMSMasterKeyID', 'aws/s3')}; "
                         "set KmsKeyArn to that key, or let the bucket use SSE-S3")
    if wrong:
        raise Failed("\n".join(f"BucketName: {bucket}: {line}" for line in wrong))
    rules = [r for r in get("get_bucket_lifecycle_configuration", ("NoSuchLifecycleConfiguration",)).get("Rules", []) if r.get("Status") == "Enabled"]
    covering = [r for r in rules if "downloads/".startswith(r.get("Filter", {}).get("Prefix", r.get("Prefix", "")) or "")]
    if not any("Expiration" in r for r in covering):
        say(f"warning: BucketName: {bucket}: no lifecycle rule expires downloads/; copied files stay forever")
    if not any("AbortIncompleteMultipartUpload" in r for r in covering):
        say(f"warning: BucketName: {bucket}: no lifecycle rule aborts unfinished uploads of downloads/ after a day")


def main():
    config = Config(os.environ.get("CONFIG") or "samconfig.toml", os.environ.get("ENVIRONMENT") or "default")
    session = open_session(config.settings().get("region"))
    template = expand_template.source()
    overrides = config.overrides()
    given = dict(word.split("=", 1) for word in os.environ.get("PARAMETERS", "").split() if "=" in word)
    if os.environ.get("ORIGIN_URL"):
        given["OriginUrl"] = os.environ["ORIGIN_URL"]
    if not config.exists and "OriginUrl" not in given:
        given |= ask(template, given)
    overrides |= given
    values, wrong = parameters.check([f"{name}={value}" for name, value in overrides.items()])
    if "OriginUrl" not in overrides:
        wrong.append("OriginUrl has no value; make deploy ORIGIN_URL=…")
    if wrong:
        raise Failed("\n".join(wrong))
    if given or not config.exists:  # before anything that takes long or may fail
        config.save(overrides, stack_name=os.environ.get("STACK_NAME") or "download", region=session.region_name,
                    resolve_s3=True, capabilities="CAPABILITY_IAM")
        say(f"the parameters are in {config.path}, for the next time too")
    warn_if_open(values)
    if values["BucketName"]:
        check_bucket(session.client("s3", config=QUICK), values["BucketName"], session.region_name, values["KmsKeyArn"])
    sam = shutil.which("sam") or pathlib.Path(sys.executable).with_name("sam")
    common = ["--config-file", config.path.resolve(), "--config-env", config.environment]  # sam looks for a relative one beside the built template
    env = os.environ | GO | {"SAM_CLI_TELEMETRY": "0"}
    for command in (["build", "--parallel", *common, "--parameter-overrides", f"Architecture={values['Architecture']}"],
                    ["deploy", *common, "--no-fail-on-empty-changeset"]):
        with heartbeat(f"sam {command[0]}"):
            done = subprocess.run([sam, *command], env=env, check=False)
        if done.returncode:
            raise Failed(f"sam {command[0]} failed; the parameters are kept in {config.path}")
