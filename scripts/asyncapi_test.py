"""docs/asyncapi.yaml is AsyncAPI, and describes what internal/socket sends: the events that its test compares with."""

import json
import pathlib
import re
import unittest

import jsonschema
import yaml

TOP = pathlib.Path(__file__).resolve().parent.parent
DOCUMENT = yaml.safe_load((TOP / "docs/asyncapi.yaml").read_text())
REST = yaml.safe_load((TOP / "docs/openapi.yaml").read_text())
SENT = json.loads((TOP / "internal/socket/testdata/events.json").read_text())
MESSAGES = DOCUMENT["components"]["messages"]


def validator(message):
    """Checks a message; references to the other document are those of one file here."""
    text = json.dumps(MESSAGES[message]["payload"]).replace("./openapi.yaml#", "#")
    return jsonschema.Draft202012Validator(json.loads(text) | {"components": REST["components"]}, format_checker=jsonschema.FormatChecker())


class AsyncApi(unittest.TestCase):
    def test_document(self):
        schema = json.loads((TOP / ".local/npm/node_modules/@asyncapi/specs/schemas/3.0.0-without-$id.json").read_text())
        check = jsonschema.Draft7Validator(schema)
        check.validate(DOCUMENT)
        self.assertFalse(check.is_valid(DOCUMENT | {"channels": {"socket": {"messages": []}}}))

    def test_references(self):
        for reference in re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(DOCUMENT)):
            node = DOCUMENT
            for step in reference.split("/"):
                node = node[step]

    def test_events_are_those_described(self):
        described = {name for name, message in MESSAGES.items() if message.get("contentType") != "text/plain"} - {"action"}
        self.assertEqual({event["json"]["type"] for event in SENT}, described)
        for event in SENT:
            kind = event["json"]["type"]
            validator(kind).validate(event["json"])
            for other in described - {kind}:
                self.assertFalse(validator(other).is_valid(event["json"]), f"{kind} as {other}")
            self.assertFalse(validator(kind).is_valid(event["json"] | {"secret": ""}), f"{kind} with another member")
            if event["text"]:
                validator("text").validate(event["text"])


if __name__ == "__main__":
    unittest.main()
