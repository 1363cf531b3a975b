"""The commands of the READMEs and of docs/operations.md, as a user runs them on a fresh clone.

What installs is not run again: `.venv` is a link to the one that runs the tests, and the commands that would
fill it are compared with what is in it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from documents import Document, machine_words
from world import KEY, ROOT

from crypto import KeyRing
from sandbox.destination import Destination
from sandbox.graph import GraphServer
from sandbox.seed import seed

README = Document(ROOT / "README.md")
SPANISH = Document(ROOT / "README.es.md")
OPERATIONS = Document(ROOT / "docs/operations.md")
NOT_CLONED = (".venv", ".git", "node_modules", "*_cache", "__pycache__", ".hypothesis", ".coverage*")
VENV = Path(sys.executable).parent.parent  # not resolved: a virtual environment is a link to a Python
RUN = ".venv/bin/python refresh_tokens.py"


CLONE = "git clone <this repository> whatsapp-token-refresh && cd whatsapp-token-refresh"
COPY = "cp .env.example .env && chmod 600 .env"
MIGRATE = ".venv/bin/alembic upgrade head"
FIRST = (CLONE, "make install", "make demo", "make test", COPY, MIGRATE)
PULL = "git pull && make install"
# What each of the other commands ends with, and words that it says. In this order they work on one database.
EXPECTED = {
    f"{RUN} --check": (2, "accepts the app"),  # the problem is a token that no key decrypts
    f"{RUN} --dry-run": (1, "14 due of 16 channels with a token"),  # one cannot be decrypted
    f"{RUN} --channel 2 --force": (0, "renewed  Clinic East (2): expires on "),
    f"{RUN} --history 2": (0, "Token refreshed automatically"),
    f"{RUN} --test-alert": (2, "there is no one to tell"),  # no target is set here
    RUN: (1, "renewed  Hotel Reception (4): expires on "),  # some fail
    f"{RUN} --history 11": (0, "Down now, since "),
    f'echo "$TOKEN" | {RUN} --set-token 2': (0, "stored   Clinic East (2)"),
}


@dataclass
class Installation:
    """A fresh clone, and an environment that has nothing but what a shell needs."""

    folder: Path
    repository: Path
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, command: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command line as a shell does."""
        return subprocess.run(
            ["/bin/sh", "-c", command.replace("<this repository>", f"'{self.repository}'")],
            cwd=folder or self.folder,
            env={name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "TMPDIR"}}
            | self.environment,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="module")
def installation(tmp_path_factory):
    """What the first commands of the README make, with `.venv` as a link to the one at hand."""
    folder = tmp_path_factory.mktemp("readme")
    repository = folder / "repository"
    shutil.copytree(ROOT, repository, ignore=shutil.ignore_patterns(*NOT_CLONED))
    git = ["git", "-C", str(repository), "-c", "user.name=tests", "-c", "user.email=tests@example.com"]
    for arguments in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "Begin"]):
        subprocess.run([*git, *arguments], check=True)  # add leaves out what .gitignore names
    made = Installation(folder, repository)
    done = made.run(CLONE)
    assert done.returncode == 0, done.stderr
    made.folder = folder / "whatsapp-token-refresh"
    (made.folder / ".venv").symlink_to(VENV)
    return made


@pytest.fixture(scope="module")
def set_up(installation):
    """The clone, a database with a channel in every condition, and a Meta that knows the tokens."""
    with GraphServer() as meta:
        database = f"sqlite:///{installation.folder / 'channels.sqlite3'}"
        assert installation.run(COPY).returncode == 0
        env_file = installation.folder / ".env"
        fill_in(
            env_file,
            DATABASE_URL=database,
            META_APP_ID=meta.app_id,
            META_APP_SECRET=meta.app_secret,
            TOKEN_ENCRYPTION_KEY=KEY.hex(),
        )
        with env_file.open("a") as file:
            file.write(f"META_GRAPH_URL={meta.url}\n")
        done = installation.run(MIGRATE)
        assert done.returncode == 0, done.stderr
        seeded = seed(Destination.of(database), meta, KeyRing.parse(KEY.hex()), datetime.now(UTC))
        installation.environment["TOKEN"] = meta.issue()
        yield installation, {channel.id: channel.name for channel in seeded}


def fill_in(env_file, **settings):
    """Give settings their values in the lines where the example leaves them empty."""
    text = env_file.read_text()
    for name, value in settings.items():
        text, count = re.subn(rf"^{name}=$", f"{name}={value}", text, flags=re.MULTILINE)
        assert count == 1
    env_file.write_text(text)


def test_the_readme_begins_with_a_clone_that_is_installed_tried_and_set_up():
    at = README.commands.index(CLONE)
    assert tuple(README.commands[at : at + len(FIRST)]) == FIRST


def test_every_command_is_tried_here():
    shown = {*README.commands, *OPERATIONS.commands}
    assert shown == {*FIRST, PULL, *EXPECTED}


@pytest.fixture(scope="module")
def outputs(set_up):
    """What each command of the README does on that clone, by the command."""
    installation, _ = set_up
    return {command: installation.run(command) for command in EXPECTED}


