"""The language that people are told in: gettext catalogues, dates, and what is said of a token.

English is the source of every text (the gettext message ids). Each other language is one file,
`locale/<language>/LC_MESSAGES/messages.po`, compiled in memory when it is first needed. The command and its
logs speak English, so a run that sends no alert and writes no page does not import Babel.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache, lru_cache
from gettext import GNUTranslations, NullTranslations
from io import BytesIO
from re import compile as pattern
from typing import Final

from whatsapp_tokens.reports.causes import (
    ADVICE,
    ADVICE_WHERE_UNKNOWN,
    CAUSES,
    CAUSES_BY_FACT,
    LAST_DAY_ADVICE,
)
from whatsapp_tokens.results import Reason
from whatsapp_tokens.settings import ENGLISH_CODE, catalogue_path

# Facts are separated by it, but not inside what somebody else said.
_BETWEEN_FACTS: Final = pattern("; (?![^“]*”)")
_TIME: Final = pattern(r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\dZ)?")
_NUMBERED: Final = frozenset({"Graph error", "HTTP"})  # their values follow them as a number does


@dataclass(frozen=True, slots=True)
class Language:
    """One language. Times are aware UTC, and days are counted in UTC."""

    code: str = ENGLISH_CODE

    def gettext(self, message: str) -> str:
        """Return the translation of a message, or the message itself where there is none."""
        return _catalogue(self.code).gettext(message) if message else ""

    def counted(self, one: str, many: str, count: int) -> str:
        """Return the form of a message that fits a number, with the number in place of `{count}`."""
        return _catalogue(self.code).ngettext(one, many, count).format(count=count)

    def detail(self, text: str) -> str:
        """Return a detail as people read it: phrases translated, days and times as everywhere else.

        >>> ENGLISH.detail("the new token does not live longer; expires: 2026-12-05; Graph error: 190/460")
        'the new token does not live longer; expires on 5 Dec 2026; Graph error 190/460'
        """
        return _as_read(self, text)

    def cause(self, reason: str, detail: str = "") -> str:
        """Return what happened, as part of a sentence; the reason itself where it is not known."""
        fact, _, more = detail.partition(": ")
        is_alone = reason == Reason.MISSING_PERMISSION and "; " not in more
        cause = CAUSES.get(reason, reason)
        return self.gettext(CAUSES_BY_FACT.get(fact, cause) if is_alone else cause)

    def advice(self, reason: str, expires_at: datetime | None = None, now: datetime | None = None) -> str:
        """Return who must do what. On a token's last day, and after it, no advice is to wait."""
        is_last_day = now is not None and is_last_day_of(expires_at, now)
        advice = ADVICE.get(reason, ADVICE_WHERE_UNKNOWN)
        return self.gettext(LAST_DAY_ADVICE.get(reason, advice) if is_last_day else advice)

    def expiry(self, expires_at: datetime | None, now: datetime) -> str:
        """Return when a token expires, as part of a sentence: `expires on 3 Dec 2026 (9 days)`."""
        _ = self.gettext
        if expires_at is None:
            return _("its expiry is not known")
        if expires_at <= now:
            return _("expired on {day}").format(day=self.day(expires_at))
        left = self.time_left(expires_at, now)
        return _("expires on {day} ({time_left})").format(day=self.day(expires_at), time_left=left)

    def outlook(
        self,
        reason: str | None,
        expires_at: datetime | None,
        now: datetime,
        rejected_since: datetime | None = None,
    ) -> str:
        """Return since when a line is down, if its token is rejected or has expired; else when it expires."""
        _ = self.gettext
        if rejected_since is not None and (expires_at is None or rejected_since < expires_at):
            return _("stopped working, found on {day}").format(day=self.day(rejected_since))
        if expires_at is not None and expires_at <= now:
            return _("stopped working on {day}").format(day=self.day(expires_at))
        return _("stopped working") if reason == Reason.RECONNECT_REQUIRED else self.expiry(expires_at, now)

    def time_left(self, expires_at: datetime | None, now: datetime) -> str:
        """Return how long a token lives: `9 days`, `less than a day`, `expired 3 days ago`, `unknown`."""
        _ = self.gettext
        if expires_at is None:
            return _("unknown")
        if expires_at > now:
            return self.span(expires_at - now)
        days = self.span(now - expires_at)
        return (
            _("expired {days} ago").format(days=days)
            if now - expires_at >= timedelta(days=1)
            else _("expired today")
        )

    def span(self, time: timedelta) -> str:
        """Return how long that is: `9 days`, `less than a day`."""
        days = time // timedelta(days=1)
        return self.counted("{count} day", "{count} days", days) if days else self.gettext("less than a day")

    def day(self, day: date) -> str:
        """Return a day such as `3 Dec 2026`."""
        return f"{self.day_of_year(day)} {day.year}" if self.is_english else self._format(day, "d MMM y")

    def day_of_year(self, day: date) -> str:
        """Return a day without its year."""
        return f"{day.day} {day:%b}" if self.is_english else self._format(day, "d MMM")

    def moment(self, time: datetime) -> str:
        """Return day and time such as `3 Dec 2026, 08:00 UTC`."""
        return f"{self.day(time)}, {self.hour(time)}"

    def hour(self, time: datetime) -> str:
        """Return a time of day such as `08:00 UTC`."""
        return f"{time:%H:%M} UTC"

    @property
    def is_english(self) -> bool:
        """Whether it is the language of the source, which needs no Babel."""
        return self.code == ENGLISH_CODE

    def _format(self, day: date, form: str) -> str:
        from babel.dates import format_date  # noqa: PLC0415 - English runs start faster without it

        return format_date(day, form, locale=self.code)


