"""What one run needs: a database with channels, a simulated Meta that knows their tokens, and the program."""

from __future__ import annotations

import base64
import io
import json
import logging
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from rows import Rows

import refresh_tokens
from sandbox.graph import GraphServer
from whatsapp_tokens import delivery

ROOT = Path(__file__).resolve().parent.parent
KEY = bytes(range(32))
OTHER_KEY = bytes(range(32, 64))


def days(count: float) -> timedelta:
    return timedelta(days=count)


def unix(time: datetime) -> int:
    return int(time.timestamp())


def fernet(key: bytes = KEY) -> Fernet:
    return Fernet(base64.urlsafe_b64encode(key))


@dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        return json.loads(self.out)

    @property
    def counts(self) -> dict[str, int]:
        """Return the counts that are not zero."""
        return {name: count for name, count in self.document["counts"].items() if count}

    def entry(self, id_: Any) -> dict[str, Any]:
        shown = str(id_) if isinstance(id_, int) and abs(id_) > 2**53 else id_
        (found,) = [entry for entry in self.document["channels"] if entry["id"] == shown]
        return found

    def told(self, id_: Any) -> tuple[str, str | None]:
        entry = self.entry(id_)
        return entry["outcome"], entry["reason"]


class World:
    """Channels, their tokens at Meta, and the program to run on them."""

    def __init__(self, url: str, meta: GraphServer, folder: Path) -> None:
        self.url = url
        self.meta = meta
        self.rows = Rows(url)
        self.now = datetime.now(UTC).replace(microsecond=0)
        self.env_file = folder / "settings.env"
        self.env = {
            "DATABASE_URL": url,
            "META_APP_ID": meta.app_id,
            "META_APP_SECRET": meta.app_secret,
            "META_GRAPH_URL": meta.url,
            "META_RETRY_WAIT_SECONDS": "0",
            "RATE_LIMIT_WAIT_SECONDS": "0",
            "TOKEN_ENCRYPTION_KEY": KEY.hex(),
        }

    def token(self, *, age: float = 50, lives: float = 10, **fields: Any) -> str:
        """Register a token with Meta that was issued `age` days ago and expires in `lives` days."""
        fields = {
            "issued_at": unix(self.now - days(age)),
            "expires_at": unix(self.now + days(lives)),
        } | fields
        return self.meta.issue(**fields)

    def channel(self, token: str | None = None, *, key: bytes = KEY, **columns: Any) -> int:
        """Insert a channel, by default one that is due: its token expires in 10 days. Return its id."""
        token = self.token() if token is None else token
        columns = {
            "name": f"Line {token[-4:]}",
            "wa_token_encrypted": fernet(key).encrypt(token.encode()).decode(),
            "token_expires_at": self.now + days(10),
            "last_token_refresh_at": self.now - days(50),
            "token_status": "ok",
        } | columns
        return self.rows.insert(**columns)

    def stored(self, id_: Any, key: bytes = KEY) -> str:
        """Return the token of the row, decrypted as the application does."""
        return fernet(key).decrypt(self.rows.get(id_)["wa_token_encrypted"]).decode()

    def events(self, id_: Any) -> list[str]:
        return [entry["event"] for entry in self.rows.audit(id_)]

    def environment(self) -> dict[str, str]:
        """Return the environment of a run: settings of the test only, and what programs need."""
        return {
            name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "TMPDIR", "LANG"}
        } | self.env

    def arguments(self, *options: str) -> list[str]:
        self.env_file.touch(mode=0o600)
        return ["--env-file", str(self.env_file), *options]

    def run(self, *options: str, stdin: str | None = None) -> Result:
        """Run the program in this process, with `stdin` piped in."""
        with pytest.MonkeyPatch.context() as patch:
            if stdin is not None:
                patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
            for name in os.environ:
                if name not in self.environment():
                    patch.delenv(name)
            for name, value in self.environment().items():
                patch.setenv(name, value)
            patch.setattr(delivery, "LONGEST_WAIT_SECONDS", 0)  # between attempts to deliver an alert
            self.capsys.readouterr()
            code = refresh_tokens.main(self.arguments(*options))
            out, err = self.capsys.readouterr()
        logging.getLogger().setLevel(logging.WARNING)  # -v and -q change it
        return Result(code, out, err)

    def json(self, *options: str, stdin: str | None = None) -> Result:
        return self.run("--json", *options, stdin=stdin)

    def start(self, *options: str, **more: Any) -> subprocess.Popen[str]:
        """Start the program in a process of its own."""
        return subprocess.Popen(
            [sys.executable, str(ROOT / "refresh_tokens.py"), *self.arguments(*options)],
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **more,
        )

    capsys: Any = None
