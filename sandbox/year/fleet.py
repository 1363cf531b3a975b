"""The customers and their tokens: what they do before a run and during it, and the truth about each token."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum, auto
from typing import Any, Final

from sandbox.graph import OMIT, SCOPES, SIXTY_DAYS, Seen, SimToken
from sandbox.year.application import Application
from sandbox.year.meta import FailingMeta

DAY: Final = 86400
WINDOW: Final = 15 * DAY
OLD: Final = 45 * DAY
DATA_ACCESS: Final = 90 * DAY
DEATHS: Final = (
    (190, 458, "The user has not authorized application 1."),
    (190, 459, "The user is in a checkpoint."),
    (190, 460, "The session was invalidated because the password was changed."),
    (190, 466, "The session was invalidated explicitly."),
    (190, 490, "The user is in a checkpoint."),
    (190, 492, "Impersonating user does not have the role."),
    (190, None, "Session does not match current stored session."),
)


class Kind(StrEnum):
    """What kind of token a customer's connections give."""

    SYSTEM = auto()
    USER = auto()  # its data access lapses 90 days after the customer connected
    NEVER = auto()  # it never expires
    STUCK = auto()  # Meta does not extend it


class Need(StrEnum):
    """What a token needs of a person. The values are the program's reasons."""

    NOTHING = ""
    RECONNECT = "reconnect_required"
    PERMISSION = "missing_permission"
    EXTENSION = "not_extended"


@dataclass(slots=True)
class Customer:
    """One customer, whose lines share a token; `token` is the one that the application stored last."""

    user_id: str
    lines: tuple[int, ...]
    kind: Kind
    token: str = ""
    is_told: bool = False  # that it must reconnect
    revoked_until: int | None = None  # Meta revoked its token by mistake, and gives it back on that night


@dataclass(slots=True)
class Fleet:
    """All customers, at Meta and in the application's table."""

    meta: FailingMeta
    application: Application
    rng: random.Random
    customers: dict[str, Customer] = field(default_factory=dict)
    during: dict[str, str] = field(default_factory=dict)  # who reconnects during a call of that endpoint
    connected: set[int] = field(default_factory=set)  # the lines that were since the run began
    _lines: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def fill(self, channels: int, now: float) -> None:
        """Let customers connect in the last 44 days."""
        while self._lines < channels:
            self._join(now - self.rng.uniform(0, 44 * DAY), channels - self._lines)

    def of_line(self) -> dict[int, Customer]:
        """Return the customer of each line."""
        return {line: one for one in self.customers.values() for line in one.lines}

    def live(self, night: int, now: float, stored: dict[int, str]) -> None:
        """Let a day pass. `stored` is the token of each line."""
        self.connected.clear()
        self.during.clear()
        for one in list(self.customers.values()):
            states = [self.meta.token(stored[line]) for line in one.lines if line in stored]
            if one.revoked_until == night:
                one.revoked_until = None
                for state in states:
                    state.error = None
            chance = self.rng.random()
            if one.is_told and chance < 0.15:
                self.connect(one, now)
            else:
                self._change(one, states, night, chance * 365)
        for user_id in self.rng.sample(sorted(self.customers), min(len(self.customers), 3)):
            self.during.setdefault(user_id, "exchange")
        if self.rng.random() < 0.02 * len(self.customers) / 365:
            self._join(now, 1)

    def _change(self, one: Customer, states: Sequence[SimToken], night: int, chance: float) -> None:
        """Let what rarely happens happen: `chance` is from 0 to 365, so each is a share of a year."""
        if chance < 0.4:
            self.connect(one, self.meta.now())
        elif chance < 0.5:
            self.during[one.user_id] = self.rng.choice(("debug_token", "exchange"))
        elif chance < 0.56:
            self._revoke(states, one, night)
        elif chance < 0.59:
            for state in states:
                state.scopes = SCOPES[:2]
        elif chance < 0.61 and len(self.customers) > 1:
            self._leave(one)

    def on_request(self, seen: Seen) -> None:
        """Let a customer reconnect in the middle of a run, while Meta is asked about its old token."""
        user_id = self.meta.customer(seen.token)
        with self._lock:
            if user_id in self.customers and self.during.get(user_id) == seen.endpoint:
                del self.during[user_id]
                self.connect(self.customers[user_id], self.meta.now())

    def rest(self) -> None:
        """Let no customer do anything more tonight; wait for one who is at it although the run was killed."""
        with self._lock:
            self.during.clear()

    def connect(self, customer: Customer, now: float) -> None:
        """Let a customer press the button: a new token at Meta, stored in each of its lines."""
        customer.token = self._issue(customer, now)
        customer.is_told, customer.revoked_until = False, None
        for line in customer.lines:
            self.application.connect(line, customer.token)
        self.connected.update(customer.lines)

    def _issue(self, customer: Customer, now: float) -> str:
        fields: dict[str, Any] = {"user_id": customer.user_id, "issued_at": int(now)}
        fields["exchange_expires_in"] = self.rng.choice((OMIT, str(SIXTY_DAYS), SIXTY_DAYS))
        match customer.kind:
            case Kind.USER:
                fields |= {"type": "USER", "data_access_expires_at": int(now) + DATA_ACCESS}
            case Kind.NEVER:
                fields |= {"expires_at": 0}
            case Kind.STUCK:
                fields |= {"type": "USER", "exchange_same": True}
            case Kind.SYSTEM:
                pass
        return self.meta.issue(**fields)

    def _join(self, now: float, most: int) -> None:
        number = 2 if most > 1 and self.rng.random() < 0.05 else 1
        lines = tuple(range(self._lines + 1, self._lines + 1 + number))
        self._lines += number
        kinds = self.rng.choices(list(Kind), weights=(86, 7, 5, 2))
        one = Customer(str(10**14 + lines[0]), lines, kinds[0])
        one.token = self._issue(one, now)
        self.customers[one.user_id] = one
        for line in lines:
            self.application.insert(line, one.token)

    def _leave(self, customer: Customer) -> None:
        del self.customers[customer.user_id]
        for line in customer.lines:
            self.application.delete(line)

    def _revoke(self, states: Iterable[SimToken], customer: Customer, night: int) -> None:
        death = self.rng.choice(DEATHS)
        if customer.kind is Kind.SYSTEM and self.rng.random() < 0.2:
            customer.revoked_until = night + self.rng.randint(1, 4)  # waves of mistakes were undone later
        for state in states:
            state.error = death


# The truth about a token. Times are unix seconds.


def ends_at(token: SimToken) -> int | None:
    """Return when a token stops being of use; None if never."""
    return min(filter(None, (token.expires_at, token.data_access_expires_at)), default=None)


def is_due(token: SimToken, now: float) -> bool:
    """Return whether a token is to be renewed: old, or near the end of its own life."""
    if not token.expires_at:
        return False
    return token.expires_at < now + WINDOW or (token.issued_at or 0) < now - OLD


def can_be_renewed(token: SimToken, kind: Kind, now: float) -> bool:
    """Return whether Meta would give a longer-lived token."""
    return bool(token.expires_at) and token.death(now) is None and kind is not Kind.STUCK


def need_of(token: SimToken, kind: Kind, now: float) -> Need:
    """Return what a person must do about a token, once Meta has been asked about it."""
    if token.death(now) is not None:
        return Need.RECONNECT
    if kind is Kind.STUCK and (token.expires_at or 0) < now + WINDOW:
        return Need.EXTENSION
    access = token.data_access_expires_at
    if len(token.scopes) < len(SCOPES) or (access and access < now + WINDOW):
        return Need.PERMISSION
    return Need.NOTHING
