"""Holds what the README names to what is there: parameters, outputs, commands, files, tests, codes.
The states, the pictures and the item are held by asl/readme_test.go.

    .local/venv/bin/python scripts/readme_test.py
"""

import pathlib
import re
import unittest

import tomlkit

import expand_template

TOP = pathlib.Path(__file__).resolve().parent.parent
SOURCE = expand_template.source()
README = (TOP / "README.md").read_text()
TEXTS = {name: (TOP / name).read_text() for name in ("README.md", "CONTRIBUTING.md", "docs/RUNBOOK.md")}


def blocks(text):
    """The lines of the blocks of code."""
    return [line for block in re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S) for line in block.splitlines()]


def code(text):
    """What is set in code, in blocks or within a line."""
    return blocks(text) + re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))


def section(heading):
    return README.split(f"\n{heading}\n")[1].split("\n" + heading.split()[0] + " ")[0]


def rows(text):
    """The cells of a section's tables, without their heads."""
    lines = text.splitlines() + [""]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line, after in zip(lines, lines[1:])
            if line.startswith("|") and not line.startswith("|--") and not after.startswith("|--")]


class Deploy(unittest.TestCase):
    TEXT = section("## Deploy")

    def test_parameters_and_their_defaults(self):
        told = {}
        for cells in rows(self.TEXT):
            for name in re.findall(r"`(\w+)`", cells[0]):
                told[name] = cells[1].strip("`")
        self.assertEqual(told, {name: str(p.get("Default", "")) for name, p in SOURCE["Parameters"].items()})

    def test_outputs(self):
        told = re.search(r"and prints (.*?)\nA bucket of your own", self.TEXT, re.S)[1]
        self.assertEqual({name for name in re.findall(r"`(\w+)`", told) if name not in SOURCE["Parameters"] or name in SOURCE["Outputs"]},
                         set(SOURCE["Outputs"]))

    def test_samconfig_example(self):
        environments = tomlkit.parse((TOP / "samconfig.example.toml").read_text()).unwrap()
        environments.pop("version")
        self.assertEqual(len(environments), 2)
        for name, environment in environments.items():
            overrides = dict(o.split("=", 1) for o in environment["deploy"]["parameters"]["parameter_overrides"])
            self.assertLessEqual(set(overrides), set(SOURCE["Parameters"]), name)
            self.assertIn("OriginUrl", overrides)


class Named(unittest.TestCase):
    def test_make_targets(self):
        targets = set(re.findall(r"^([a-z]+):.*##", (TOP / "Makefile").read_text(), re.M))
        self.assertGreater(len(targets), 10)
        for name, text in TEXTS.items():
            for line in code(text):
                for target in re.findall(r"\bmake ([a-z]+)", line):
                    self.assertIn(target, targets, f"{name}: {line}")
        told = {target for line in code(README) for target in re.findall(r"\bmake ([a-z]+)", line)}
        self.assertEqual(targets - told, {"help"}, "targets that the README doesn't tell of")

    def test_files(self):
        folders = {p.name for p in TOP.iterdir() if p.is_dir() and not p.name.startswith(".")} | {"bin"}
        seen = 0
        for name, text in TEXTS.items():
            for line in code(text):
                line = re.sub(r"https?://\S+", "", line)
                for path in re.findall(r"(?<![\w/.~$}-])[\w.-]+/[\w./-]*", line) + re.findall(r"(?<![\w/.-])[\w.-]+\.(?:yaml|toml|md|mod|sum)\b", line):
                    if path.split("/")[0] not in folders and "/" in path or path == "samconfig.toml":  # which is yours
                        continue
                    seen += 1
                    path = re.sub(r"^bin/", "scripts/", path)  # what make build builds
                    self.assertTrue((TOP / path).exists() or (TOP / "docs" / path).exists(), f"{name}: {path}")
        self.assertGreater(seen, 40)

    def test_links(self):
        for name, text in TEXTS.items():
            headings = {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M)}
            for to in re.findall(r"\]\(([^)]+)\)", text):
                if to.startswith("#"):
                    self.assertIn(to[1:], headings, name)
                elif not to.startswith("https://"):
                    file, _, heading = to.partition("#")
                    self.assertTrue((TOP / name).parent.joinpath(file).exists(), f"{name}: {to}")
                    if heading:
                        self.assertRegex(TOP.joinpath(file).read_text().lower(), rf"(?m)^#+ {heading.replace('-', ' ')}$")

    def test_tests(self):
        """Wherever one is named."""
        tests = {name for file in TOP.glob("**/*_test.go") for name in re.findall(r"^func (Test\w+)\(", file.read_text(), re.M)}
        tests |= {name for file in TOP.glob("scripts/*_test.py") for name in re.findall(r"def (test_\w+)\(", file.read_text())}
        for name, text in TEXTS.items():
            self.assertLessEqual(set(re.findall(r"`(Test[A-Z]\w+|test_\w+)`", text)), tests, name)
        for cells in rows(section("## Threats")):
            self.assertRegex(cells[3], r"`[Tt]est", "a threat without a test")

    def test_codes(self):
        declared = set(re.findall(r'Code += "([A-Z_]+)"', (TOP / "internal/failure/failure.go").read_text()))
        text = section("### When it goes wrong")
        told = {cells[0].strip("`") for cells in rows(text)}
        rest = set(re.findall(r"`([A-Z_]+)` \(\d", text))
        self.assertEqual(told | rest, declared)
        self.assertEqual(told & rest, set())

    def test_scenarios(self):
        told = {scenario for line in code(README) for scenario in re.findall(r"SCENARIO=([\w|]+)", line)}
        script = (TOP / "scripts/load/load.js").read_text()
        self.assertEqual(told, {"|".join(re.findall(r"^  (\w+): \{\s*executor", script, re.M))})

    def test_exit_codes(self):
        told = re.search(r"exit\ncodes: (.*?)\.\n", README, re.S)[1]
        told = {int(n) for n in re.findall(r"(?:^|, |\n)(\d+) \w", told)}
        declared = {int(n) for n in re.findall(r"^\texit\w+ += (\d+)", "\n".join(f.read_text() for f in TOP.glob("cmd/download/*.go")), re.M)}
        self.assertEqual(told, declared | {0})


