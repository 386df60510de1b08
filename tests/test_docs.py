"""What the README says of settings is what the code reads."""

import ast
import re
from pathlib import Path

import pytest

from likesite.machine import plan
from tests.servers import ROOT

READERS = ("env", "number", "whole", "switch")


def documented() -> set[str]:
    table = (ROOT / "README.md").read_text().split("## Settings")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`([A-Z_]+)`", row)}


def read_by_settings() -> set[str]:
    names = set()
    for node in ast.walk(ast.parse((ROOT / "likesite" / "settings.py").read_text())):
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            function = node.func.value if isinstance(node.func, ast.Attribute) else node.func
            if isinstance(function, ast.Name) and function.id in READERS:
                names.add(str(node.args[0].value))
    return names


def read_elsewhere() -> set[str]:
    """Return what is read past settings.py: by name, from the environment or from what stands for it."""
    lookups = re.compile(r'\b(?:os\.environ|environment)(?:\.get\(|\[)\s*"([A-Z_]+)"')
    sources = [path for folder in ("likes", "likesite") for path in (ROOT / folder).rglob("*.py")]
    found = {name for path in [*sources, ROOT / "locustfile.py"] for name in lookups.findall(path.read_text())}
    return found | {*plan.DEFAULTS, *plan.SERVERS, *plan.DJANGO, plan.METRICS}


def test_every_setting_is_in_the_readme() -> None:
    read = read_by_settings()
    assert len(read) > 15, "the settings could not be read from the source"
    assert read - documented() == set()


def test_what_is_read_past_the_settings_is_in_the_readme_too() -> None:
    read = read_elsewhere()
    assert {"PORT", "LIKES_DATA_DIR", "PROMETHEUS_MULTIPROC_DIR"} <= read, "the sources could not be searched"
    assert read - documented() == set()


@pytest.mark.parametrize("page", ["README.md", "CHANGELOG.md", "docs/architecture.md"])
def test_no_page_holds_a_placeholder(page: str) -> None:
    text = (ROOT / page).read_text()
    assert re.findall(r"\b(?:[A-Z]+_FIGURES|TODO|TBD|FIXME|XXX|PLACEHOLDER)\b", text) == []


def test_the_readme_names_no_setting_that_nobody_reads() -> None:
    sources = [path for folder in ("likes", "likesite") for path in (ROOT / folder).rglob("*.py")]
    text = "\n".join(Path(path).read_text() for path in sources)
    assert {name for name in documented() if f'"{name}"' not in text} == set()


def test_the_example_environment_holds_settings_only() -> None:
    named = set(re.findall(r"^#?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.M))
    of_compose = {"ADMIN_PASSWORD", "DB_PASSWORD", "BIND", "INSIGHT_PORT", "FORWARDED_ALLOW_IPS"}
    assert named - of_compose - documented() == set()


def test_the_verbs_of_the_readme_exist() -> None:
    usage = (ROOT / "run.sh").read_text()
    named = set(re.findall(r"\./run\.sh ([a-z]+)", (ROOT / "README.md").read_text()))
    assert named
    assert {verb for verb in named if not re.search(rf"^  {verb}\b", usage, re.M) and verb != "help"} == set()
