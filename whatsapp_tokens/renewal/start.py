"""How every run begins: what is due is counted, the keys are tried, and those that wait are reported.

A dry run is nothing more: it shows what is due, writes nothing and calls nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from crypto import KeyRing, Undecryptable
from models import Channel
from whatsapp_tokens.database.database import Database
from whatsapp_tokens.policy import Selection, is_due
from whatsapp_tokens.renewal.outcomes import about, failed, skipped
from whatsapp_tokens.results import Due, DueReason, Outcome, Reason, Tally

OTHERS_TRIED: Final = 1000


class WrongKeys(Exception):
    """No stored token opens with the key ring: it is the key that is wrong, so nothing was touched."""

    @classmethod
    def of_all(cls, failures: Sequence[Undecryptable]) -> WrongKeys:
        """The error in its one wording; if the tokens are written in no way that we know, it is another."""
        why = f" ({failures[0]})" if failures else ""
        if failures and all(failure.is_unknown_format for failure in failures):
            return cls(f"none of the stored tokens can be read{why}. Nothing was changed")
        return cls(
            f"TOKEN_ENCRYPTION_KEY opens none of the stored tokens{why}, so the key is wrong and not the "
            "tokens; give the key that the application encrypts with. Nothing was changed"
        )


@dataclass(frozen=True, slots=True)
class Scope:
    """Which channels a run is asked for, and how many at once."""

    look: Selection
    limit: int | None = None
    workers: int = 16


@dataclass(frozen=True, slots=True)
class RunCallbacks:
    """Who is told what: the counts before anything is touched, and then each outcome, in the main thread.

    `begin` may raise to prevent the run; the tally it is given goes on counting while the run works.
    """

    begin: Callable[[Tally], None]
    outcome: Callable[[Outcome], None]


def preview(database: Database, keys: KeyRing, scope: Scope, ledger: RunCallbacks) -> Tally:
    """A dry run: every due channel and why, the unreadable ones as failed. Writes nothing and calls nobody.

    Raises `WrongKeys`, `BadDatabase` or `DatabaseLost`.
    """
    tally = open_run(database, keys, scope, ledger)
    for channel in islice(database.queries.due(scope.look), scope.limit):
        outcome = _foresee(channel, keys, scope.look)
        tally.add(outcome)
        ledger.outcome(outcome)
    tally.left = max(tally.due - scope.limit, 0) if scope.limit else 0
    return tally


def open_run(database: Database, keys: KeyRing, scope: Scope, ledger: RunCallbacks) -> Tally:
    """Count, make sure of the keys, begin, and report the channels that only wait. Raises `WrongKeys`."""
    counts = database.queries.count(scope.look)
    if counts.due > 1:
        _check_keys(database, keys, scope.look)
    tally = Tally(candidates=counts.candidates, due=counts.due)
    ledger.begin(tally)
    for channel in database.queries.waiting(scope.look) if counts.waiting else ():
        detail = (channel.error or "").partition(": ")[2]
        outcome = skipped(channel, Reason.WAITING_FOR_RECONNECT, detail, channel.expires_at)
        tally.add(outcome)
        ledger.outcome(outcome)
    return tally


def _check_keys(database: Database, keys: KeyRing, look: Selection) -> None:
    """Make sure that the keys open at least one token. One is enough, so usually one is tried."""
    failures: list[Undecryptable] = []

    def opens(channel: Channel) -> bool:
        try:
            keys.decrypt(channel.ciphertext)
        except Undecryptable as error:
            if len(failures) < OTHERS_TRIED:
                failures.append(error)
            return False
        return True

    if any(map(opens, database.queries.due(look))) or any(
        map(opens, database.queries.others(look, OTHERS_TRIED))
    ):
        return
    raise WrongKeys.of_all(failures)


def _foresee(channel: Channel, keys: KeyRing, look: Selection) -> Outcome:
    """What a dry run says of a due channel."""
    try:
        keys.decrypt(channel.ciphertext)
    except Undecryptable as error:
        return failed(channel, Reason.UNDECRYPTABLE, str(error), channel.expires_at)
    return Due(**about(channel, channel.expires_at), why=is_due(channel, look) or DueReason.ASKED_FOR)
