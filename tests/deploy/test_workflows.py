"""The workflows: what their steps are given, and what their scripts do on a machine like GitHub's.

Every `run:` block is executed as the runner does it: by the shell that the workflow names, with nothing in
the environment but what GitHub sets and what the step asks for, in a copy of the repository. What cannot run
here is `apt-get` (a stub takes its place), and the actions themselves. pip finds everything installed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from receivers import SlackServer, running
from shop import CLOCKS, TOKEN
from world import KEY, OTHER_KEY, ROOT, days

from whatsapp_tokens.settings import Settings

WORKFLOWS = {path.stem: path for path in ROOT.glob(".github/workflows/*.yml")}
NAMES = {"type": "provider", "name": "display_name", "active": "is_active", "phone_number": "phone"}
CHANNEL_TYPE = "WHATSAPP_CLOUD"
HERE = sys.prefix  # the virtual environment of the tests

# Settings that the workflow leaves out.
LEFT_OUT = {
    "DATABASE_URL_FILE": "secrets come from GitHub, not from files",
    "META_APP_SECRET_FILE": "as above",
    "TOKEN_ENCRYPTION_KEY_FILE": "as above",
    "SLACK_WEBHOOK_URL_FILE": "as above",
    "NOTIFY_URLS_FILE": "as above",
    "HEALTHCHECK_URL_FILE": "as above",
    "METRICS_FILE": "the machine is thrown away after the job, and Prometheus would find nothing",
}


def read(name: str) -> dict[str, Any]:
    workflow = yaml.safe_load(WORKFLOWS[name].read_text(encoding="utf-8"))
    workflow["on"] = workflow.pop(True)  # what YAML 1.1 makes of `on`
    return workflow


def steps_of(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def step(name: str, title: str) -> dict[str, Any]:
    (found,) = [one for one in steps_of(read(name)) if title in (one.get("name"), one.get("run"))]
    return found


REFRESH = step("refresh-tokens", "Refresh tokens")
each_workflow = pytest.mark.parametrize("name", WORKFLOWS)


# -- expressions, in the few forms that the workflows use


def lookup(path: str, contexts: dict[str, Any]) -> Any:
    """Return a property of a context; one that does not exist is empty, as on GitHub."""
    found: Any = contexts
    for part in path.split("."):
        found = found.get(part, "") if isinstance(found, dict) else ""
    return found


def evaluate(expression: str, contexts: dict[str, Any]) -> Any:
    """Return the value of what stands between `${{` and `}}`: properties with `||`, `&&` and `==`."""
    if "||" in expression:
        values = [evaluate(part, contexts) for part in expression.split("||")]
        return next(filter(None, values), values[-1])
    if "&&" in expression:
        return all(evaluate(part, contexts) for part in expression.split("&&"))
    if "==" in expression:
        left, right = (evaluate(part, contexts) for part in expression.split("=="))
        return left == right
    if (text := expression.strip()) == "always()":
        return True
    if literal := re.fullmatch(r"'([^']*)'", text):
        return literal[1]
    assert re.fullmatch(r"[a-z]+(\.[\w-]+)+", text, re.IGNORECASE), (
        f"a form that this test does not know: {text}"
    )
    return lookup(text, contexts)


def filled(text: Any, contexts: dict[str, Any]) -> str:
    """Return a value with its expressions replaced, as a variable of the environment."""

    def shown(match: re.Match[str]) -> str:
        value = evaluate(match[1], contexts)
        return str(value).lower() if isinstance(value, bool) else str(value)

    return re.sub(r"\$\{\{(.*?)\}\}", shown, str(text))


# -- what the files say


@each_workflow
def test_no_script_contains_an_expression(name):
    """What a person types must never become code: it reaches a script through its environment."""
    scripts = [one["run"] for one in steps_of(read(name)) if "run" in one]
    assert scripts
    assert [script for script in scripts if "${{" in script] == []


@each_workflow
def test_actions_are_pinned_by_commit_with_their_version(name):
    text = WORKFLOWS[name].read_text(encoding="utf-8")
    used = re.findall(r"uses: (.*)", text)
    assert used
    assert [
        use for use in used if not re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", use)
    ] == []


def test_an_action_has_the_same_version_everywhere():
    uses = {one["uses"] for name in WORKFLOWS for one in steps_of(read(name)) if "uses" in one}
    assert len(uses) == len({use.partition("@")[0] for use in uses})


@each_workflow
def test_a_workflow_may_read_the_repository_and_nothing_else(name):
    workflow = read(name)
    assert workflow["permissions"] == {}
    assert {job: one["permissions"] for job, one in workflow["jobs"].items()} == {
        job: {"contents": "read"} for job in workflow["jobs"]
    }
    checkouts = [one for one in steps_of(workflow) if one.get("uses", "").startswith("actions/checkout@")]
    assert [one["with"]["persist-credentials"] for one in checkouts] == [False] * len(workflow["jobs"])


@each_workflow
def test_no_job_runs_for_ever_and_runs_of_a_kind_do_not_pile_up(name):
    workflow = read(name)
    assert all(5 <= job["timeout-minutes"] <= 60 for job in workflow["jobs"].values())
    assert workflow["concurrency"]["group"]


def test_a_renewal_is_never_broken_off_by_the_next_run():
    assert read("refresh-tokens")["concurrency"] == {
        "group": "refresh-whatsapp-tokens",
        "cancel-in-progress": False,
    }


def test_ci_knows_no_secret_and_runs_no_code_of_strangers_with_rights():
    text = WORKFLOWS["ci"].read_text(encoding="utf-8")
    assert "secrets" not in re.sub(r"#.*", "", text)
    assert set(read("ci")["on"]) == {"push", "pull_request"}


def test_ci_checks_what_the_script_for_ci_checks():
    scripts = [one["run"] for one in steps_of(read("ci")) if one.get("run", "").startswith("make ")]
    of_ours = re.findall(r"^make \w+$", (ROOT / ".ci/run").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(scripts) == sorted(of_ours)


# -- settings


class Recorder(dict[str, str]):
    """A mapping that remembers what was asked for."""

    def __init__(self, values: dict[str, str]) -> None:
        super().__init__(values)
        self.asked: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.asked.add(key)
        return super().get(key, default)


REQUIRED = {
    "DATABASE_URL": "postgresql://user:password@host/database",
    "META_APP_ID": "1",
    "META_APP_SECRET": "secret",
    "TOKEN_ENCRYPTION_KEY": KEY.hex(),
}


def settings_of_the_program() -> set[str]:
    environment = Recorder(REQUIRED)
    Settings.from_env(environment)
    return environment.asked


def test_the_workflow_passes_every_setting_from_the_place_where_it_belongs():
    inputs = {name for name, value in REFRESH["env"].items() if "inputs." in value}
    passed = {name: value for name, value in REFRESH["env"].items() if name not in inputs}
    known = settings_of_the_program()
    assert set(passed) == known - set(LEFT_OUT)
    assert set(LEFT_OUT) <= known
    secrets = {name.removesuffix("_FILE") for name in known if name.endswith("_FILE")} - {"METRICS"}
    assert passed == {
        name: f"${{{{ {'secrets' if name in secrets else 'vars'}.{name} }}}}" for name in passed
    } | {"META_APP_ID": "${{ vars.META_APP_ID || secrets.META_APP_ID }}"}


def plain(settings: Settings) -> dict[str, Any]:
    """Return settings for comparison; the key ring has no equality."""
    return {one.name: getattr(settings, one.name) for one in fields(settings) if one.name != "keys"}


@pytest.mark.parametrize("nothing", ["", " "])
@pytest.mark.parametrize("name", sorted(settings_of_the_program() - set(REQUIRED)))
def test_an_empty_variable_is_a_setting_that_is_not_set(name, nothing):
    if name.endswith("_FILE") and nothing.strip() != nothing:
        nothing = ""  # a path may consist of a space
    assert plain(Settings.from_env(REQUIRED | {name: nothing})) == plain(Settings.from_env(REQUIRED))


def test_every_input_reaches_the_script():
    inputs = read("refresh-tokens")["on"]["workflow_dispatch"]["inputs"]
    passed = {value for value in REFRESH["env"].values() if "inputs." in value}
    assert passed == {f"${{{{ inputs.{name} }}}}" for name in inputs}


# -- the scripts


@pytest.fixture(scope="session")
def repository(tmp_path_factory) -> Path:
    """A copy of the repository, without what belongs to this machine."""
    copy = tmp_path_factory.mktemp("runner") / "work"
    mine = shutil.ignore_patterns(
        ".git", ".venv", ".env", "__pycache__", "*.sqlite3", ".hypothesis", ".pytest_cache"
    )
    shutil.copytree(ROOT, copy, ignore=mine, symlinks=True)
    return copy


@dataclass
class Ended:
    """How a step ended."""

    code: int
    out: str
    err: str
    summary: str
    reports: dict[str, str]

    @property
    def document(self) -> dict[str, Any]:
        return json.loads(self.reports["status.json"])


@dataclass
class Runner:
    """A machine like GitHub's: it runs a step's script with the environment that GitHub would give it."""

    repository: Path
    folder: Path
    vars: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)

    def environment(self, one: dict[str, Any], **inputs: Any) -> dict[str, str]:
        contexts = {"vars": self.vars, "secrets": self.secrets, "inputs": inputs}
        return {
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_EVENT_NAME": "workflow_dispatch" if inputs else "schedule",
            "GITHUB_REPOSITORY": "bakery/whatsapp-tokens",
            "GITHUB_RUN_ID": "1658821493",
            "GITHUB_SERVER_URL": "https://github.com",
            "GITHUB_STEP_SUMMARY": str(self.folder / "summary.md"),
            "GITHUB_WORKSPACE": str(self.repository),
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "PATH": f"{HERE}/bin:/usr/local/bin:/usr/bin:/bin",
            "RUNNER_OS": "Linux",
            "RUNNER_TEMP": str(self.folder),
        } | {name: filled(value, contexts) for name, value in one.get("env", {}).items()}

    def command(self, name: str, one: dict[str, Any]) -> list[str]:
        """Return what the runner starts for a step whose shell is named: with pipefail, without profiles."""
        assert read(name)["defaults"] == {"run": {"shell": "bash"}}
        script = self.folder / "script.sh"
        script.write_text(one["run"], encoding="utf-8")
        return ["/bin/bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)]

    def start(
        self, one: dict[str, Any], name: str = "refresh-tokens", **inputs: Any
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(name, one),
            cwd=self.repository,
            env=self.environment(one, **inputs),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, one: dict[str, Any], name: str = "refresh-tokens", **inputs: Any) -> Ended:
        return self.end(self.start(one, name, **inputs))

    def end(self, process: subprocess.Popen[str]) -> Ended:
        out, err = process.communicate(timeout=240)
        reports = {path.name: path.read_text(encoding="utf-8") for path in self.folder.glob("status.*")}
        summary = self.folder / "summary.md"
        text = summary.read_text(encoding="utf-8") if summary.exists() else ""
        return Ended(process.returncode, out, err, text, reports)


@pytest.fixture
def runner(repository, tmp_path) -> Runner:
    folder = tmp_path / "runner"
    folder.mkdir()
    return Runner(repository, folder)


@pytest.fixture
def fleet(shop):
    """The table of another application, under its own names."""
    kinds = {
        "provider": f"TEXT NOT NULL DEFAULT '{CHANNEL_TYPE}'",
        "is_active": "BOOLEAN NOT NULL DEFAULT true",
    }
    shop.make(kinds | {"type": None, "phone": "TEXT"}, names=NAMES, table="whatsapp_accounts")
    return shop


@pytest.fixture
def github(runner, fleet) -> Runner:
    """A runner for a repository whose secrets and variables are set for that table."""
    env = fleet.world.env
    runner.secrets = {
        "DATABASE_URL": env["DATABASE_URL"],
        "META_APP_SECRET": env["META_APP_SECRET"],
        "TOKEN_ENCRYPTION_KEY": env["TOKEN_ENCRYPTION_KEY"],
    }
    runner.vars = {
        "META_APP_ID": env["META_APP_ID"],
        "META_GRAPH_URL": env["META_GRAPH_URL"],
        "META_RETRY_WAIT_SECONDS": "0",
        "CHANNEL_TABLE": env["CHANNEL_TABLE"],
        "CHANNEL_COLUMNS": env["CHANNEL_COLUMNS"],
        "CHANNEL_TYPE": CHANNEL_TYPE,
    }
    return runner


@pytest.fixture
def healthy(fleet):
    """A channel that is not due."""
    token = fleet.world.token(age=10, lives=50)
    clocks = {
        "token_expires_at": fleet.world.now + days(50),
        "last_token_refresh_at": fleet.world.now - days(10),
    }
    return fleet.channel(token=token, name="Bakery North", **clocks)


mapped = pytest.mark.parametrize("empty_database_url", ["postgresql"], indirect=True)


@mapped
def test_the_schedule_renews_what_is_due(github, fleet, healthy):
    due = fleet.channel(name="Garage West", phone_number="+34 600 000 000")
    foreign = fleet.channel(name="Shop Mail", type="EMAIL")
    ended = github.run(REFRESH)
    assert (ended.code, ended.err) == (0, "")
    assert (fleet.is_renewed(due), fleet.is_renewed(healthy), fleet.is_renewed(foreign)) == (
        True,
        False,
        False,
    )
    assert "## WhatsApp tokens: nothing failed" in ended.summary
    assert {line["name"] for line in ended.document["lines"]} == {"Garage West", "Bakery North"}
    assert "Garage West" in ended.reports["status.html"]


@mapped
def test_a_dry_run_shows_what_is_due_and_changes_nothing(github, fleet):
    due = fleet.channel(name="Garage West")
    before = fleet.rows()
    ended = github.run(REFRESH, **{"dry-run": True})
    assert (ended.code, fleet.rows(), fleet.world.meta.requests) == (0, before, [])
    assert str(due) in ended.out
    assert "## WhatsApp tokens: a dry run" in ended.summary
    assert set(ended.reports) == {"status.html", "status.json"}


@mapped
def test_force_renews_what_is_not_due(github, fleet, healthy):
    ended = github.run(REFRESH, force=True)
    assert (ended.code, fleet.is_renewed(healthy)) == (0, True)


@mapped
def test_force_for_more_than_a_hundred_channels_needs_a_second_box(github, fleet):
    fleet.channel(id_="c0")
    others = [fleet.column(name) for name in (TOKEN, *CLOCKS)]
    fleet.sql(
        f"INSERT INTO {fleet.table} (id, {', '.join(others)}) "
        f"SELECT 'c' || number, {', '.join(others)} FROM {fleet.table}, generate_series(1, 100) number"
    )
    refused = github.run(REFRESH, force=True)
    assert (refused.code, "--yes" in refused.err, fleet.world.meta.exchanges) == (2, True, [])
    confirmed = github.run(REFRESH, **{"force": True, "force-many": True})
    assert (confirmed.code, len(fleet.world.meta.exchanges)) == (0, 1)  # one token that all of them share
    assert [row["token_status"] for row in fleet.rows().values()] == ["ok"] * 101


@mapped
def test_an_audit_finds_a_token_that_meta_has_ended_and_makes_the_run_red(github, fleet, healthy):
    fleet.world.meta.token(fleet.stored(healthy)).valid = False
    fleet.channel(name="Garage West")
    assert github.run(REFRESH).code == 0
    ended = github.run(REFRESH, audit=True)
    assert ended.code == 1
    assert "::error title=Bakery North" in ended.err
    assert "Bakery North" in ended.summary


@mapped
def test_a_check_looks_at_everything_and_writes_no_page(github, fleet, healthy):
    before = fleet.rows()
    ended = github.run(REFRESH, check=True)
    assert (ended.code, ended.reports, fleet.rows()) == (0, {}, before)
    assert "whatsapp_accounts" in ended.out


@mapped
def test_a_check_of_a_wrong_key_makes_the_run_red(github, healthy):
    github.secrets["TOKEN_ENCRYPTION_KEY"] = OTHER_KEY.hex()
    assert github.run(REFRESH, check=True).code == 2


@mapped
def test_a_test_alert_reaches_its_target_and_nothing_else(github, fleet):
    fleet.channel()
    before = fleet.rows()
    assert github.run(REFRESH, **{"test-alert": True}).code == 2  # there is no target yet
    with running(SlackServer()) as slack:
        github.secrets["SLACK_WEBHOOK_URL"] = slack.url.reveal()
        ended = github.run(REFRESH, **{"test-alert": True})
        assert (ended.code, len(slack.received), ended.reports) == (0, 1, {})
    assert fleet.rows() == before


@mapped
def test_the_history_of_a_channel_is_shown_in_the_log(github, fleet, healthy):
    due = fleet.channel(name="Garage West")
    github.run(REFRESH, force=True)
    ended = github.run(REFRESH, history=due)
    assert (ended.code, ended.err) == (0, "")
    assert "Garage West" in ended.out
    assert "Token refreshed automatically" in ended.out
    assert "Bakery North" not in ended.out


@mapped
def test_options_that_exclude_each_other_are_refused_in_words(github, fleet):
    due = fleet.channel()
    ended = github.run(REFRESH, check=True, force=True)
    assert (ended.code, fleet.is_renewed(due)) == (2, False)
    assert "--check stands alone: leave out --force" in ended.err


@mapped
def test_only_the_channels_that_a_person_names_are_renewed(github, fleet):
    for id_ in ("c1", "c2", "c3", "-4"):
        fleet.channel(id_=id_)
    assert github.run(REFRESH, channel=" c1   -4 ").code == 0
    assert {id_ for id_ in fleet.rows() if fleet.is_renewed(id_)} == {"c1", "-4"}
    assert github.run(REFRESH, limit="1").code == 0
    assert sum(map(fleet.is_renewed, fleet.rows())) == 3


@mapped
@pytest.mark.parametrize(
    "text", ['$(touch "$HOME/pwned")', '"; touch "$HOME/pwned"; "', "--set-token=c1", "*"]
)
@pytest.mark.parametrize("into", ["channel", "limit"])
def test_what_a_person_types_is_never_code_nor_an_option(github, fleet, text, into):
    due = fleet.channel(id_="c1")
    ended = github.run(REFRESH, **{into: text})
    assert (ended.code, fleet.is_renewed(due)) == (2, False)
    assert not (github.folder / "pwned").exists()
    ids = ", ".join(text.split())
    refusals = {
        "channel": f"--channel {ids}: there is no channel",
        "limit": f"{text!r} is not a valid integer",
    }
    assert refusals[into] in ended.err  # it arrived as it was typed


@mapped
def test_alerts_link_to_the_run_that_keeps_the_page(github, fleet):
    fleet.channel(name="Garage West", token="EAAunknown")
    with running(SlackServer()) as slack:
        github.secrets["SLACK_WEBHOOK_URL"] = slack.url.reveal()
        ended = github.run(REFRESH)
        github.vars["STATUS_PAGE_URL"] = "https://ops.example.com/lines.html"
        fleet.channel(name="Bakery North", token="EAAunknown2")
        github.run(REFRESH)
        first, second = map(json.dumps, slack.received)
    assert ended.code == 1
    assert "https://github.com/bakery/whatsapp-tokens/actions/runs/1658821493" in first
    assert "https://ops.example.com/lines.html" in second


def test_a_repository_without_secrets_is_told_which_are_missing(runner):
    ended = runner.run(REFRESH)
    assert ended.code == 2
    assert all(name in ended.err for name in REQUIRED)


@mapped
def test_a_run_that_is_cancelled_finishes_what_is_in_flight(github, fleet):
    """The runner sends SIGINT to the process that it started, and not to that one's children."""
    due = fleet.channel()
    asked = threading.Event()
    fleet.world.meta.on_request = lambda _: asked.set()
    fleet.world.meta.latency = 1
    process = github.start(REFRESH)
    assert asked.wait(120)
    process.send_signal(signal.SIGINT)
    ended = github.end(process)
    assert ended.code == 130
    row = fleet.row(due)
    assert row["token_lease_until"] is None
    assert fleet.stored(due) == (fleet.world.meta.exchanges or [(None, fleet.stored(due))])[-1][1]


