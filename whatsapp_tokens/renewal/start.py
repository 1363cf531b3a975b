"""How every run begins: what is due is counted, the keys are tried, and those that wait are reported."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from crypto import KeyRing, Undecryptable
from models import Channel
from whatsapp_tokens.database.database import Database
from whatsapp_tokens.database.queries import Counts
from whatsapp_tokens.policy import Selection
from whatsapp_tokens.renewal.outcomes import skipped
from whatsapp_tokens.results import ChannelId, Outcome, Reason, Tally

OTHERS_TRIED: Final = 1000


class CannotRun(Exception):
    """What was asked for cannot be done as things are. One line: why, and what to do."""


class WrongKeys(CannotRun):
    """No key decrypts any stored token, so the keys are wrong and not the tokens. Nothing was changed."""

    @classmethod
    def of_all(cls, failures: Sequence[Undecryptable]) -> WrongKeys:
        """Return the error for tokens of which none can be decrypted, or read at all."""
        why = f" ({failures[0]})" if failures else ""
        if failures and all(failure.is_unknown_format for failure in failures):
            return cls(f"none of the stored tokens can be read{why}. Nothing was changed")
        return cls(
            f"TOKEN_ENCRYPTION_KEY opens none of the stored tokens{why}, so the key is wrong and not the "
            "tokens; give the key that the application encrypts with. Nothing was changed"
        )


@dataclass(frozen=True, slots=True)
class Scope:
    """Which channels a run is asked for, how many at once, and whether people are alerted of failures."""

    selection: Selection
    limit: int | None = None
    workers: int = 16
    alerts: bool = True


@dataclass(frozen=True, slots=True)
class RunCallbacks:
    """What a run calls, in the main thread: `begin` with the counts, then `outcome` for each channel.

    `begin` comes before anything is touched, and may raise to prevent the run. Its tally goes on counting.
    """

    begin: Callable[[Tally], None]
    outcome: Callable[[Outcome], None]


def open_run(
    database: Database, keys: KeyRing, scope: Scope, callbacks: RunCallbacks
) -> tuple[Counts, Tally]:
    """Count, try the keys, begin, and report the channels that only wait. Raise `WrongKeys`."""
    counts = database.queries.count(scope.selection)
    _check_keys(database, keys, scope.selection, counts)
    is_whole_table = scope.selection.ids is None
    tally = Tally(counts.candidates, counts.due, untold=counts.news if is_whole_table else None)
    callbacks.begin(tally)
    waiting = database.queries.waiting(scope.selection) if counts.waiting else ()
    for channel in waiting:
        detail = (channel.error or "").partition(": ")[2]
        outcome = skipped(channel, Reason.WAITING_FOR_RECONNECT, detail, channel.expires_at)
        tally.add(outcome)
        callbacks.outcome(outcome)
    return counts, tally


def _check_keys(database: Database, keys: KeyRing, selection: Selection, counts: Counts) -> None:
    """Raise `WrongKeys` if no key decrypts any token of the table, and there are two or more.

    One that can be decrypted is enough, so usually one is tried.
    """
    failures: dict[ChannelId, Undecryptable] = {}
    for channel in _tokens(database, selection, counts):
        try:
            keys.format_of(channel.ciphertext)
        except Undecryptable as error:
            if len(failures) < OTHERS_TRIED:
                failures[channel.id] = error
        else:
            return
    if len(failures) > 1:  # a single one may be at fault itself
        raise WrongKeys.of_all(list(failures.values()))


def _tokens(database: Database, selection: Selection, counts: Counts) -> Iterator[Channel]:
    """Return any channel, the due ones, and some others of the whole table, looked up as they are needed."""
    yield from database.queries.some(1)
    yield from database.queries.due(selection, counts)
    yield from database.queries.others(selection, OTHERS_TRIED)
