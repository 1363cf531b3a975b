"""What came of a channel and of a whole run: closed sets of frozen values for everyone who needs them.

They hold text and counts, never exceptions, tokens or rows. Times are aware UTC, None where unknown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import Flag, IntEnum, StrEnum, auto
from typing import Final, Generic, Self, TypeAlias, TypeVar

ChannelId: TypeAlias = int | str
T = TypeVar("T")

KEPT: Final = 500  # of what a run itself has to tell
HORIZON_DAYS: Final = 61  # today and the next 60: a token that is renewed today expires on the last of them


class _Is(Flag):
    """What a reason is."""

    FAILURE = auto()
    FOR_A_PERSON = auto()
    RETRIED = auto()
    ANSWERED = auto()


class Reason(StrEnum):
    """Why a channel failed or was skipped. What a reason means is said here and nowhere else."""

    def __new__(cls, value: str, traits: _Is = _Is(0)) -> Self:  # noqa: B008 - a flag is immutable
        """Make a text with traits."""
        reason = str.__new__(cls, value)
        reason._value_ = value
        reason._traits = traits  # noqa: SLF001 - its own
        return reason

    _traits: _Is

    RECONNECT_REQUIRED = "reconnect_required", _Is.FAILURE | _Is.FOR_A_PERSON | _Is.RETRIED | _Is.ANSWERED
    MISSING_PERMISSION = "missing_permission", _Is.FAILURE | _Is.FOR_A_PERSON | _Is.ANSWERED
    NOT_EXTENDED = "not_extended", _Is.FAILURE | _Is.FOR_A_PERSON | _Is.ANSWERED
    UNDECRYPTABLE = "undecryptable", _Is.FAILURE | _Is.FOR_A_PERSON
    UNAVAILABLE = "unavailable", _Is.FAILURE | _Is.RETRIED
    UNEXPECTED_ANSWER = "unexpected_answer", _Is.FAILURE | _Is.RETRIED
    WRITE_FAILED = "write_failed", _Is.FAILURE
    REPLACED_MEANWHILE = "replaced_meanwhile"
    CLAIMED_ELSEWHERE = "claimed_elsewhere"
    NEVER_EXPIRES = "never_expires", _Is.ANSWERED
    CLOCK_CORRECTED = "clock_corrected", _Is.ANSWERED
    WAITING_FOR_RECONNECT = "waiting_for_reconnect"

    @property
    def is_failure(self) -> bool:
        """Whether a channel with this reason failed; else it was skipped."""
        return _Is.FAILURE in self._traits

    @property
    def needs_person(self) -> bool:
        """Whether it does not pass by itself: a change to such a reason is told again."""
        return _Is.FOR_A_PERSON in self._traits

    @property
    def is_retried(self) -> bool:
        """Whether the channel is due at the next run because of it, also if its clocks say otherwise."""
        return _Is.RETRIED in self._traits

    @property
    def is_answered(self) -> bool:
        """Whether Meta has said something about the channel itself: then it accepts our app."""
        return _Is.ANSWERED in self._traits

    @property
    def may_pass(self) -> bool:
        """Whether it is a failure about which a person need not do anything yet."""
        return self.is_retried and not self.needs_person


class AbortReason(StrEnum):
    """Why a run stopped early, or could not begin."""

    APP_REJECTED = "app_rejected"
    RATE_LIMITED = "rate_limited"
    SYSTEMIC = "systemic"
    DATABASE_LOST = "database_lost"
    CONFIGURATION = "configuration"
    INTERNAL_ERROR = "internal_error"


class Exit(IntEnum):
    """The exit codes, for scripts."""

    OK = 0
    FAILED = 1
    CONFIGURATION = 2
    STOPPED = 3
    HUNG_UP = 129  # SIGHUP
    INTERRUPTED = 130  # SIGINT
    TERMINATED = 143  # SIGTERM


class DueReason(StrEnum):
    """Why a channel is due, in words for a person."""

    ASKED_FOR = "asked for"
    REPLACED = "another token was stored since the last run"
    UNKNOWN_EXPIRY = "its expiry is not known yet"
    EXPIRED = "it has expired"
    EXPIRES_SOON = "it expires soon"
    OLD = "it is old"
    FAILED_BEFORE = "it failed last time"


class State(StrEnum):
    """The state of a channel; each is in exactly one. The most urgent first."""

    DOWN = "down"  # Meta no longer accepts its token: it has stopped working
    WARNING = "warning"  # it needs attention
    ENDED = "ended"  # its token has expired, and no run has dealt with it
    WAITING = "waiting"  # its token is dead, and it waits for its customer to reconnect
    ENDING = "ending"  # it expires within the window, and will be renewed
    UNKNOWN = "unknown"  # its expiry is not known yet
    OK = "ok"
    NEVER_EXPIRES = "never_expires"

    @property
    def needs_attention(self) -> bool:
        """Whether a person must do something."""
        return self in {State.DOWN, State.WARNING, State.ENDED, State.WAITING}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """What every outcome says of its channel."""

    id: ChannelId
    name: str
    phone_number: str | None = None
    expires_at: datetime | None = None
    expires_at_before: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewed(_Outcome):
    """A new token was proved and stored. `recovered`: people had been told that the channel failed."""

    recovered: bool = False
    set_by_hand: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped(_Outcome):
    """Nothing had to be renewed, or nothing could be done by this run; not a failure.

    `is_locked`: the application kept the row locked to the end.
    """

    reason: Reason
    detail: str = ""
    recovered: bool = False
    is_locked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed(_Outcome):
    """The token was not renewed, or not as it should be. `is_news`: people have not been told of it yet."""

    reason: Reason
    detail: str
    is_news: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Due(_Outcome):
    """What a dry run says of a channel that a run would renew."""

    why: DueReason


Outcome: TypeAlias = Renewed | Skipped | Failed | Due


@dataclass(slots=True)
class First(Generic[T]):
    """The first of any number of things, and how many there are in all: memory does not grow with them."""

    kept: list[T] = field(default_factory=list)
    more: int = 0

    def add(self, one: T) -> None:
        """Keep it, or count it."""
        if len(self.kept) < KEPT:
            self.kept.append(one)
        else:
            self.more += 1

    def __len__(self) -> int:
        return len(self.kept) + self.more


@dataclass(frozen=True, slots=True)
class Aborted:
    """Why a run ended before all due channels were reached."""

    reason: AbortReason
    detail: str


@dataclass(slots=True)
class Tally:
    """How many channels came to what. `due` is the sum of renewed, failed, skipped and left."""

    candidates: int = 0
    due: int = 0
    renewed: int = 0
    failed: int = 0
    known: int = 0  # of those failed, people have been told
    skipped: int = 0
    waiting: int = 0
    left: int = 0
    untold: int | None = None  # people may have to be told of these anyway; None if that was not counted
    reasons: Counter[Reason] = field(default_factory=Counter)  # of those skipped
    causes: Counter[Reason] = field(default_factory=Counter)  # of those failed

    @property
    def news(self) -> int:
        """How many failures people have not been told of."""
        return self.failed - self.known

    def add(self, outcome: Outcome) -> None:
        """Count one channel."""
        match outcome:
            case Renewed():
                self.renewed += 1
            case Failed():
                self.failed += 1
                self.known += not outcome.is_news
                self.causes[outcome.reason] += 1
            case Skipped(reason=Reason.WAITING_FOR_RECONNECT):
                self.waiting += 1
            case Skipped():
                self.skipped += 1
                self.reasons[outcome.reason] += 1
            case Due():
                pass


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended. `failures` are the first of them.

    `undelivered`: an alert did not arrive; `unwritten` has a line for each report that is missing.
    """

    code: int
    tally: Tally
    failures: tuple[Failed, ...]
    stopped: Aborted | None
    started_at: datetime
    finished_at: datetime
    is_dry: bool = False
    undelivered: bool = False
    unwritten: tuple[str, ...] = ()
    status_page_url: str | None = None


@dataclass(frozen=True, slots=True)
class ChannelTotals:
    """All candidates, counted.

    `soonest`: the soonest known expiry, past or not, of tokens that Meta may still accept. `expiries`: how
    many expire on each of the next `HORIZON_DAYS` UTC days, without days of none. Of the lines in `WARNING`,
    `expired_warnings` have an expired token, and `lacking` are far from expiry, but lack a permission.
    """

    states: Mapping[State, int] = field(default_factory=dict)
    soonest: datetime | None = None
    expiries: Mapping[date, int] = field(default_factory=dict)
    expired_warnings: int = 0
    lacking: int = 0

    @property
    def total(self) -> int:
        """How many channels there are."""
        return sum(self.states.values())

    @property
    def attention(self) -> int:
        """How many of them need a person."""
        return sum(count for state, count in self.states.items() if state.needs_attention)

    @property
    def down(self) -> int:
        """How many of these have stopped working."""
        return self.attention - self.states.get(State.WARNING, 0) + self.expired_warnings
