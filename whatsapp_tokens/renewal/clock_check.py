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


def compare_with_meta(ours: datetime, at_meta: datetime) -> None:
    """Raise `WrongClock` if this machine's time is not Meta's."""
    if are_apart(ours, at_meta):
        raise WrongClock(_detail(ours, fact("time at Meta", f"{at_meta:%Y-%m-%dT%H:%M:%SZ}")))


def compare_with_database(ours: datetime, at_database: datetime) -> None:
    """Raise `WrongClock` if this machine's time is not the database server's."""
    if are_apart(ours, at_database):
        theirs = fact("time at the database server", f"{at_database:%Y-%m-%dT%H:%M:%SZ}")
        raise WrongClock(_detail(ours, theirs))


def _detail(ours: datetime, theirs: str) -> str:
    return facts(
        fact("the clock of this machine is wrong"),
        fact("time on this machine", f"{ours:%Y-%m-%dT%H:%M:%SZ}"),
        theirs,
        fact("nothing was changed"),
    )