ENGLISH: Final = Language()


def is_last_day_of(expires_at: datetime | None, now: datetime) -> bool:
    """Return whether a token expires within a day, or has expired."""
    return expires_at is not None and expires_at < now + timedelta(days=1)


def capital(text: str) -> str:
    """Return a text as it begins a sentence."""
    return text[:1].upper() + text[1:]


@cache
def _catalogue(code: str) -> NullTranslations:
    """Read and compile the catalogue of a language; English has none."""
    if code == ENGLISH_CODE:
        return NullTranslations()
    from babel.messages.mofile import write_mo  # noqa: PLC0415 - English runs start faster without it
    from babel.messages.pofile import read_po  # noqa: PLC0415 - the same

    compiled = BytesIO()
    with catalogue_path(code).open("rb") as file:
        write_mo(compiled, read_po(file, locale=code))
    compiled.seek(0)
    return GNUTranslations(compiled)


@lru_cache(maxsize=1000)  # many lines fail alike
def _as_read(language: Language, detail: str) -> str:
    return "; ".join(_fact_as_read(language, fact) for fact in _BETWEEN_FACTS.split(detail))


def _fact_as_read(language: Language, fact: str) -> str:
    """Return one fact without a colon: a sentence that names what failed has one already."""
    phrase, _, value = fact.partition(": ")
    if not (phrase and value):
        return language.gettext(fact)
    said = language.gettext(phrase)
    if time := _time_of(value):
        if len(value) == len("2026-12-05"):
            return language.gettext("{what} on {day}").format(what=said, day=language.day(time))
        value = language.moment(time)
    if value.startswith("“") or phrase in _NUMBERED:
        return f"{said} {value}"
    return f"{said}: {value}" if "(" in value or phrase.isupper() else f"{said} ({value})"


def _time_of(value: str) -> datetime | None:
    """Return the day or the time that a value is, as `facts` and clocks write them."""
    if not _TIME.fullmatch(value):
        return None
    try:
        return datetime.fromisoformat(value).replace(tzinfo=UTC)
    except ValueError:
        return None
