"""A Meta without HTTP and a channel without a database, for tests of decisions."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

from models import Channel
from sandbox.graph import APP_ID
from whatsapp_tokens.meta.answers import Exchanged, Inspection
from whatsapp_tokens.meta.errors import MetaError
from whatsapp_tokens.redaction import Secret

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
SCOPES = frozenset({"whatsapp_business_management", "whatsapp_business_messaging"})


def days(count: float) -> timedelta:
    return timedelta(days=count)


def channel(**fields: Any) -> Channel:
    """Return a channel, by default a healthy one."""
    fields = {"expires_at": NOW + days(40), "refreshed_at": NOW - days(20), "status": "ok"} | fields
    return Channel(**{"id": 1, "name": "Bakery North", "ciphertext": "cipher"} | fields)


def inspection(*, age: float | None = 50, lives: float | None = 10, **fields: Any) -> Inspection:
    """Return an inspection, by default of a valid 60-day token of a system user that is 50 days old."""
    return Inspection(
        **{
            "kind": "SYSTEM_USER",
            "user_id": "7",
            "expires_at": None if lives is None else NOW + days(lives),
            "never_expires": False,
            "data_access_expires_at": None,
            "issued_at": None if age is None else NOW - days(age),
            "scopes": SCOPES,
            "app_id": APP_ID,
        }
        | fields
    )


def exchanged(token: str = "new-token", expires_in: timedelta | None = None) -> Exchanged:
    return Exchanged(Secret(token), expires_in)


class FakeMeta:
    """Gives prepared answers: for each token a list, of which the last is repeated. Exceptions are raised."""

    retry_wait = 3.0

    def __init__(self) -> None:
        self.inspections: dict[str, list[Any]] = defaultdict(list)
        self.exchanges: dict[str, list[Any]] = defaultdict(list)
        self.calls: list[tuple[str, ...]] = []
        self.app_error: MetaError | None = None
        self.time: datetime | None = None

    def inspect(self, token: Secret) -> Inspection:
        self.calls.append(("inspect", token.reveal()))
        return self._next(self.inspections[token.reveal()])

    def check_app(self) -> None:
        self.calls.append(("check_app",))
        if self.app_error is not None:
            raise self.app_error

    def time_at_meta(self) -> datetime | None:
        return self.time

    def exchange(self, token: Secret, kind: str | None) -> Exchanged:
        self.calls.append(("exchange", token.reveal(), str(kind)))
        return self._next(self.exchanges[token.reveal()])

    @staticmethod
    def _next(answers: list[Any]) -> Any:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer
