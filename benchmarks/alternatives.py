"""Renew tokens with packages that people use instead: `python alternatives.py NAME CHANNELS WORKERS`.

It runs in a virtual environment of its own (requirements.txt beside this file), on the same table, key and
Meta, and imports nothing of the program. Neither package asks Meta about a token before or after.
"""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any, Final

import sqlalchemy as sa
from cryptography.fernet import Fernet

DUE: Final = sa.text(
    'SELECT id, wa_token_encrypted FROM "Channel" '
    "WHERE token_expires_at < now() + interval '15 days' LIMIT :n"
)
STORE: Final = sa.text(
    'UPDATE "Channel" SET wa_token_encrypted = :stored, last_token_refresh_at = now(), '
    "token_expires_at = now() + :seconds * interval '1 second' WHERE id = :id"
)
LOG: Final = sa.text(
    "INSERT INTO token_audit_log (at, channel_id, event, message) "
    "VALUES (now(), :id, 'refreshed', 'Token refreshed automatically')"
)
Exchange = Callable[[str], dict[str, Any]]


def facebook_sdk() -> Exchange:
    """Return a function that exchanges with the package `facebook-sdk`."""
    facebook: Any = import_module("facebook")
    facebook.FACEBOOK_GRAPH_URL = os.environ["META_GRAPH_URL"] + "/"

    def exchange(token: str) -> dict[str, Any]:
        graph = facebook.GraphAPI(access_token=token)
        answer: dict[str, Any] = graph.extend_access_token(
            os.environ["META_APP_ID"], os.environ["META_APP_SECRET"]
        )
        return answer

    return exchange


def python_facebook_api() -> Exchange:
    """Return a function that exchanges with `python-facebook-api`: one client for all threads."""
    pyfacebook: Any = import_module("pyfacebook")
    api = pyfacebook.GraphAPI(
        app_id=os.environ["META_APP_ID"],
        app_secret=os.environ["META_APP_SECRET"],
        access_token="none",
        access_token_url=os.environ["META_GRAPH_URL"] + "/v26.0/oauth/access_token",
    )

    def exchange(token: str) -> dict[str, Any]:
        answer: dict[str, Any] = api.exchange_long_lived_user_access_token(token)
        return answer

    return exchange


def main(name: str, channels: int, workers: int) -> None:
    """Renew so many due channels."""
    exchange = {"facebook-sdk": facebook_sdk, "python-facebook-api": python_facebook_api}[name]()
    url = sa.engine.make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+psycopg2")
    engine = sa.create_engine(url, pool_size=workers)
    fernet = Fernet(base64.urlsafe_b64encode(bytes.fromhex(os.environ["TOKEN_ENCRYPTION_KEY"])))
    with engine.connect() as connection:
        due = connection.execute(DUE, {"n": channels}).all()

    def renew(row: Any) -> None:
        answer = exchange(fernet.decrypt(row.wa_token_encrypted).decode())
        stored = fernet.encrypt(answer["access_token"].encode()).decode()
        with engine.begin() as connection:
            connection.execute(STORE, {"stored": stored, "seconds": answer["expires_in"], "id": row.id})
            connection.execute(LOG, {"id": str(row.id)})

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(renew, due))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
