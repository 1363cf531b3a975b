"""`make demo`: run the program as a user does, against a simulated Meta and a temporary database.

The processes and the HTTP calls are real, and everything that is said at the end has been checked.
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

from crypto import KeyRing
from sandbox.destination import Destination
from sandbox.graph import GraphServer
from sandbox.seed import Condition, Seeded, seed
from whatsapp_tokens.reports.language import ENGLISH

ROOT: Final = Path(__file__).resolve().parent.parent
# Only these are passed on: a setting in the environment could lead the demo to a real database or Slack.
PASSED_ON: Final = (
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
RENEWAL_COLUMNS: Final = ("wa_token_encrypted", "token_expires_at", "last_token_refresh_at")
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


class DemoFailed(Exception):
    """The program did not do what the demo says."""


@dataclass(frozen=True, slots=True)
class Demo:
    """What the demo runs on."""

    database_url: str
    env_file: Path
    key: bytes
    meta: GraphServer

    def rows(self) -> dict[int, dict[str, Any]]:
        """Return every channel as it is now, by id."""
        with create_engine(self.database_url, poolclass=NullPool).connect() as connection:
            found = connection.execute(text('SELECT * FROM "Channel" ORDER BY id')).mappings()
            return {row["id"]: dict(row) for row in found}

    def run(self, *options: str, expected: int) -> None:
        """Run the program as a user does. Raise `DemoFailed` if it ends with another exit code."""
        _run(["refresh_tokens.py", *options, "--env-file", str(self.env_file)], {}, expected=expected)


def main() -> int:
    """Run the demo and return 0, or 1 if the program did not do what the demo says."""
    with tempfile.TemporaryDirectory(prefix="demo-") as directory, GraphServer() as meta:
        demo = _set_up(Path(directory), meta)
        try:
            _play(demo)
        except DemoFailed as failure:
            print(f"\nThe demo failed: {failure}", file=sys.stderr)
            return 1
    return 0


def _set_up(directory: Path, meta: GraphServer) -> Demo:
    key = os.urandom(32)
    demo = Demo(f"sqlite:///{directory / 'demo.db'}", directory / ".env", key, meta)
    settings = {
        "DATABASE_URL": demo.database_url,
        "META_GRAPH_URL": meta.url,
        "META_APP_ID": meta.app_id,
        "META_APP_SECRET": meta.app_secret,
        "TOKEN_ENCRYPTION_KEY": key.hex(),
        "RECONNECT_URL": "https://example.com/lines/{channel_id}",
    }
    demo.env_file.touch(mode=0o600)
    demo.env_file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    return demo


PAGE: Final = "demo-status.html"


def _play(demo: Demo) -> None:
    meta = demo.meta
    _say("A database with a channel in every condition")
    _run(["-m", "alembic", "upgrade", "head"], {"DATABASE_URL": demo.database_url}, expected=0)
    channels = seed(Destination.of(demo.database_url), meta, KeyRing.parse(demo.key.hex()), datetime.now(UTC))
    before = demo.rows()
    print()
    _show(before)

    _say("What would a run do? (exit code 1: one due token cannot be decrypted)")
    demo.run("--dry-run", expected=1)
    _expect(meta.count() == 0, "the dry run called Meta")
    _expect(demo.rows() == before, "the dry run changed the database")

    _say("The run (exit code 1: some channels failed)")
    demo.run(expected=1)
    first = list(meta.exchanges)
    after = demo.rows()

    _say("Another run, with a status page: channels that were renewed are left alone")
    demo.run("--report", PAGE, expected=1)
    again = {old for old, _ in meta.exchanges[len(first) :]}
    renewed = [channel for channel in channels if channel.condition in RENEWED]
    done = {channel.token for channel in renewed} | {new for old, new in first if new != old}
    _expect(not again & done, "a token was renewed twice")
    final = demo.rows()
    for channel in renewed:
        same = all(final[channel.id][column] == after[channel.id][column] for column in RENEWAL_COLUMNS)
        _expect(same, f"the second run touched {channel.name}, which the first had renewed")

    _say("What is in the database now")
    _show(final)
    print(f"\nMeta was asked {meta.count('debug_token')} times about a token (debug_token),")
    print(f"and {meta.count('exchange')} times for a new one (oauth/access_token).")
    number = _check_rows(demo, channels, before, final)
    print(f"Checked: {len(renewed)} renewed channels decrypt to {number} new tokens, which Meta calls valid.")
    print(f"The status page of the last run: open {ROOT / PAGE} in a browser.")


def _check_rows(
    demo: Demo, channels: Sequence[Seeded], before: Mapping[int, Any], after: Mapping[int, Any]
) -> int:
    """Check the row of each channel, and each new token with Meta. Return how many new tokens there are."""
    fernet = Fernet(base64.urlsafe_b64encode(demo.key))
    successors = dict(demo.meta.exchanges)
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
            _expect(token == successors[channel.token], f"{channel.name} holds the token of another channel")
            _expect(demo.meta.alive(token), f"the new token of {channel.name} is not valid")
            tokens.add(token)
    return len(tokens)


def _run(arguments: Sequence[str], extra: Mapping[str, str], *, expected: int) -> None:
    shown = [f"{name}={shlex.quote(value)}" for name, value in extra.items()]
    print("$", *shown, shlex.join(["python", *arguments]), flush=True)
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    command = [sys.executable, *arguments]
    code = subprocess.run(command, cwd=ROOT, env=environment | dict(extra), check=False).returncode  # noqa: S603 - our own arguments
    print(f"(exit code {code})", flush=True)
    _expect(code == expected, f"{arguments[0]} ended with {code} instead of {expected}")


def _show(rows: Mapping[int, Mapping[str, Any]]) -> None:
    now = datetime.now(UTC)
    print(f"{'id':>3}  {'name':<24}{'status':<15}{'expires in':<21}last refresh")
    for row in rows.values():
        ends, last = (_time(row[name]) for name in ("token_expires_at", "last_token_refresh_at"))
        left, day = ENGLISH.time_left(ends, now) if ends else "-", ENGLISH.day(last) if last else "-"
        print(f"{row['id']:>3}  {row['name']:<24}{row['token_status'] or '-':<15}{left:<21}{day}")


def _time(stored: str | None) -> datetime | None:
    """Return a time that SQLite has stored as text, in UTC."""
    return datetime.fromisoformat(stored).replace(tzinfo=UTC) if stored else None


def _say(what: str) -> None:
    print(f"\n── {what}\n", flush=True)


def _expect(fact: bool, otherwise: str) -> None:  # noqa: FBT001 - the fact is the subject
    if not fact:
        raise DemoFailed(otherwise)
