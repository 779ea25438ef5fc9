"""docs/openapi.yaml describes the REST API that the template deploys, and its examples fit its schemas."""

import pathlib
import unittest

import jsonschema
import yaml

import expand_template

TOP = pathlib.Path(__file__).resolve().parent.parent
DOCUMENT = yaml.safe_load((TOP / "docs/openapi.yaml").read_text())
PARAMETERS = {"ApiAuth": "JWT", "JwtIssuer": "https://issuer.example", "JwtAudience": "files"}
DEPLOYED = expand_template.decide(expand_template.expand(PARAMETERS), PARAMETERS)["Resources"]["DownloadApi"]["Properties"]["Body"]
METHODS = ("get", "post", "put", "patch", "delete", "head")
PAGES = ("/", "/client.js")


def deployed():
    """Path, method, and definition of each operation. Methods that only answer 405, and HEAD, have no security."""
    for path, methods in DEPLOYED["paths"].items():
        for verb in METHODS:
            if verb in methods and ("security" in methods[verb] or path in PAGES and verb == "get"):
                yield path.replace("+}", "}"), verb, methods[verb]  # OpenAPI has no {path+}


def contents(node):
    """Every media type with a schema, wherever it is."""
    if isinstance(node, dict):
        for media in node.get("content", {}).values():
            yield media
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from contents(child)


def resolve(node):
    while "$ref" in node:
        target = DOCUMENT
        for step in node["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        node = target
    return node


class OpenApi(unittest.TestCase):
    def test_operations_are_those_of_the_template(self):
        described = {(path, verb) for path, methods in DOCUMENT["paths"].items() for verb in methods if verb in METHODS}
        self.assertEqual(described, {(path, verb) for path, verb, _ in deployed()})

    def test_security_schemes_are_those_of_the_template(self):
        described = DOCUMENT["components"]["securitySchemes"]
        self.assertEqual(set(described), set(DEPLOYED["components"]["securitySchemes"]))
        for name, scheme in DEPLOYED["components"]["securitySchemes"].items():
            self.assertEqual([described[name][key] for key in ("type", "name", "in")], [scheme[key] for key in ("type", "name", "in")])
        for path, verb, definition in deployed():
            self.assertEqual("security" in definition, DOCUMENT["paths"][path][verb].get("security") != [], f"{verb} {path}")

    def test_examples_fit_their_schemas(self):
        checked = 0
        for media in contents(DOCUMENT):
            schema = media["schema"] | {"components": DOCUMENT["components"]}
            for example in media.get("examples", {}).values():
                jsonschema.Draft202012Validator(schema).validate(resolve(example)["value"])
                checked += 1
        self.assertGreater(checked, 10)

    def test_schemas_refuse(self):
        def fits(name, value):
            schema = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
            return jsonschema.Draft202012Validator(schema).is_valid(value)
        copying = {"status": "COPYING", "bytesCopied": 1, "bytesTotal": None}
        self.assertTrue(fits("Status", copying))
        self.assertFalse(fits("Status", copying | {"secret": "x"}), "a member that isn't described")
        self.assertFalse(fits("Status", copying | {"url": "https://x"}), "a link before the file is ready")
        self.assertFalse(fits("Status", copying | {"status": "READY"}), "no link, though the file is ready")
        self.assertFalse(fits("Status", copying | {"status": "FAILED"}), "no reason of a failure")


if __name__ == "__main__":
    unittest.main()
