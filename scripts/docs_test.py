"""What the documents refer to exists, and metrics are documented."""

import pathlib
import re
import unittest

TOP = pathlib.Path(__file__).resolve().parent.parent
DOCUMENTS = {file: file.read_text() for file in [*TOP.glob("*.md"), *TOP.glob("docs/*.md")]}
PROSE = {file: re.sub(r"^```.*?^```", "", text, flags=re.M | re.S) for file, text in DOCUMENTS.items()}


def files(pattern):
    return [file for folder in TOP.glob("[a-z]*/") for file in folder.glob(pattern)]


class Documents(unittest.TestCase):
    def check(self, pattern, exists, documents=PROSE):
        """Fails for each match, in each document, that doesn't exist."""
        seen = 0
        for file, text in documents.items():
            for found in re.findall(pattern, text):
                seen += 1
                with self.subTest(f"{file.relative_to(TOP)}: {found}"):
                    self.assertTrue(exists(file, found))
        self.assertGreater(seen, 20, pattern)

    def test_links(self):
        anchors = {file: {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in re.findall(r"^#+ (.*)$", text, re.M)}
                   for file, text in PROSE.items()}

        def exists(file, link):
            name, _, anchor = link.partition("#")
            target = (file.parent / name).resolve() if name else file
            return "://" in link or target.exists() and (not anchor or anchor in anchors.get(target, ()))

        self.check(r"\]\(([^)\s]+)\)", exists)

    def test_paths(self):
        folders = "|".join(sorted(folder.name for folder in TOP.glob("[a-z]*/")) + [".github"])
        self.check(rf"(?<![\w./-])((?:{folders})/[\w./*-]*\w)", lambda _, path: path.startswith("bin/") or any(TOP.glob(path)), DOCUMENTS)

    def test_names_of_tests(self):
        tests = {name for file in files("**/*_test.go") for name in re.findall(r"^func ((?:Test|Fuzz)\w+)\(", file.read_text(), re.M)}
        tests |= {name for file in files("**/*_test.py") for name in re.findall(r"def (test_\w+)\(", file.read_text())}
        self.check(r"`((?:Test|Fuzz)[A-Z]\w+|test_\w+)`", lambda _, name: name in tests)

    def test_metrics(self):
        """The runbook has each; internal/failure tests the same of codes."""
        names = re.findall(r'Name += "(\w+)"', (TOP / "internal/metric/metric.go").read_text())
        self.assertGreater(len(names), 5)
        for name in names:
            self.assertIn(f"`{name}`", DOCUMENTS[TOP / "docs/operations.md"])


if __name__ == "__main__":
    unittest.main()