REPOSITORIES = {
    "public": {"private": False, "visibility": "public"},
    "private": {"private": True, "visibility": "private"},
    "internal": {"private": True, "visibility": "internal"},
}


@pytest.mark.parametrize(("kind", "is_allowed"), [("public", False), ("private", True), ("internal", True)])
def test_customers_names_never_come_into_a_public_repository(runner, kind, is_allowed):
    contexts = {"github": {"event": {"repository": REPOSITORIES[kind]}}}
    refuse, *_ = steps_of(read("refresh-tokens"))
    uploads = [one for one in steps_of(read("refresh-tokens")) if "upload-artifact" in one.get("uses", "")]
    conditions = [one["if"].removeprefix("${{").removesuffix("}}") for one in (refuse, *uploads)]
    assert [bool(evaluate(one, contexts)) for one in conditions] == [not is_allowed, is_allowed, is_allowed]
    ended = runner.run(refuse)
    assert (ended.code, ended.out.count("\n"), "docs/deployment.md" in ended.out) == (1, 1, True)


def test_where_the_visibility_is_not_known_tokens_are_renewed_and_nothing_is_published(runner):
    refuse, *_, page, data = steps_of(read("refresh-tokens"))
    conditions = [one["if"].removeprefix("${{").removesuffix("}}") for one in (refuse, page, data)]
    assert not any(evaluate(one, {"github": {"event": {}}}) for one in conditions)


