"""What `make demo` shows: the program as a user runs it, against a simulated Meta and a throwaway database.

Nothing is faked in between: real processes, real HTTP, and what is claimed at the end has been checked.
"""

from __future__ import annotations

import base64
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cryptography.fernet import Fernet
from sqlalchemy import NullPool, create_engine, text

from sandbox.graph import GraphServer
from sandbox.seed import Condition, Seeded, seed

ROOT: Final = Path(__file__).resolve().parent.parent
# A real environment variable would win over the demo's settings, and lead it to a real database or Slack.
HARMLESS: Final = (
    "HOME",
    "LANG",
    "LC_ALL",
    "NO_COLOR",
    "PATH",
    "SYSTEMROOT",
    "TERM",
    "TMPDIR",
    "VIRTUAL_ENV",
)
RENEWED: Final = {
    Condition.AGED,
    Condition.USER_AGED,
    Condition.LAST_DAYS,
    Condition.UNKNOWN_AGED,
    Condition.SHARED,
    Condition.MISSING_SCOPE,
}
PROOF: Final = ("wa_token_encrypted", "token_expires_at", "last_token_refresh_at")
STATUSES: Final[Mapping[Condition, str | None]] = {
    Condition.NEVER_EXPIRES: "never_expires",
    Condition.REVOKED: "warning",
    Condition.LONG_EXPIRED: "warning",
    Condition.MISSING_SCOPE: "warning",
    Condition.DATA_ACCESS_ENDS: "warning",
    Condition.NOT_EXTENDED: "warning",
    Condition.UNDECRYPTABLE: "warning",
    Condition.OTHER_TYPE: None,
    Condition.NO_TOKEN: None,
}


class Unexpected(Exception):
    """The program did something else than the demo promises."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the demo plays."""

    database_url: str
    env_file: Path
    key: bytes
    meta: GraphServer

    def rows(self) -> dict[int, dict[str, Any]]:
        """Every channel as it is now, by id."""
        with create_engine(self.database_url, poolclass=NullPool).connect() as connection:
            found = connection.execute(text('SELECT * FROM "Channel" ORDER BY id')).mappings()
            return {row["id"]: dict(row) for row in found}

    def run(self, *options: str, expected: int) -> None:
        """Run the program like a user."""
        _run(["refresh_tokens.py", *options, "--env-file", str(self.env_file)], {}, expected=expected)


def main() -> int:
    """Play the demo; 1 if anything was not as it should be."""
    with tempfile.TemporaryDirectory(prefix="demo-") as directory, GraphServer() as meta:
        stage = _set_up(Path(directory), meta)
        try:
            _play(stage)
        except Unexpected as surprise:
            print(f"\nThe demo did not go as it should: {surprise}", file=sys.stderr)
            return 1
    return 0


def _set_up(directory: Path, meta: GraphServer) -> Stage:
    key = os.urandom(32)
    stage = Stage(f"sqlite:///{directory / 'demo.db'}", directory / ".env", key, meta)
    settings = {
        "DATABASE_URL": stage.database_url,
        "META_GRAPH_URL": meta.url,
        "META_APP_ID": meta.app_id,
        "META_APP_SECRET": meta.app_secret,
        "TOKEN_ENCRYPTION_KEY": key.hex(),
        "RECONNECT_URL": "https://example.com/lines/{channel_id}",
    }
    stage.env_file.touch(mode=0o600)
    stage.env_file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    return stage


PAGE: Final = "demo-status.html"


