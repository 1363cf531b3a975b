"""Whether this machine's clock is right: with a wrong one, what is due and what has expired is wrong, too."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from whatsapp_tokens.facts import fact, facts
from whatsapp_tokens.renewal.start import CannotRun

MOST_APART: Final = timedelta(hours=1)


class WrongClock(CannotRun):
    """The clock of the machine differs from another's by more than an hour. Nothing was changed."""


def are_apart(one: datetime, other: datetime) -> bool:
    """Return whether two clocks differ by so much that one of them must be wrong."""
    return abs(one - other) > MOST_APART


def require_right_clock(ours: datetime, at_meta: datetime | None, at_database: datetime) -> None:
    """Raise `WrongClock` if our time is not Meta's or, where Meta does not say it, the database server's."""
    if not are_apart(ours, at_meta or at_database):
        return
    theirs = (
        fact("time at Meta", as_text(at_meta))
        if at_meta
        else fact("time at the database server", as_text(at_database))
    )
    raise WrongClock(
        facts(
            fact("the clock of this machine is wrong"),
            fact("time on this machine", as_text(ours)),
            theirs,
            fact("nothing was changed"),
        )
    )


def as_text(time: datetime) -> str:
    """Return a time in ISO 8601, to the second; aware UTC comes in."""
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"
