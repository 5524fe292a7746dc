"""The table of licences is whole, and says what the installed packages say."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DECLARED = [
    re.match(r"[\w-]+", line)[0] for line in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
]
WORDS = {"BSD-3-Clause": "BSD", "Apache-2.0": "Apache", "MIT": "MIT", "PSF-based": "Python Software Foundation"}
ROWS = re.findall(r"^\| ([\w-]+) \| ([\w.-]+) \|$", (ROOT / "docs" / "licences.md").read_text(), re.MULTILINE)
TABLE = {package: licence for package, licence in ROWS if licence in WORDS}
OWN_WORDS = 200  # characters; after them come the licences of compiled files, such as the runtime library of a compiler


def said_by(package):
    """All that the metadata of a package say of its licence."""
    data = importlib.metadata.metadata(package)
    classifiers = [text for text in data.get_all("Classifier") or [] if text.startswith("License")]
    return " ".join([data.get("License-Expression") or "", (data.get("License") or "")[:OWN_WORDS], *classifiers])


def test_every_dependency_has_a_row():
    assert list(TABLE) == sorted(DECLARED)


@pytest.mark.parametrize("package", DECLARED)
def test_the_licence_is_permissive_and_as_the_package_says(package):
    assert WORDS[TABLE[package]] in said_by(package)
    assert not re.search(r"\b[AL]?GPL", said_by(package))
