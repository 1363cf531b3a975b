"""The design is tested, too: which libraries are used where, and documents that say what is so."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys

import pytest
from world import ROOT

from refresh_tokens import VERSION, Exit
from whatsapp_tokens.reports.causes import ADVICE, CAUSES
from whatsapp_tokens.results import AbortReason, Reason

README = (ROOT / "README.md").read_text(encoding="utf-8")
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for path in [*ROOT.glob("*.py"), *ROOT.glob("whatsapp_tokens/**/*.py")]
    if path.stem != "__init__"
}


def imported(path):
    """The modules from which a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


# What the five modules at the top level may import of ours; import-linter holds the package (pyproject.toml).
TOP_LEVEL = {
    "crypto": {
        "whatsapp_tokens.ciphertext_formats",
        "whatsapp_tokens.facts",
        "whatsapp_tokens.redaction",
        "whatsapp_tokens.token_text",
    },
    "meta_client": {
        "whatsapp_tokens.facts",
        "whatsapp_tokens.http_environment",
        "whatsapp_tokens.http_session",
        "whatsapp_tokens.meta.answers",
        "whatsapp_tokens.meta.errors",
        "whatsapp_tokens.meta.rate_limiter",
        "whatsapp_tokens.redaction",
        "whatsapp_tokens.signals",
    },
    "models": {"whatsapp_tokens.column_types", "whatsapp_tokens.results"},
    "notify": {
        "whatsapp_tokens.delivery",
        "whatsapp_tokens.http_session",
        "whatsapp_tokens.redaction",
        "whatsapp_tokens.signals",
    },
    "refresh_tokens": {
        "whatsapp_tokens.commands.execute",
        "whatsapp_tokens.commands.options",
        "whatsapp_tokens.commands.uncaught",
        "whatsapp_tokens.installed",
        "whatsapp_tokens.redaction",
        "whatsapp_tokens.results",
        "whatsapp_tokens.signals",
    },
}


@pytest.mark.parametrize("module", TOP_LEVEL)
def test_the_five_modules_import_only_what_is_below_them(module):
    ours = {name for name in imported(MODULES[module]) if name in MODULES}
    assert ours == TOP_LEVEL[module]


@pytest.mark.parametrize(
    ("library", "modules"),
    [
        ("requests", {"meta_client", "whatsapp_tokens.http_environment", "whatsapp_tokens.http_session"}),
        ("cryptography", {"crypto"}),
        ("dotenv", {"whatsapp_tokens.environment"}),
        ("babel", {"whatsapp_tokens.reports.language"}),
        ("prometheus_client", {"whatsapp_tokens.monitoring.prometheus"}),
        ("jinja2", {"whatsapp_tokens.reports.status_page"}),
        ("apprise", {"whatsapp_tokens.apprise_secrets", "whatsapp_tokens.apprise_target"}),
        ("sandbox", set()),
    ],
)
def test_a_library_is_used_in_few_modules(library, modules):
    assert {
        module
        for module, path in MODULES.items()
        if library in {name.partition(".")[0] for name in imported(path)}
    } == modules


def test_the_clock_is_read_in_one_place():
    reads = re.compile(r"\bdatetime\.(?:now|utcnow|today)\(|\btime\.time\(")
    found = {name: len(reads.findall(path.read_text(encoding="utf-8"))) for name, path in MODULES.items()}
    assert {name: count for name, count in found.items() if count} == {"refresh_tokens": 1}


def test_no_module_is_named_like_one_of_the_standard_library():
    assert {path.stem for path in MODULES.values()} & set(sys.stdlib_module_names) == set()


def test_the_help_in_the_readme_is_the_real_one():
    done = subprocess.run(
        [sys.executable, str(ROOT / "refresh_tokens.py"), "--help"],
        env=os.environ | {"COLUMNS": "100"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout in README


def test_the_settings_in_the_readme_are_those_of_the_example():
    table = README.partition("## Settings")[2].partition("## Schedule")[0]
    named = set(re.findall(r"`([A-Z][A-Z_]+)`", "\n".join(re.findall(r"^\|([^|]+)\|", table, re.MULTILINE))))
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    explained = set(re.findall(r"^(?:# )?([A-Z][A-Z_]+)=", example, re.MULTILINE))
    in_files = {f"{name}_FILE" for name in explained}
    assert named == explained - in_files


def test_the_readme_knows_every_exit_code():
    table = README.partition("## Exit codes")[2].partition("##")[0]
    assert {int(code) for code in re.findall(r"\b(\d+)\b(?=[ ,|])", table)} >= {int(code) for code in Exit}


def test_the_readme_knows_every_reason_and_advice_knows_every_failure():
    assert [reason for reason in (*Reason, *AbortReason) if f"`{reason}`" not in README] == []
    assert set(ADVICE) == set(CAUSES) == {reason for reason in Reason if reason.is_failure} | set(AbortReason)


ARCHITECTURE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")


def file_of(name):
    """The file that a document means: modules of the package are named without its folder."""
    return next((path for path in (ROOT / name, ROOT / "whatsapp_tokens" / name) if path.exists()), None)


def test_the_architecture_names_every_module_and_no_other():
    named = {name: file_of(name) for name in re.findall(r"`([\w/]+\.py)`", ARCHITECTURE)}
    assert [name for name, path in named.items() if path is None] == []
    listed = {file_of(name) for name in re.findall(r"^\| `([\w/]+\.py)` \|", ARCHITECTURE, re.MULTILINE)}
    assert listed == set(MODULES.values())


def test_the_architecture_names_functions_that_exist():
    steps = re.findall(r"`([\w/]+\.py)` `(?:\w+\.)?(\w+)`", ARCHITECTURE)
    defined = {
        name: {
            node.name
            for node in ast.walk(ast.parse(file_of(name).read_text(encoding="utf-8")))
            if isinstance(node, ast.FunctionDef | ast.ClassDef)
        }
        for name, _ in steps
    }
    assert [(name, function) for name, function in steps if function not in defined[name]] == []


@pytest.mark.parametrize("document", ["docs/architecture.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_the_readme_links_the_other_documents(document):
    assert f"({document})" in README


def test_the_version_is_the_newest_release_in_the_changelog():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## \[(.+?)\](?: - (\d{4}-\d\d-\d\d))?$", changelog, re.MULTILINE)
    assert (headings[0], headings[1][0], bool(headings[1][1])) == (("Unreleased", ""), VERSION, True)


def test_the_workflow_gives_the_program_the_required_settings_from_secrets():
    workflow = (ROOT / ".github/workflows/refresh-tokens.yml").read_text(encoding="utf-8")
    required = ("DATABASE_URL", "META_APP_SECRET", "TOKEN_ENCRYPTION_KEY")
    for name in (*required, "SLACK_WEBHOOK_URL", "NOTIFY_URLS", "HEALTHCHECK_URL"):
        assert f"{name}: ${{{{ secrets.{name} }}}}" in workflow
    assert "cancel-in-progress: false" in workflow
