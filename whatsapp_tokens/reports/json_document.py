"""The document of `--json`: its counts, its entries, and the file in which they wait until the end."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import IO, Any, Final, assert_never

from whatsapp_tokens.redaction import redact
from whatsapp_tokens.results import ChannelId, Due, Failed, Outcome, Renewed, Skipped, Tally

LARGEST_EXACT: Final = 2**53
KEPT_IN_MEMORY: Final = 1024 * 1024  # bytes of the document; a larger one needs a place for temporary files


class JsonDocument:
    """Entries that wait for the head of the document, in a file, so that memory does not grow with them.

    Raise OSError where the file cannot be written or read: better no document than one that lacks channels.
    """

    def __init__(self) -> None:
        self._spool: IO[str] = tempfile.SpooledTemporaryFile(KEPT_IN_MEMORY, "w+", encoding="utf-8")  # noqa: SIM115 - closed in close()
        self._has_entries = False

    def add(self, fields: Mapping[str, Any], foreign: Collection[str] = ("id", "name", "detail")) -> None:
        """Keep an entry. `foreign` are the members whose texts others wrote: they are redacted."""
        cleaned = {**fields, **{name: _redacted(fields[name]) for name in foreign}}
        self._spool.write((", " if self._has_entries else "") + json.dumps(cleaned) + "\n")
        self._has_entries = True

    def pieces(self, head: Mapping[str, Any], name: str) -> Iterator[str]:
        """Return the document, a piece at a time: the head, and the entries under `name`."""
        self._spool.seek(0)
        yield f'{json.dumps(_redacted(head))[:-1]}, "{name}": ['
        for line in self._spool:
            yield line.rstrip("\n")
        yield "]}\n"

    def close(self) -> None:
        """Let go of the temporary file."""
        with suppress(OSError):
            self._spool.close()


def entry(outcome: Outcome) -> dict[str, Any]:
    """Return one element of `channels`."""
    reason: str | None = None
    match outcome:
        case Renewed():
            word, detail = "renewed", ""
        case Failed():
            word, reason, detail = "failed", outcome.reason, outcome.detail
        case Skipped():
            word, reason, detail = "skipped", outcome.reason, outcome.detail
        case Due():
            word, detail = "due", str(outcome.why)
        case _:
            assert_never(outcome)
    return {
        "id": exact(outcome.id),
        "name": outcome.name,
        "outcome": word,
        "reason": reason,
        "detail": detail or None,
        "expires_at": timestamp(outcome.expires_at),
        "expires_at_before": timestamp(outcome.expires_at_before),
        "is_news": isinstance(outcome, Failed) and outcome.is_news,
    }


def exact(id_: ChannelId) -> ChannelId:
    """Return an id that no JSON reader changes: beyond 2^53, where JavaScript rounds numbers, as text."""
    return str(id_) if isinstance(id_, int) and abs(id_) > LARGEST_EXACT else id_


def counts(tally: Tally) -> dict[str, int]:
    """Return `counts`."""
    names = ("candidates", "due", "renewed", "failed", "known", "skipped", "waiting", "left")
    return {name: getattr(tally, name) for name in names}


def timestamp(time: datetime | None) -> str | None:
    """Return ISO 8601 in UTC with `Z`, to the second; None where unknown."""
    if time is None:
        return None
    # Not strftime: it writes the first year, which is PostgreSQL's -infinity, without its zeros.
    return time.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def _redacted(value: Any) -> Any:
    """Return a JSON value with its texts redacted."""
    match value:
        case str():
            return redact(value)
        case Mapping():
            return {name: _redacted(inner) for name, inner in value.items()}
        case list():
            return [_redacted(inner) for inner in value]
        case _:
            return value
