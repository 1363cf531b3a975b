"""How a run ended, as GitHub Actions shows it: a page in Markdown and a few annotations. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Final

from whatsapp_tokens.monitoring.github_actions import MAX_ANNOTATIONS, Annotation, Level
from whatsapp_tokens.redaction import one_line, redact
from whatsapp_tokens.reports.json_document import counts
from whatsapp_tokens.reports.labels import label, safe_link
from whatsapp_tokens.reports.language import ENGLISH
from whatsapp_tokens.reports.text import preview_summary, reason_and_detail
from whatsapp_tokens.results import Failed, Reason, RunResult

MAX_TABLE_BYTES: Final = 500_000  # half of what a step may write: other programs write to its summary, too


def markdown(result: RunResult) -> str:
    """Return the page: how the run ended, the counts, why it stopped, the failed channels, and a link."""
    numbers = counts(result.tally)
    lines = [
        f"## WhatsApp tokens: {_headline(result)}",
        "",
        f"| {' | '.join(numbers)} |",
        f"|{'--:|' * len(numbers)}",
        f"| {' | '.join(map(str, numbers.values()))} |",
        "",
    ]
    if result.is_dry:
        lines += [preview_summary(result.tally), ""]
    if stopped := result.stopped:
        lines += [
            f"**Stopped: {escape(stopped.reason)}**, {escape(ENGLISH.detail(stopped.detail))}  ",
            f"To do: {escape(ENGLISH.advice(stopped.reason))}.",
            "",
        ]
    if result.undelivered:
        lines += ["**An alert could not be delivered**: see the log.", ""]
    lines += [f"**A report could not be written**: {escape(problem)}  " for problem in result.unwritten]
    lines += [""] if result.unwritten else []
    if result.failures:
        lines += ["| failed | cause | expires | to do |", "|---|---|---|---|", *_rows(result), ""]
    if result.status_page_url:
        lines += [f"[Status page](<{safe_link(result.status_page_url)}>)", ""]
    return "\n".join(lines) + "\n"


def notes(result: RunResult) -> list[Annotation]:
    """Return what GitHub shows at the top of the run, the most important first, within its limit.

    Failures that people know of are in the page only.
    """
    news = [failure for failure in result.failures if failure.is_news]
    found = [*_of_the_run(result), *(_of_a_channel(one, result.finished_at) for one in news)]
    unnamed = result.tally.news - len(news)
    if len(found) + bool(unnamed) <= MAX_ANNOTATIONS:
        return found + ([_more(unnamed)] if unnamed else [])
    shown = found[: MAX_ANNOTATIONS - 1]
    return [*shown, _more(len(found) - len(shown) + unnamed)]


def shortfalls(result: RunResult) -> list[str]:
    """Return what went wrong besides the work, a line each: it may be the only reason for exit code 1."""
    lines = ["an alert could not be delivered: see the log"] if result.undelivered else []
    return [f"Problem: {line}" for line in (*lines, *result.unwritten)]


def escape(text: str) -> str:
    """Return text for Markdown, on one line, with everything escaped that could be markup.

    It is redacted before it is escaped: afterwards a secret might look different.
    """
    return re.sub(r"[!-/:-@\[-`{-~]", r"\\\g<0>", redact(one_line(text)))


def _headline(result: RunResult) -> str:
    if result.stopped:
        return "stopped early" if result.stopped.reason != "configuration" else "the configuration is wrong"
    if result.tally.news:
        return f"{result.tally.failed} failed"
    if result.undelivered:
        return "an alert could not be delivered"
    if result.unwritten:
        return "a report could not be written"
    quiet = "nothing new failed" if result.tally.known else "nothing failed"
    return "a dry run" if result.is_dry else "interrupted" if result.code else quiet


def _rows(result: RunResult) -> Iterator[str]:
    """Yield a row for each failed channel that fits, and how many are left out."""
    size = shown = 0
    for failure in result.failures:
        cells = (
            escape(label(failure)),
            f"{escape(reason_and_detail(failure))}{'' if failure.is_news else ' (known)'}",
            escape(ENGLISH.outlook(failure.reason, failure.expires_at, result.finished_at)),
            escape(ENGLISH.advice(failure.reason, failure.expires_at, result.finished_at)),
        )
        row = f"| {' | '.join(cells)} |"
        size += len(row.encode(errors="replace"))
        if size > MAX_TABLE_BYTES:
            break
        shown += 1
        yield row
    if more := result.tally.failed - shown:
        yield f"| … and {more} more | | | |"


def _of_the_run(result: RunResult) -> Iterator[Annotation]:
    if stopped := result.stopped:
        text = f"{reason_and_detail(stopped)}\nTo do: {ENGLISH.advice(stopped.reason)}"
        yield Annotation(Level.ERROR, f"WhatsApp tokens: {_headline(result)}", text)
    if result.undelivered:
        yield Annotation(Level.ERROR, "An alert could not be delivered", "The next run sends it again.")
    if result.unwritten:
        yield Annotation(Level.ERROR, "A report could not be written", "\n".join(result.unwritten))
    if waiting := result.tally.waiting:
        title = f"{waiting} WhatsApp {'line waits' if waiting == 1 else 'lines wait'} for a reconnect"
        yield Annotation(Level.WARNING, title, f"To do: {ENGLISH.advice(Reason.RECONNECT_REQUIRED)}")


def _of_a_channel(failure: Failed, now: datetime) -> Annotation:
    level = Level.WARNING if failure.reason.may_pass else Level.ERROR
    to_do = ENGLISH.advice(failure.reason, failure.expires_at, now)
    text = f"{reason_and_detail(failure)}\nTo do: {to_do}"
    return Annotation(level, label(failure), text)


def _more(count: int) -> Annotation:
    return Annotation(Level.WARNING, f"… and {count} more", "The step's summary and its log name them.")
