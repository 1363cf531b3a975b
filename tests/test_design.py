"""The design is tested, too: who may know whom, and documents that say what is so."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys

import pytest

from outcomes import Reason
from refresh_tokens import VERSION, Exit
from words import ADVICE, CAUSES
from world import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
MODULES = {path.stem: path for path in ROOT.glob("*.py")}

# Each room, and the rooms that it may know. A room that is not listed here has no place yet.
MAY_IMPORT = {
    "redact": set(),
    "transport": set(),
    "layouts": set(),
    "crypto": {"layouts", "redact"},
    "graph_errors": {"redact"},
    "limits": {"graph_errors"},
    "meta_client": {"graph_errors", "limits", "redact", "transport"},
    "connection": {"redact"},
    "models": set(),
    "due": {"models"},
    "outcomes": {"due", "models"},
    "fleet": {"due", "models"},
    "tables": {"connection"},
    "rights": {"tables"},
    "conditions": {"fleet", "models", "tables"},
    "database": {"conditions", "connection", "fleet", "models", "rights", "tables"},
    "notify": {"redact", "transport"},
    "apprise_target": {"notify", "redact"},
    "renewal": {"due", "graph_errors", "meta_client", "outcomes", "redact"},
    "settling": {"crypto", "layouts", "models", "outcomes", "renewal"},
    "jury": {"models", "outcomes"},
    "opening": {"crypto", "database", "due", "models", "outcomes"},
    "stopping": set(),
    "runner": {
        "connection",
        "crypto",
        "database",
        "due",
        "graph_errors",
        "jury",
        "meta_client",
        "models",
        "opening",
        "outcomes",
        "redact",
        "renewal",
        "settling",
        "stopping",
    },
    "by_hand": {
        "connection",
        "crypto",
        "database",
        "due",
        "layouts",
        "models",
        "opening",
        "outcomes",
        "redact",
        "renewal",
        "settling",
    },
    "details": set(),
    "words": {"details", "outcomes"},
    "page_texts": {"fleet", "words"},
    "page": {"fleet", "models", "page_texts", "redact", "report", "words"},
    "preflight": {
        "connection",
        "crypto",
        "database",
        "graph_errors",
        "meta_client",
        "models",
        "notify",
        "settings",
    },
    "report": {"models", "notify", "outcomes", "preflight", "redact", "words"},
    "alerts": {"connection", "database", "models", "notify", "outcomes", "report", "words"},
    "console": {"github_actions", "outcomes", "redact", "report"},
    "heartbeat": {"redact", "transport"},
    "metrics": {"fleet"},
    "github_actions": {"redact"},
    "step_summary": {"github_actions", "outcomes", "redact", "report", "words"},
    "watch": {
        "connection",
        "fleet",
        "github_actions",
        "heartbeat",
        "metrics",
        "outcomes",
        "report",
        "settings",
        "step_summary",
    },
    "settings": {"apprise_target", "connection", "crypto", "meta_client", "redact", "tables", "words"},
    "status_reports": {"connection", "database", "models", "page"},
    "options": {"page"},
    "program": set(MODULES) - {"refresh_tokens"},
    "refresh_tokens": {"options", "program", "redact", "settings"},
}


def imports(path):
    """The top-level names that a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def test_every_room_has_its_place():
    assert set(MODULES) == set(MAY_IMPORT)


@pytest.mark.parametrize("room", MODULES)
def test_imports_run_one_way(room):
    ours = set(imports(MODULES[room])) & set(MODULES)
    assert ours <= MAY_IMPORT[room]


@pytest.mark.parametrize(
    ("library", "rooms"),
    [
        ("requests", {"meta_client", "notify", "transport"}),
        ("urllib3", {"heartbeat", "meta_client", "notify", "transport"}),
        ("sqlalchemy", {"conditions", "connection", "database", "rights", "tables"}),
        ("cryptography", {"crypto"}),
        ("click", {"console", "program", "refresh_tokens"}),
        ("dotenv", {"settings"}),
        ("babel", {"words"}),
        ("prometheus_client", {"metrics"}),
        ("jinja2", {"page"}),
        ("apprise", {"apprise_target"}),
        ("sandbox", set()),
    ],
)
def test_a_library_is_known_in_its_rooms_only(library, rooms):
    assert {room for room, path in MODULES.items() if library in imports(path)} == rooms


def test_the_clock_is_read_in_one_place():
    reads = re.compile(r"\bdatetime\.(?:now|utcnow|today)\(|\btime\.time\(")
    found = {room: len(reads.findall(path.read_text(encoding="utf-8"))) for room, path in MODULES.items()}
    assert {room: count for room, count in found.items() if count} == {"refresh_tokens": 1}


def test_no_room_has_the_name_of_a_standard_module():
    assert set(MODULES) & set(sys.stdlib_module_names) == set()


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
    assert [reason for reason in Reason if f"`{reason}`" not in README] == []
    not_failures = {
        Reason.NEVER_EXPIRES,
        Reason.CLOCK_CORRECTED,
        Reason.REPLACED_MEANWHILE,
        Reason.CLAIMED_ELSEWHERE,
        Reason.WAITING_FOR_RECONNECT,
    }
    assert set(ADVICE) == set(CAUSES) == (set(Reason) - not_failures) | {"configuration", "internal_error"}


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 200


def test_the_changelog_knows_the_version():
    assert f"## [{VERSION}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_every_requirement_is_pinned():
    lines = [
        line
        for name in ("requirements.txt", "requirements-dev.txt")
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines()
        if line and not line.startswith(("#", "-r "))
    ]
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9_.-]+==[\w.]+", line)] == []


def test_the_workflow_gives_the_program_the_required_settings_from_secrets():
    workflow = (ROOT / ".github/workflows/refresh-tokens.yml").read_text(encoding="utf-8")
    required = ("DATABASE_URL", "META_APP_SECRET", "TOKEN_ENCRYPTION_KEY")
    for name in (*required, "SLACK_WEBHOOK_URL", "NOTIFY_URLS", "HEALTHCHECK_URL"):
        assert f"{name}: ${{{{ secrets.{name} }}}}" in workflow
    assert "cancel-in-progress: false" in workflow
