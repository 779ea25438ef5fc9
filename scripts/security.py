"""Runs checkov and gosec and compares their findings with the accepted ones: .checkov.yaml and the table below.

A finding without a reason fails, and so does a reason without a finding.
"""

import fnmatch
import json
import pathlib
import subprocess
import sys
import tempfile

import yaml

import expand_template

TOP = pathlib.Path(__file__).resolve().parent.parent
# Every optional parameter that hardens the stack.
HARDENED = {
    "KmsKeyArn": "arn:aws:kms:us-east-1:123456789012:key/5f0c3b1e-9a7d-4c62-88e1-f2a3b4c5d6e7",
    "AccessLogs": "true",
}
GONE = {"CKV_AWS_119", "CKV_AWS_158", "CKV_AWS_76", "CKV_AWS_95"}  # solved by these parameters

# (file, rule): why the finding stays.
GOSEC = {
    ("*", "G104"): "errors of Close, Remove and of prints on the way out; nothing is left to do about them",
    ("*", "G404"): "jitter of waits needs no secret randomness; names and tickets come from crypto/rand",
    ("internal/transfer/*", "G501"): "MD5 is the origin's choice of digest, and S3's ETag of a part",
    ("internal/transfer/*", "G401"): "MD5 is compared with what others computed, and protects nothing",
    ("internal/transfer/*", "G115"): "lengths are not negative, and a plan has at most 10,000 parts",
    ("internal/*test/*", "G115"): "a server of the tests",
    ("internal/programtest/*", "G204"): "a test starts itself",
    ("internal/*test/*", "G112"): "a server of the tests, whose connections are in memory or on loopback",
    ("internal/origin/cookies.go", "G124"): "a cookie of the origin, which is kept with the attributes it came with",
    ("cmd/origin/*", "*"): "the demo's origin, on loopback, which misbehaves on purpose",
    ("scripts/bench/*", "*"): "a measurement on a developer's machine, of programs it starts itself",
    ("cmd/download/companion.go", "G304"): "a command line tool writes where its user says, and checks what is there",
    ("cmd/download/companion.go", "G115"): "a umask has nine bits, and no disk has 2^63 bytes",
    ("cmd/download/*", "G703"): "the user names the folder; names from the network pass safeName, and companion files are checked on their descriptors",
    ("cmd/download/sums.go", "G501"): "MD5 is the origin's choice of digest",
    ("internal/requestflag/*", "G304"): "-d @file and -H @file read what the user names",
}


def checkov(*variants):
    """Returns, for each set of parameter values, the (check, resource) of what fails."""
    with tempfile.TemporaryDirectory() as folder:
        files = [f"{n}.json" for n in range(len(variants))]
        for file, values in zip(files, variants):
            pathlib.Path(folder, file).write_text(json.dumps(expand_template.decide(expand_template.expand(values), values)))
        out = subprocess.run(
            [TOP / ".local/checkov/bin/checkov", "-f", *files, "--framework", "cloudformation", "--skip-download", "-o", "json"],
            capture_output=True, text=True, check=False, cwd=folder)  # in the top folder it would read .checkov.yaml
    report = json.loads(out.stdout)

    def of(kind, file):
        return {(c["check_id"], c["resource"]) for c in report["results"][kind] if c["file_path"] == f"/{file}"}

    if any(len(of("passed_checks", file)) < 100 for file in files) or report["summary"]["parsing_errors"]:
        sys.exit(f"checkov did not read the template: {report['summary']} {out.stderr}")
    return [of("failed_checks", file) for file in files]


def gosec(binary):
    """(file, rule, line) of what it finds in what is built."""
    out = subprocess.run([TOP / binary, "-quiet", "-fmt=json", "./functions/...", "./internal/...", "./cmd/...", "./scripts/..."],
                         capture_output=True, text=True, check=False, cwd=TOP)
    report = json.loads(out.stdout)
    if report["Golang errors"] or report["Stats"]["files"] < 50:
        sys.exit(f"gosec did not read the code: {report['Golang errors']} {report['Stats']}")
    return {(str(pathlib.Path(i["file"]).relative_to(TOP)), i["rule_id"], i["line"], i["details"]) for i in report["Issues"]}


def main(binary):
    wrong = []
    allowed = set(yaml.safe_load((TOP / ".checkov.yaml").read_text())["skip-check"])
    found, hardened = checkov({}, HARDENED)
    wrong += [f"checkov: {check} in {resource}" for check, resource in sorted(found) if check not in allowed]
    wrong += [f".checkov.yaml: {check} is not found any more" for check in sorted(allowed - {check for check, _ in found})]
    wrong += [f"checkov: {check} in {resource}, with everything on" for check, resource in sorted(hardened) if check in GONE or check not in allowed]

    used = set()
    for file, rule, line, details in sorted(gosec(binary)):
        reasons = [key for key in GOSEC if fnmatch.fnmatch(file, key[0]) and fnmatch.fnmatch(rule, key[1])]
        used |= set(reasons)
        if not reasons:
            wrong.append(f"gosec: {file}:{line}: {rule}: {details}")
    wrong += [f"security.py: {rule} in {file} is not found any more" for file, rule in GOSEC if (file, rule) not in used and any(TOP.glob(file))]
    if wrong:
        sys.exit("\n".join(wrong))
    print(f"security: checkov {len(found)} findings, all with a reason; gosec the same")


if __name__ == "__main__":
    main(sys.argv[1])