def test_the_page_and_its_data_are_kept_for_a_week_also_of_a_run_that_failed():
    *_, page, data = steps_of(read("refresh-tokens"))
    assert [one["with"]["path"] for one in (page, data)] == [
        "${{ runner.temp }}/status.html",
        "${{ runner.temp }}/status.json",
    ]
    assert all("always()" in one["if"] and one["with"]["retention-days"] == 7 for one in (page, data))


def test_the_requirements_are_installed_with_their_hashes(runner, monkeypatch):
    (install,) = [one for one in steps_of(read("refresh-tokens")) if one.get("name") == "Install"]
    install["env"] = {"PIP_NO_INDEX": "1"}  # everything is there already
    ended = runner.run(install)
    assert (ended.code, ended.err) == (0, "")
    assert "Requirement already satisfied: requests==" in ended.out


# -- CI


@pytest.fixture
def set_up(repository):
    """The virtual environment of the tests, as make would have made it in the copy."""
    folder = repository / ".venv"
    folder.mkdir()
    for path in Path(HERE).iterdir():
        (folder / path.name).symlink_to(path)
    for stamp in ("runtime", "development"):
        (folder / stamp).unlink(missing_ok=True)
        (folder / stamp).touch()
    yield
    shutil.rmtree(folder)


def test_ci_lints(runner, set_up):
    ended = runner.run(step("ci", "make lint"), "ci")
    assert ended.code == 0, ended.out + ended.err
    assert "zizmor" in ended.out


