"""Checks values for the template's parameters as CloudFormation would, and prints all of them for sam deploy.

    parameters.py [Name=value …]

Prints a JSON list of Name=value: the values given, and the defaults of the parameters that aren't named. What is wrong
goes to stderr, one line each, with exit status 1. Run by the Python that has SAM.
"""

import difflib
import json
import re
import sys

import expand_template


def problems(known, values):
    """Yields a line for each value that the template doesn't allow."""
    for name, value in values.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            yield f"there is no parameter {name}" + (f"; did you mean {near[0]}?" if near else "")
            continue
        p = known[name]
        if "AllowedValues" in p and value not in map(str, p["AllowedValues"]):
            yield f"{name} must be one of {', '.join(map(str, p['AllowedValues']))}, not {value!r}"
        elif p["Type"] == "Number" and not re.fullmatch(r"-?\d+", value):
            yield f"{name} must be a number, not {value!r}"
        elif p["Type"] == "Number" and int(value) < int(p.get("MinValue", value)):
            yield f"{name} must be at least {p['MinValue']}, not {value}"
        elif p["Type"] == "Number" and int(value) > int(p.get("MaxValue", value)):
            yield f"{name} must be at most {p['MaxValue']}, not {value}"
        elif len(value) > int(p.get("MaxLength", len(value))):
            yield f"{name} must have at most {p['MaxLength']} characters, not {len(value)}"
        elif len(value) < int(p.get("MinLength", 0)):
            yield f"{name} must have at least {p['MinLength']} characters, not {len(value)}"
        elif not re.fullmatch(p.get("AllowedPattern", ".*"), value, re.S):
            yield f"{name} {p['ConstraintDescription'].rstrip('.')}; got {value!r}"


def check(words):
    """Returns the value of every parameter and the lines about what is wrong."""
    template = expand_template.source()
    wrong = [f"PARAMETERS has {word!r}; it takes Name=value" for word in words if "=" not in word]
    values = dict(word.split("=", 1) for word in words if "=" in word)
    wrong += problems(template["Parameters"], values)
    values = {name: str(p["Default"]) for name, p in template["Parameters"].items() if "Default" in p} | values
    if not wrong:
        try:
            expand_template.decide(template, values)
        except expand_template.Refused as refused:
            wrong = [str(refused)]
    return values, wrong


if __name__ == "__main__":
    values, wrong = check(sys.argv[1:])
    if wrong:
        sys.exit("\n".join("up: " + line for line in wrong))
    json.dump([f'{name}={value or chr(34) * 2}' for name, value in values.items()], sys.stdout)