def _play(stage: Stage) -> None:
    meta = stage.meta
    _say("A database, and a channel of every kind in it")
    _run(["-m", "alembic", "upgrade", "head"], {"DATABASE_URL": stage.database_url}, expected=0)
    channels = seed(stage.database_url, meta, stage.key, datetime.now(UTC))
    before = stage.rows()
    print()
    _show(before)

    _say("What would a run do? (1: one due token cannot be decrypted)")
    stage.run("--dry-run", expected=1)
    _expect(meta.count() == 0, "the dry run called Meta")
    _expect(stage.rows() == before, "the dry run changed the database")

    _say("The run (1: some channels need a person)")
    stage.run(expected=1)
    first = list(meta.exchanges)
    after = stage.rows()

    _say("The same again, with a status page: what was renewed is left alone")
    stage.run("--report", PAGE, expected=1)
    again = {old for old, _ in meta.exchanges[len(first) :]}
    renewed = [channel for channel in channels if channel.condition in RENEWED]
    done = {channel.token for channel in renewed} | {new for old, new in first if new != old}
    _expect(not again & done, "a token was renewed twice")
    final = stage.rows()
    for channel in renewed:
        same = all(final[channel.id][column] == after[channel.id][column] for column in PROOF)
        _expect(same, f"the second run touched {channel.name}, which the first had renewed")

    _say("What is in the database now")
    _show(final)
    print(f"\nMeta was asked {meta.count('debug_token')} times about a token (debug_token),")
    print(f"and {meta.count('exchange')} times for a new one (oauth/access_token).")
    number = _check_rows(stage, channels, before, final)
    print(f"Checked: {len(renewed)} renewed channels decrypt to {number} new tokens, which Meta calls valid.")
    print(f"The status page of the last run: open {ROOT / PAGE} in a browser.")


def _check_rows(
    stage: Stage, channels: Sequence[Seeded], before: Mapping[int, Any], after: Mapping[int, Any]
) -> int:
    """Hold each channel against its condition and each renewed token against Meta's book; count those."""
    fernet = Fernet(base64.urlsafe_b64encode(stage.key))
    successors = dict(stage.meta.exchanges)
    tokens = set()
    for channel in channels:
        old, new = before[channel.id]["wa_token_encrypted"], after[channel.id]["wa_token_encrypted"]
        status = after[channel.id]["token_status"]
        wanted = STATUSES.get(channel.condition, "ok")
        _expect(status == wanted, f"{channel.name} has the status {status}, not {wanted}")
        _expect(
            (old != new) is (channel.condition in RENEWED), f"{channel.name}: the wrong token was replaced"
        )
        if channel.condition in RENEWED:
            token = fernet.decrypt(new.encode()).decode()
            _expect(token == successors[channel.token], f"{channel.name} holds a token of somebody else")
            _expect(stage.meta.alive(token), f"the new token of {channel.name} is dead")
            tokens.add(token)
    return len(tokens)


def _run(arguments: Sequence[str], extra: Mapping[str, str], *, expected: int) -> None:
    shown = [f"{name}={shlex.quote(value)}" for name, value in extra.items()]
    print("$", *shown, shlex.join(["python", *arguments]), flush=True)
    environment = {name: os.environ[name] for name in HARMLESS if name in os.environ}
    command = [sys.executable, *arguments]
    code = subprocess.run(command, cwd=ROOT, env=environment | dict(extra), check=False).returncode  # noqa: S603 - our own words
    print(f"(exit code {code})", flush=True)
    _expect(code == expected, f"{arguments[0]} ended with {code} instead of {expected}")


def _show(rows: Mapping[int, Mapping[str, Any]]) -> None:
    now = datetime.now(UTC).replace(tzinfo=None)
    print(f"{'id':>3}  {'name':<24}{'status':<15}{'expires in':<12}last refresh")
    for row in rows.values():
        ends, last = row["token_expires_at"], row["last_token_refresh_at"]
        left = f"{round((datetime.fromisoformat(ends) - now).total_seconds() / 86400)} days" if ends else "-"
        status, day = row["token_status"] or "-", last[:10] if last else "-"
        print(f"{row['id']:>3}  {row['name']:<24}{status:<15}{left:<12}{day}")


def _say(what: str) -> None:
    print(f"\n── {what}\n", flush=True)


def _expect(fact: bool, otherwise: str) -> None:  # noqa: FBT001 - it is what the function is about
    if not fact:
        raise Unexpected(otherwise)