@pytest.mark.parametrize("command", EXPECTED)
def test_a_command_works_as_it_stands(outputs, command):
    done, (code, words) = outputs[command], EXPECTED[command]
    said = done.stdout + done.stderr
    assert (done.returncode, words in said) == (code, True), said


def test_make_install_and_the_line_beside_it_install_the_same_with_hashes(installation):
    (line,) = [line for line in README.text.splitlines() if line.startswith("$ make install")]
    by_hand = line.partition("# or: ")[2]
    made = installation.run("make --dry-run install").stdout
    assert by_hand == "python3 -m venv .venv && .venv/bin/pip install --require-hashes -r requirements.txt"
    assert ("python3 -m venv .venv\n" in made, "--require-hashes -r requirements.txt\n" in made) == (
        True,
        True,
    )
    # All of it is there already, in these versions, so this needs no network.
    done = installation.run(".venv/bin/pip install --dry-run --no-index --require-hashes -r requirements.txt")
    assert (done.returncode, "Would install" in done.stdout) == (0, False), done.stderr


def test_an_upgrade_pulls_and_installs_again(installation):
    pull, install = PULL.split(" && ")
    done = installation.run(pull)
    assert (done.returncode, install) == (0, FIRST[1]), done.stderr


@pytest.fixture(scope="module")
def demo(installation):
    """What the demo says on a fresh clone; the old file is what `make install` leaves."""
    return installation.run("make --old-file=.venv/runtime demo")


def test_make_demo_works_on_a_fresh_clone(demo):
    assert (demo.returncode, "The status page of the last run: open " in demo.stdout) == (0, True), (
        demo.stderr
    )


def test_make_test_runs_all_tests(installation):
    made = installation.run("make --dry-run --old-file=.venv/development test").stdout
    assert re.match(r"\.venv/bin/pytest -n auto ", made)


def test_alembic_works_from_any_folder_with_its_settings_named(set_up, tmp_path):
    installation, _ = set_up
    assert "from any folder: -c PATH/alembic.ini" in README.text
    alembic = installation.folder / ".venv/bin/alembic"
    done = installation.run(f"'{alembic}' -c '{installation.folder}/alembic.ini' upgrade head", tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_line_for_cron_works_with_an_empty_environment(set_up, outputs):
    installation, _ = set_up
    (block,) = README.blocks("cron")
    command = block.split(maxsplit=5)[5].replace("/opt/whatsapp-token-refresh", str(installation.folder))
    done = subprocess.run(
        ["/bin/sh", "-c", command], cwd="/", env={}, capture_output=True, text=True, check=False
    )
    news = "failed   Dental Practice (11): reconnect_required"  # no alert target is set, so all are news
    assert (done.returncode, news in done.stdout, "renewed" in done.stdout) == (1, True, False), done.stderr


def test_the_document_in_json_has_the_members_that_the_readme_shows(set_up, outputs):
    installation, _ = set_up
    (block,) = README.blocks("json")
    example, real = json.loads(block), json.loads(installation.run(f"{RUN} --json").stdout)
    checked = json.loads(installation.run(f"{RUN} --json --check").stdout)
    assert list(example) == list(real)
    assert list(example["counts"]) == list(real["counts"])
    assert sorted(example["channels"][0]) == sorted(real["channels"][0])
    (members,) = re.findall(r'`"checks": \[\{(.*?)\}\]`', README.text)
    assert checked.keys() == {*real, "checks"}
    assert re.findall(r'"(\w+)"', members) == list(checked["checks"][0])


def test_what_the_readme_shows_of_the_demo_is_what_the_demo_says(demo):
    said = [without_days(line) for line in demo.stdout.splitlines()]
    (sample,) = [block for block in README.blocks("text") if block.startswith("waiting ")]
    assert [line for line in sample.splitlines() if without_days(line) not in said] == []


def without_days(line):
    """A line of output without what differs from day to day."""
    line = re.sub(r"\d{4}-\d\d-\d\d", "DATE", line)
    line = re.sub(r"\d{1,2} [A-Z][a-z]{2} \d{4}", "DATE", line)
    return re.sub(r"\d+ days", "DAYS", line)


# -- the Spanish one says the same


def test_both_readmes_have_the_same_commands():
    assert SPANISH.commands == README.commands


@pytest.mark.parametrize("language", ["cron", "json", "text"])
def test_both_readmes_have_the_same_blocks(language):
    assert SPANISH.blocks(language) == README.blocks(language)


def test_both_readmes_have_headings_of_the_same_levels():
    assert [level for level, _ in SPANISH.headings] == [level for level, _ in README.headings]


def test_the_tables_of_both_readmes_have_the_same_rows_and_the_same_machine_words():
    def words(document):
        return [[[machine_words(cell) for cell in row] for row in table] for table in document.tables]

    assert words(SPANISH) == words(README)


def test_both_readmes_lead_to_the_same_places():
    def places(document):
        return sorted({link.partition("#")[0] for link in document.links} - {"README.md", "README.es.md", ""})

    assert places(SPANISH) == places(README)


def test_the_spanish_readme_keeps_the_machine_words_of_each_section():
    def words(document):
        sections = re.split(
            r"^## ", re.sub(r"```.*?```", "", document.text, flags=re.DOTALL), flags=re.MULTILINE
        )
        return [sorted(set(machine_words(section))) for section in sections]

    assert words(SPANISH) == words(README)
