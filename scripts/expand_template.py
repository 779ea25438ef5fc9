"""Prints template.yaml as CloudFormation sees it once SAM has expanded it, as JSON. Needs no AWS.

    expand_template.py [Name=value …]

With values, what depends on a parameter is decided as well: conditions, and the resources under them.
"""

import copy
import json
import logging
import os
import pathlib
import re
import sys

from samcli.yamlhelper import yaml_parse
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

TEMPLATE = pathlib.Path(__file__).resolve().parent.parent / "template.yaml"


class Refused(Exception):
    """CloudFormation would not take these values: a rule of the template forbids them."""


def source():
    return yaml_parse(TEMPLATE.read_text())


def expand(values=None):
    """The expanded template; OriginUrl, which has no default, may be left out."""
    template = source()
    for resource in template["Resources"].values():
        for path in ("CodeUri", "DefinitionUri"):  # as sam package leaves them
            if path in resource["Properties"]:
                resource["Properties"][path] = "s3://packaged/" + resource["Properties"][path]
    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    logging.getLogger("samtranslator").setLevel(logging.ERROR)
    # The translator takes parameters as they are here, and writes into what it is given.
    return Translator({}, Parser()).translate(copy.deepcopy(template), {"OriginUrl": "https://origin.example"} | (values or {}))


def decide(template, values):
    """The template for these values: no parameters, no conditions."""
    known = {name: p["Default"] for name, p in template["Parameters"].items() if "Default" in p} | {"OriginUrl": "https://origin.example"} | values
    text = {name: str(value) for name, value in known.items()}

    def holds(condition):
        (kind, of), = condition.items()
        if kind == "Fn::Equals":
            return resolve(of[0]) == resolve(of[1])
        if kind == "Fn::Not":
            return not holds(of[0])
        if kind == "Fn::And":
            return all(holds(c) for c in of)
        if kind == "Condition":
            return holds(template["Conditions"][of])
        raise ValueError(f"a condition of kind {kind}")

    def substitute(format_, more):
        return re.sub(r"\$\{(\w+)\}", lambda m: more[m[1]] if isinstance(more.get(m[1]), str) else m[0], format_)

    def resolve(node):
        if isinstance(node, list):
            return [r for r in map(resolve, node) if r != {"Ref": "AWS::NoValue"}]
        if not isinstance(node, dict):
            return node
        if list(node) == ["Ref"] and node["Ref"] in text:
            return text[node["Ref"]]
        if list(node) == ["Fn::If"]:
            condition, then, otherwise = node["Fn::If"]
            return resolve(then if holds(template["Conditions"][condition]) else otherwise)
        if list(node) == ["Fn::Sub"]:
            if isinstance(node["Fn::Sub"], str):
                return {"Fn::Sub": substitute(node["Fn::Sub"], text)}
            format_, more = node["Fn::Sub"]
            more = {name: resolve(value) for name, value in more.items()}
            return {"Fn::Sub": [substitute(format_, text | more), {n: v for n, v in more.items() if not isinstance(v, str)}]}
        return {key: resolve(value) for key, value in node.items() if resolve(value) != {"Ref": "AWS::NoValue"}}

    for rule in template.get("Rules", {}).values():
        for assertion in rule["Assertions"]:
            if holds(rule["RuleCondition"]) and not holds(assertion["Assert"]):
                raise Refused(assertion["AssertDescription"])
    decided = {k: v for k, v in template.items() if k not in ("Parameters", "Conditions", "Rules")}
    decided["Resources"] = {
        name: resource for name, resource in template["Resources"].items()
        if "Condition" not in resource or holds(template["Conditions"][resource["Condition"]])
    }
    return resolve(decided)


if __name__ == "__main__":
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    expanded = expand(given)
    json.dump(decide(expanded, given) if given else expanded, sys.stdout, indent=1)
