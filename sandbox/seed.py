"""Fill a database with a channel in every condition, and register their tokens with the simulated Meta."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum, auto
from typing import Any, Final

from crypto import KeyRing
from sandbox.destination import Destination, Target
from sandbox.graph import SCOPES, GraphServer
from whatsapp_tokens.redaction import Secret


class Condition(StrEnum):
    """The condition of a channel. The comments say what a run does."""

    YOUNG = auto()  # not due
    AGED = auto()  # renewed
    USER_AGED = auto()  # renewed; the token of a person
    LAST_DAYS = auto()  # renewed, among the first
    UNKNOWN_AGED = auto()  # newly connected, so Meta is asked: renewed
    UNKNOWN_YOUNG = auto()  # newly connected, so Meta is asked: clocks set, no exchange
    NEVER_EXPIRES = auto()  # marked as such, no exchange
    WRONG_CLOCK = auto()  # clocks corrected, no exchange
    SHARED = auto()  # two channels with one token: exchanged once, written to both
    REVOKED = auto()  # reconnect_required
    LONG_EXPIRED = auto()  # waits until the customer reconnects; Meta is not asked
    MISSING_SCOPE = auto()  # renewed, then missing_permission
    DATA_ACCESS_ENDS = auto()  # missing_permission, no exchange
    NOT_EXTENDED = auto()  # not_extended
    UNDECRYPTABLE = auto()  # undecryptable
    OTHER_TYPE = auto()  # not a candidate
    NO_TOKEN = auto()  # not a candidate


@dataclass(frozen=True, slots=True)
class Seeded:
    """A channel that was inserted; `token` is empty if it has none."""

    id: Any
    name: str
    condition: Condition
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """A channel to insert: what Meta knows about its token (`age`, `meta`), and what its row says.

    Times are in days. A token lives 60 days, so one that is 50 days old has 10 left. A `row_left` of None is
    a row that no run has seen: it has no clocks, no status and no fingerprint.
    """

    name: str
    condition: Condition
    age: int = 50
    row_left: int | None = None
    status: str | None = "ok"
    error: str | None = None
    meta: dict[str, Any] = field(default_factory=dict)


PLANS: Final = (
    _Plan(name="Bakery North", condition=Condition.YOUNG, age=10, row_left=50),
    _Plan(name="Clinic East", condition=Condition.AGED, row_left=10),
    _Plan(name="Florist Harbour", condition=Condition.USER_AGED, row_left=10, meta={"type": "USER"}),
    _Plan(name="Hotel Reception", condition=Condition.LAST_DAYS, age=57, row_left=3),
    _Plan(name="Garage West", condition=Condition.UNKNOWN_AGED, age=48),
    _Plan(name="Bookshop Main Street", condition=Condition.UNKNOWN_YOUNG, age=1),
    _Plan(name="Pharmacy Central", condition=Condition.NEVER_EXPIRES, age=120, meta={"expires_at": 0}),
    _Plan(name="Gym South", condition=Condition.WRONG_CLOCK, age=5, row_left=5),
    _Plan(name="Restaurant Front Desk", condition=Condition.SHARED, age=52, row_left=8),
    _Plan(name="Restaurant Delivery", condition=Condition.SHARED, age=52, row_left=8),
    _Plan(name="Dental Practice", condition=Condition.REVOKED, row_left=10, meta={"valid": False}),
    _Plan(
        name="Travel Desk",
        condition=Condition.LONG_EXPIRED,
        age=80,
        row_left=-20,
        status="warning",
        error="reconnect_required: the token has expired",
    ),
    _Plan(name="School Office", condition=Condition.MISSING_SCOPE, row_left=10, meta={"scopes": SCOPES[:2]}),
    _Plan(
        name="Library Desk", condition=Condition.DATA_ACCESS_ENDS, age=20, row_left=5, meta={"type": "USER"}
    ),
    _Plan(
        name="Taxi Dispatch",
        condition=Condition.NOT_EXTENDED,
        age=54,
        row_left=6,
        meta={"type": "USER", "exchange_same": True},
    ),
    _Plan(name="Museum Tickets", condition=Condition.UNDECRYPTABLE, age=56, row_left=4),
    _Plan(name="Newsletter", condition=Condition.OTHER_TYPE),
    _Plan(name="Warehouse Line", condition=Condition.NO_TOKEN),
)


def seed(into: Destination, meta: GraphServer, keys: KeyRing, now: datetime) -> list[Seeded]:
    """Fill a migrated table, and register the tokens with the simulated Meta. All rows, or none.

    `now` is aware, and the time of `meta`. Raise `NotSeeded` if the table cannot be filled.
    """
    foreign = KeyRing.parse(os.urandom(32).hex())
    issued: dict[Condition, str] = {}
    seeded = []
    with into.open() as target:
        for plan in PLANS:
            # Only the condition with the shared token occurs twice.
            token = issued.get(plan.condition) or _issue(plan, meta, now)
            issued[plan.condition] = token
            ring = foreign if plan.condition is Condition.UNDECRYPTABLE else keys
            ciphertext = ring.encrypt(Secret(token)) if token else None
            identity = _insert(target, plan, ciphertext, now)
            if identity is not None:
                seeded.append(Seeded(identity, plan.name, plan.condition, token))
    return seeded


def _issue(plan: _Plan, meta: GraphServer, now: datetime) -> str:
    """Register the token of the plan with Meta and return it, or "" if there is none."""
    if plan.condition is Condition.NO_TOKEN:
        return ""
    fields: dict[str, Any] = {"issued_at": _days_from(now, -plan.age)}
    if plan.condition is Condition.DATA_ACCESS_ENDS:
        fields["data_access_expires_at"] = _days_from(now, 5)
    elif plan.meta.get("type") == "USER":
        fields["data_access_expires_at"] = _days_from(now, 80)
    return meta.issue(**(fields | plan.meta))


def _insert(target: Target, plan: _Plan, ciphertext: str | None, now: datetime) -> Any | None:
    """Insert the row of the plan and return its id, or None if the table has no other type of channel."""
    known = plan.row_left is not None
    left = None if plan.row_left is None else timedelta(days=plan.row_left)
    expiry = None if left is None else now.replace(microsecond=0) + left
    values = {
        "name": plan.name,
        "type": target.whatsapp,
        "wa_token_encrypted": ciphertext,
        "token_expires_at": expiry,
        "last_token_refresh_at": now - timedelta(days=plan.age) if known else None,
        "token_status": plan.status if known else None,
        "token_error": plan.error,
        "token_fingerprint": _fingerprint(ciphertext) if ciphertext and known else None,
        # People were told of a channel that waits on the day when its token expired.
        "token_alerted_at": expiry if plan.status == "warning" else None,
    }
    if plan.condition is not Condition.OTHER_TYPE:
        return target.insert(values, now)
    another = target.another_type()
    return another and target.insert_if_allowed(values | {"type": another}, now)


def _fingerprint(ciphertext: str) -> str:
    return hashlib.md5(ciphertext.encode(), usedforsecurity=False).hexdigest()


def _days_from(now: datetime, days: int) -> int:
    return int((now + timedelta(days=days)).timestamp())