class Commands(unittest.TestCase):
    """Every command in a block of the README is run by a test, or stands among those that none runs."""

    # As it begins: where it is run, and the words there.
    RUN = {
        "make test": (".ci/run", "make test"),
        "make check": ("scripts/test.sh", "bash scripts/check.sh"),
        "make demo": ("e2e/commands_test.go", '"demo"'),
        "make up": ("e2e/stack_test.go", 'script("up.sh")'),
        "make down": ("e2e/stack_test.go", 'script("down.sh")'),
        "make deploy": ("e2e/commands_test.go", '"deploy"'),
        "make destroy": ("e2e/commands_test.go", '"destroy"'),
        "source .local/env": ("scripts/demo.sh", '. "$STATE/env"'),
        "curl": ("scripts/uat.sh", 'curl -fsS "$API_URL/download'),
        "wscat": ("scripts/uat.sh", '-c "$endpoint" -H X-StateMachine-ExecutionArn:"$arn"'),
        "bin/download": ("scripts/demo.sh", "bin/download"),
    }
    NOT_RUN = ["make bench", "make load", "sam local", "bash scripts/debug.sh"]

    def test_every_command_is_run(self):
        known = list(self.RUN) + self.NOT_RUN
        used = set()
        for line in blocks(README):
            line = re.sub(r"^\$ ", "", line.split("  #")[0]).strip()
            for command in line.split(" && "):
                command = re.sub(r"^(?:[A-Z_]+=\S+ )+", "", command)
                if re.match(r"(?:make|sam|source|curl|wscat|bash|aws|go|python\d?|npm|docker|bin/\w+|scripts/\S+\.\w+)(?: |$)", command):
                    found = [k for k in known if (command + " ").startswith(k + " ")]
                    self.assertTrue(found, f"nothing is known to run {command!r}")
                    used |= set(found)
        self.assertEqual(used, set(known), "commands that the README doesn't have any more")
        for command, (file, words) in self.RUN.items():
            self.assertIn(words, (TOP / file).read_text(), f"{command}: {file}")

    def test_who_is_not_run_is_told(self):
        told = section("## Tests")
        told = told[told.index("No test runs"):]
        for command in self.NOT_RUN:
            self.assertIn(f"`{command}", told)


class Cost(unittest.TestCase):
    def test_the_sum(self):
        """The last number of each cell adds up to the app's."""
        table = rows(section("### Cost"))
        names = [cells[0] for cells in table]
        total = table[names.index("**the app**")]
        for column in (2, 3, 4):
            parts = [float(re.findall(r"[\d.]+", cells[column])[-1]) for cells in table[:names.index("**the app**")] if re.search(r"\d", cells[column])]
            self.assertGreater(len(parts), 3)
            self.assertAlmostEqual(sum(parts), float(total[column].strip("*")), delta=0.006, msg=f"column {column}: {parts}")


if __name__ == "__main__":
    unittest.main()