def test_ci_shows_a_run(runner, set_up):
    ended = runner.run(step("ci", "make demo"), "ci")
    assert ended.code == 0, ended.out + ended.err
    assert "14 due of 16 channels" in ended.out


def test_ci_tests_on_the_server_that_it_started(runner, set_up, postgres):
    """A few tests are enough here."""
    tests = step("ci", "make test")
    given = tests["env"]["TEST_DATABASE_URL"]
    server = read("ci")["jobs"]["test"]["services"]["postgres"]
    assert given == "postgresql://postgres@127.0.0.1:5432/postgres"
    assert (server["ports"], server["env"]) == (["5432:5432"], {"POSTGRES_HOST_AUTH_METHOD": "trust"})
    tests["env"]["PYTEST_ADDOPTS"] = "tests/database/test_claims.py -k 'postgresql and killed'"
    tests["env"]["TEST_DATABASE_URL"] = postgres
    ended = runner.run(tests, "ci")
    assert ended.code == 0, ended.out + ended.err
    assert re.search(r"\d+ passed", ended.out)


def test_ci_installs_pgbouncer(runner):
    stubs = runner.folder / "stubs"
    stubs.mkdir()
    for name, script in {"sudo": 'exec "$@"', "apt-get": f'echo "$@" >>{runner.folder}/asked'}.items():
        (stubs / name).write_text(f"#!/bin/sh\n{script}\n")
        (stubs / name).chmod(0o755)
    install = step("ci", "Install PgBouncer")
    install["env"] = {"PATH": f"{stubs}:{os.environ['PATH']}"}
    assert runner.run(install, "ci").code == 0
    asked = (runner.folder / "asked").read_text().splitlines()
    assert [line.split()[0] for line in asked] == ["update", "install"]
    assert asked[1].split()[-1] == "pgbouncer"
