"""docs/deployment.md: its commands work here, where they need no Docker, cluster or running systemd."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from confinement import reachable
from conftest import only_postgresql
from documents import Document
from installed import HOME, install
from sqlalchemy import make_url
from world import ROOT

DEPLOYMENT = Document(ROOT / "docs/deployment.md")
WAYS = ["crontab", "systemd", "Docker", "Kubernetes", "Railway", "GitHub Actions"]


def section(heading: str) -> str:
    """Return the text under a heading of the second level."""
    (text,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", DEPLOYMENT.text, re.MULTILINE | re.DOTALL)
    return text


def test_the_sections_are_those_that_an_operator_looks_for():
    headings = [text for level, text in DEPLOYMENT.headings if level == 2]
    assert headings == ["Choose a way", "Before the first run", *WAYS]


@pytest.mark.parametrize("way", WAYS[:-1])
def test_each_way_says_how_to_look_change_and_try_and_what_was_not_tried_here(way):
    text = section(way)
    for wanted in ("The last run", "hange a setting", "--check", "--history", "--test-alert", "**Tested**"):
        assert wanted in text
    assert re.search(r"was\s+not|No image was", text.partition("**Tested**")[2])


def test_every_file_to_copy_is_named():
    named = set(re.findall(r"\bdeploy/([\w.@-]+)", DEPLOYMENT.text))
    files = {path.name for path in (ROOT / "deploy").iterdir() if path.is_file() and path.name[0] != "."}
    starred = {name for name in files if name.startswith("whatsapp-token-refresh")}
    assert "deploy/whatsapp-token-refresh* " in section("systemd")
    assert files - starred - named == {"prometheus-rules.yml"}  # docs/monitoring.md has that


@only_postgresql
def test_the_role_with_few_rights_is_enough_for_a_run_and_no_more_than_it_needs(world, request):
    (sql,) = re.findall(r"```sql\n(.*?)```", section("Before the first run"), re.DOTALL)
    role = f"refresher_{uuid.uuid4().hex[:8]}"
    for statement in sql.replace("token_refresher", role).split(";"):
        if statement.strip():
            world.rows.run(statement)
    request.addfinalizer(lambda: drop(world, role))
    good, bad = world.channel(), world.channel(world.token(valid=False))
    world.env["DATABASE_URL"] = (
        make_url(world.url).set(username=role, password="choose one").render_as_string(hide_password=False)
    )
    result = world.json()
    assert (result.told(good)[0], result.told(bad)[0]) == ("renewed", "failed"), result.err
    assert world.run("--history", str(good)).code == 0
    assert world.run("--check").code == 0
    world.rows.run(f'REVOKE SELECT ON token_audit_log FROM "{role}"')
    assert world.run("--history", str(good)).code != 0


def drop(world, role):
    world.rows.run(f"DROP OWNED BY {role}")
    world.rows.run(f"DROP ROLE {role}")


class Machine:
    """The commands of one way, on this machine: paths are replaced, and what only root has is recorded."""

    def __init__(self, folder: Path, world) -> None:
        self.folder = folder
        self.world = world
        self.cwd = folder
        self.calls = folder / "calls"
        self.calls.touch()
        self.home = folder / "opt"
        (folder / "etc/systemd/system").mkdir(parents=True)
        (folder / "bin").mkdir()
        for name in ("systemctl", "useradd", "crontab"):
            self._program(name, f'echo {name} "$@" >>{self.calls}')
        self._program("sudo", '[ "$1" = -u ] && shift 2; exec "$@"')

    def _program(self, name: str, script: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def _path(self, text: str) -> str:
        return text.replace(HOME, str(self.home)).replace("/etc/", f"{self.folder}/etc/")

    def do(self, command: str) -> subprocess.CompletedProcess[str] | None:
        """Carry out a command as it stands."""
        words = [self._path(word) for word in shlex.split(command.replace("<this repository>", "REPOSITORY"))]
        match words:
            case ["sudo", "git", "clone", "REPOSITORY", to]:
                install(Path(to))
                shutil.copy(ROOT / ".env.example", to)
                shutil.copytree(ROOT / "deploy", Path(to) / "deploy")
            case ["sudo", "make", "-C", to, "install"]:
                python = Path(to) / ".venv/bin/python"
                python.parent.mkdir(parents=True)
                python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
                python.chmod(0o755)
            case ["cd", to]:
                self.cwd = Path(to)
            case ["sudoedit", path]:
                self._edit(self.cwd / path)
            case _:
                return self._run(words)
        return None

    def _edit(self, path: Path) -> None:
        """Fill in what an operator fills in, and lead the program to the simulated Meta."""
        text = path.read_text()
        for name in ("META_APP_ID", "DATABASE_URL", "META_APP_SECRET", "TOKEN_ENCRYPTION_KEY"):
            text = re.sub(rf"^{name}=$", f"{name}={self.world.env[name]}", text, flags=re.MULTILINE)
        path.write_text(self._path(text) + f"META_GRAPH_URL={self.world.env['META_GRAPH_URL']}\n")

    def _run(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        name = Path(words[-1]).name.upper()
        line = shlex.join(words).replace("'deploy/whatsapp-token-refresh*'", "deploy/whatsapp-token-refresh*")
        line = line.replace(" -o whatsapp-token-refresh", "")  # there is no such user here
        done = subprocess.run(
            ["sh", "-c", line],
            cwd=self.cwd,
            env={"PATH": f"{self.folder}/bin:/usr/bin:/bin", "HOME": str(self.folder)},
            input=self.world.env.get(name, "") + "\n",
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
        return done

    def follow(self, way: str) -> dict[str, str]:
        """Carry out the commands of a section. Return what each printed."""
        (block, *_) = re.findall(r"^```console\n(.*?)^```", section(way), re.MULTILINE | re.DOTALL)
        commands = [line.removeprefix("$ ") for line in block.splitlines()]
        return {command: done.stdout if (done := self.do(command)) else "" for command in commands}


@only_postgresql
def test_the_commands_for_systemd_lead_from_nothing_to_a_timer(world, tmp_path):
    world.channel()
    machine = Machine(tmp_path, world)
    with reachable(world.url):
        printed = machine.follow("systemd")
    (check,) = [text for command, text in printed.items() if command.endswith("--check")]
    assert "PROBLEM" not in check
    assert machine.calls.read_text().splitlines() == [
        "systemctl daemon-reload",
        "systemctl enable --now whatsapp-token-refresh.timer",
    ]
    settings = tmp_path / "etc/whatsapp-token-refresh"
    assert {path.name: path.stat().st_mode & 0o777 for path in settings.iterdir()} == dict.fromkeys(
        ["database_url", "meta_app_secret", "settings.env", "token_encryption_key"], 0o600
    )
    assert settings.stat().st_mode & 0o777 == 0o700
    units = {path.name for path in (tmp_path / "etc/systemd/system").iterdir()}
    assert units == {path.name for path in (ROOT / "deploy").glob("*.service")} | {
        "whatsapp-token-refresh.timer"
    }


@only_postgresql
def test_the_commands_for_cron_lead_from_nothing_to_a_crontab(world, tmp_path):
    world.channel()
    machine = Machine(tmp_path, world)
    printed = machine.follow("crontab")
    (check,) = [text for command, text in printed.items() if command.endswith("--check")]
    assert "PROBLEM" not in check
    assert machine.calls.read_text().splitlines()[-1].endswith("deploy/crontab.example")
    assert (machine.home / ".env").stat().st_mode & 0o777 == 0o600
