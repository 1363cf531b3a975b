"""Outcomes, findings and counts as lines for a terminal. Pure, and in English."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, assert_never

from whatsapp_tokens.redaction import redact, truncate
from whatsapp_tokens.reports.labels import label, safe_link
from whatsapp_tokens.reports.language import ENGLISH
from whatsapp_tokens.results import Aborted, Due, Failed, Outcome, Reason, Renewed, Skipped, Tally

SHOWN_IN_SUMMARY: Final = 100
NAME_WIDTH: Final = 34
TABLE_HEAD: Final = f"{'CHANNEL':<{NAME_WIDTH}}  {'EXPIRES':<11}  {'DAYS LEFT':<19}  WHY DUE"


def outcome_line(outcome: Outcome, now: datetime) -> str:
    """Return one outcome as one line that begins with its word."""
    name = label(outcome)
    match outcome:
        case Renewed():
            expiry = ENGLISH.expiry(outcome.expires_at, now) if outcome.expires_at else "never expires now"
            return f"{'stored ' if outcome.set_by_hand else 'renewed'}  {name}: {expiry}"
        case Failed():
            known = "" if outcome.is_news else " (known)"
            return f"failed   {name}: {reason_and_detail(outcome)}{known}"
        case Skipped(reason=Reason.WAITING_FOR_RECONNECT):
            advice = ENGLISH.advice(Reason.RECONNECT_REQUIRED)
            return f"waiting  {name}: {ENGLISH.expiry(outcome.expires_at, now)}; {advice}"
        case Skipped():
            return f"skipped  {name}: {reason_and_detail(outcome)}"
        case Due():
            return f"due      {name}: {outcome.why}"
        case _:
            assert_never(outcome)


def reason_and_detail(what: Failed | Skipped | Aborted) -> str:
    """Return the name of a reason, and its detail: `not_extended, the new token does not live longer`."""
    return f"{what.reason}, {ENGLISH.detail(what.detail)}" if what.detail else what.reason


def table_row(outcome: Outcome, now: datetime, *, fits: bool = True) -> str:
    """Return a row of the dry run's table: channel, expires, days left, why due.

    `fits`: a long name is cut to the width of its column.
    """
    name = redact(label(outcome))  # before it is cut: half a secret would not be recognised
    name = truncate(name, NAME_WIDTH) if fits else name
    day = ENGLISH.day(outcome.expires_at) if outcome.expires_at else "-"
    match outcome:
        case Due():
            why = str(outcome.why)
        case Failed():
            why = f"FAILED {reason_and_detail(outcome)}"
        case Skipped():
            why = f"not due: {outcome.reason}"
        case Renewed():
            why = "renewed"
        case _:
            assert_never(outcome)
    return f"{name:<{NAME_WIDTH}}  {day:<11}  {ENGLISH.time_left(outcome.expires_at, now):<19}  {why}"


def summary(tally: Tally, failures: Sequence[Failed], stopped: Aborted | None, now: datetime) -> list[str]:
    """Return the end of a run: renewed, failed with what to do, skipped, waiting, and why it stopped."""
    shown = failures[:SHOWN_IN_SUMMARY]
    known = f" ({tally.known} known)" if tally.known else ""
    lines = [f"Renewed: {tally.renewed}", f"Failed:  {tally.failed}{known}"]
    for failure in shown:
        outlook = ENGLISH.outlook(failure.reason, failure.expires_at, now)
        lines += [
            f"  {label(failure)}: {failure.reason}, {outlook}",
            f"    → {ENGLISH.advice(failure.reason, failure.expires_at, now)}",
        ]
    if tally.failed > len(shown):
        lines += [f"  … and {tally.failed - len(shown)} more"]
    why = ", ".join(f"{count} {reason}" for reason, count in sorted(tally.reasons.items()))
    lines += [f"Skipped: {tally.skipped}" + (f" ({why})" if why else "")]
    to_do = f" ({ENGLISH.advice(Reason.RECONNECT_REQUIRED)})" if tally.waiting else ""
    lines += [f"Waiting: {tally.waiting}{to_do}"]
    if tally.left:
        lines += [f"Left:    {tally.left} (due, and not reached by this run)"]
    lines += [_due_of(tally)]
    if stopped:
        lines += [f"Stopped: {reason_and_detail(stopped)}", f"    → {ENGLISH.advice(stopped.reason)}"]
    return lines


def page_link(url: str | None) -> list[str]:
    """Return the line that says where the status page is published, if it is."""
    return [f"Status page: {safe_link(url)}"] if url else []


def preview_summary(tally: Tally) -> str:
    """Return the last line of a dry run."""
    unreadable = f", of which {tally.failed} cannot be decrypted" if tally.failed else ""
    waiting = f"; {tally.waiting} only waiting for a reconnect" if tally.waiting else ""
    return f"{_due_of(tally)}{unreadable}{waiting}. Dry run: nothing was written, and Meta was not asked."


def _due_of(tally: Tally) -> str:
    return f"{tally.due} due of {tally.candidates} channels with a token"
