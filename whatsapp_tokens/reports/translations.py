"""What people are told about a token, in their language: dates, causes, and who must do what.

The command itself and its logs speak English; alerts and the status page speak `ALERT_LANGUAGE`. A further
language is one more member of `Language` and one more parameter of `phrase`: mypy then names what is missing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache, partial
from typing import Final, TypeAlias

from babel.dates import format_date, format_datetime

from whatsapp_tokens.reports.details import DETAILS
from whatsapp_tokens.results import AbortReason, Reason
from whatsapp_tokens.settings import Language

Phrase: TypeAlias = Mapping[Language, str]


def phrase(en: str, es: str) -> Phrase:
    """One text in every language."""
    return {Language.EN: en, Language.ES: es}


# What has happened to a channel or, from `app_rejected` on, to the run, in plain words.
CAUSES: Final[Mapping[str, Phrase]] = {
    Reason.RECONNECT_REQUIRED: phrase("Meta no longer accepts the token", "Meta ya no acepta el token"),
    Reason.MISSING_PERMISSION: phrase(
        "the token lacks a permission, or its access to data ends soon",
        "al token le falta un permiso, o su acceso a datos termina pronto",
    ),
    Reason.NOT_EXTENDED: phrase(
        "Meta answered, but did not prolong the token", "Meta respondió, pero no prolongó el token"
    ),
    Reason.UNDECRYPTABLE: phrase(
        "the stored token cannot be decrypted", "el token guardado no se puede descifrar"
    ),
    Reason.UNAVAILABLE: phrase("Meta could not be reached", "no se pudo contactar con Meta"),
    Reason.UNEXPECTED_ANSWER: phrase(
        "Meta gave an answer that fits nothing known",
        "Meta dio una respuesta desconocida",
    ),
    Reason.WRITE_FAILED: phrase("the database refused the row", "la base de datos rechazó la fila"),
    AbortReason.APP_REJECTED: phrase("Meta refuses the app", "Meta rechaza la app"),
    AbortReason.RATE_LIMITED: phrase(
        "Meta limits the whole app, and went on doing so",
        "Meta limita a toda la app, y siguió haciéndolo",
    ),
    AbortReason.SYSTEMIC: phrase(
        "many lines newly failed in the same way, and none succeeded",
        "muchas líneas empezaron a fallar de la misma manera, y ninguna tuvo éxito",
    ),
    AbortReason.DATABASE_LOST: phrase(
        "the database cannot be reached", "no se puede acceder a la base de datos"
    ),
    AbortReason.CONFIGURATION: phrase("the configuration is wrong", "la configuración no es correcta"),
    AbortReason.INTERNAL_ERROR: phrase("the program itself failed", "falló el propio programa"),
}

# What a person does about it.
ADVICE: Final[Mapping[str, Phrase]] = {
    Reason.RECONNECT_REQUIRED: phrase(
        "the customer must connect WhatsApp again", "el cliente debe volver a conectar WhatsApp"
    ),
    Reason.MISSING_PERMISSION: phrase(
        "the customer must connect WhatsApp again and grant every permission",
        "el cliente debe volver a conectar WhatsApp y conceder todos los permisos",
    ),
    Reason.NOT_EXTENDED: phrase(
        "the customer must connect WhatsApp again before it ends",
        "el cliente debe volver a conectar WhatsApp antes de que caduque",
    ),
    Reason.UNDECRYPTABLE: phrase(
        "add its key to TOKEN_ENCRYPTION_KEY, or have the customer connect WhatsApp again",
        "añada su clave a TOKEN_ENCRYPTION_KEY, o pida al cliente que vuelva a conectar WhatsApp",
    ),
    Reason.UNAVAILABLE: phrase(
        "nothing yet: it is tried again at the next run",
        "nada por ahora: se intenta de nuevo en la próxima ejecución",
    ),
    Reason.UNEXPECTED_ANSWER: phrase(
        "look at the detail; it is tried again at the next run",
        "mire el detalle; se intenta de nuevo en la próxima ejecución",
    ),
    Reason.WRITE_FAILED: phrase(
        "see why the database refuses the row; the old token is untouched",
        "averigüe por qué la base de datos rechaza la fila; el token anterior sigue intacto",
    ),
    AbortReason.APP_REJECTED: phrase(
        "check META_APP_ID, META_APP_SECRET and the app's state in Meta's App Dashboard",
        "revise META_APP_ID, META_APP_SECRET y el estado de la app en el panel de apps de Meta",
    ),
    AbortReason.RATE_LIMITED: phrase(
        "nothing: the rest is done at the next run; run at another hour if it comes back",
        "nada: el resto se hace en la próxima ejecución; si se repite, ejecute a otra hora",
    ),
    AbortReason.SYSTEMIC: phrase(
        "look at Meta's status page and the app's settings before anybody is asked to reconnect",
        "mire la página de estado de Meta y los ajustes de la app antes de pedir a nadie que reconecte",
    ),
    AbortReason.DATABASE_LOST: phrase(
        "see whether the database is up; the next run does the rest",
        "compruebe que la base de datos funciona; la próxima ejecución hace el resto",
    ),
    AbortReason.CONFIGURATION: phrase(
        "correct the configuration and run again", "corrija la configuración y ejecute de nuevo"
    ),
    AbortReason.INTERNAL_ERROR: phrase(
        "this is a mistake in the program: report it with the log",
        "es un error del programa: informe de él con el registro",
    ),
}

# The same on a token's last day and after it, where that is something else: there is no next run to wait for.
LAST_ADVICE: Final[Mapping[str, Phrase]] = {
    Reason.NOT_EXTENDED: phrase(
        "the customer must connect WhatsApp again now", "el cliente debe volver a conectar WhatsApp ahora"
    ),
    Reason.UNAVAILABLE: phrase(
        "the customer must connect WhatsApp again: there is no time left to wait for the next run",
        "el cliente debe volver a conectar WhatsApp: no queda tiempo para esperar a la próxima ejecución",
    ),
    Reason.UNEXPECTED_ANSWER: phrase(
        "look at the detail; the customer must connect WhatsApp again: there is no time left to wait",
        "mire el detalle; el cliente debe volver a conectar WhatsApp: no queda tiempo para esperar",
    ),
}

# The alert's own phrases. Of two, the first is for one line, the second for several.
STOPPED_EARLY: Final = phrase(
    "WhatsApp token renewal stopped early", "La renovación de tokens de WhatsApp se detuvo antes de terminar"
)
COULD_NOT_RUN: Final = phrase(
    "WhatsApp token renewal could not run", "La renovación de tokens de WhatsApp no pudo ejecutarse"
)
NEEDS_ATTENTION: Final = (
    phrase("{} WhatsApp line needs attention", "{} línea de WhatsApp necesita atención"),
    phrase("{} WhatsApp lines need attention", "{} líneas de WhatsApp necesitan atención"),
)
HAS_RECOVERED: Final = (
    phrase("{} WhatsApp line has recovered", "{} línea de WhatsApp se ha recuperado"),
    phrase("{} WhatsApp lines have recovered", "{} líneas de WhatsApp se han recuperado"),
)
WHAT_IT_MEANS: Final = (
    phrase(
        "Its renewal failed. When its token ends, that customer's WhatsApp stops.",
        "Falló su renovación. Cuando caduque su token, el WhatsApp de ese cliente dejará de funcionar.",
    ),
    phrase(
        "Their renewal failed. When a token ends, that customer's WhatsApp stops.",
        "Falló su renovación. Cuando caduca un token, el WhatsApp de su cliente deja de funcionar.",
    ),
)
WHAT_HAS_STOPPED: Final = (
    phrase(
        "Its renewal failed, and its token has ended: that customer's WhatsApp has stopped.",
        "Falló su renovación, y su token ha caducado: el WhatsApp de ese cliente ya no funciona.",
    ),
    phrase(
        "Their renewal failed, and their tokens have ended: the WhatsApp of these customers has stopped.",
        "Falló su renovación, y sus tokens han caducado: el WhatsApp de estos clientes ya no funciona.",
    ),
)
NOTHING_TO_DO: Final = (
    phrase("Nothing is to be done about it.", "No hay que hacer nada más con ella."),
    phrase("Nothing is to be done about them.", "No hay que hacer nada más con ellas."),
)
RECOVERED: Final = phrase("Recovered: {}.", "Recuperadas: {}.")
AND_OTHERS: Final = phrase(" and {} more", " y {} más")
AND_MORE: Final = phrase("… and {} more", "… y {} más")
RECONNECT: Final = phrase("Reconnect", "Reconectar")
TO_DO: Final = phrase("To do: {}", "Qué hacer: {}")
UNKNOWN_CAUSE: Final = phrase("its cause is not known", "no se sabe la causa")
COUNTS: Final = phrase(
    "{} renewed · {} failed · {} waiting for a reconnect · {} left",
    "renovadas: {} · con fallo: {} · a la espera de reconexión: {} · sin procesar: {}",
)

_UNKNOWN_REASON: Final = phrase("look at the detail", "mire el detalle")
_ONE_DAY: Final = phrase("{} day", "{} día")
_DAYS: Final = phrase("{} days", "{} días")
_LESS: Final = phrase("less than a day", "menos de un día")
_UNKNOWN: Final = phrase("unknown", "desconocido")
_ENDED_AGO: Final = phrase("ended {} ago", "caducó hace {}")
_ENDED_TODAY: Final = phrase("ended today", "caducó hoy")
_ENDED_ON: Final = phrase("ended on {}", "caducó el {}")
_ENDS_ON: Final = phrase("ends on {} ({})", "caduca el {} ({})")
_END_UNKNOWN: Final = phrase("its end is not known", "no se sabe cuándo caduca")


@dataclass(frozen=True, slots=True)
class Words:
    """One language. Times are aware UTC, and days are counted in UTC."""

    language: Language = Language.EN

    def say(self, text: Phrase) -> str:
        """A phrase in this language."""
        return text[self.language]

    def count(self, number: int, one: Phrase, many: Phrase) -> str:
        """A phrase for one thing, or for several, with their number in it."""
        return self.say(one if number == 1 else many).format(number)

    def cause(self, reason: str) -> str:
        """What has happened, as part of a sentence; the reason itself where it is not known."""
        found = CAUSES.get(reason)
        return self.say(found) if found else reason

    def advice(self, reason: str) -> str:
        """Who must do what about a reason."""
        return self.say(ADVICE.get(reason, _UNKNOWN_REASON))

    def advice_by(self, reason: str, expires_at: datetime | None, now: datetime) -> str:
        """The same about a token that ends then: on its last day nothing can wait any more."""
        is_last = expires_at is not None and expires_at < now + timedelta(days=1)
        found = LAST_ADVICE.get(reason) if is_last else None
        return self.say(found) if found else self.advice(reason)

    def detail(self, text: str) -> str:
        """What our own details say; Meta's words stay as they are, and what is not known."""
        return _detail(self, text)

    def day(self, time: datetime) -> str:
        """A day such as `3 Dec 2026`."""
        return format_date(time, "d MMM y", locale=self.language.value)

    def day_of_year(self, day: date) -> str:
        """The same without its year."""
        return format_date(day, "d MMM", locale=self.language.value)

    def moment(self, time: datetime) -> str:
        """Day and time such as `3 Dec 2026, 08:00 UTC`."""
        return format_datetime(time, "d MMM y, HH:mm", locale=self.language.value) + " UTC"

    def days(self, count: int) -> str:
        """Such as `1 day` or `9 days`."""
        return self.count(count, _ONE_DAY, _DAYS)

    def left(self, expires_at: datetime | None, now: datetime) -> str:
        """How long a token still lives: `9 days`, `less than a day`, `ended 3 days ago`, `unknown`."""
        if expires_at is None:
            return self.say(_UNKNOWN)
        if expires_at <= now:
            days = (now - expires_at) // timedelta(days=1)
            return self.say(_ENDED_AGO).format(self.days(days)) if days else self.say(_ENDED_TODAY)
        days = (expires_at - now) // timedelta(days=1)
        return self.days(days) if days else self.say(_LESS)

    def ends(self, expires_at: datetime | None, now: datetime) -> str:
        """When a token ends, as part of a sentence: `ends on 3 Dec 2026 (9 days)`."""
        if expires_at is None:
            return self.say(_END_UNKNOWN)
        if expires_at <= now:
            return self.say(_ENDED_ON).format(self.day(expires_at))
        return self.say(_ENDS_ON).format(self.day(expires_at), self.left(expires_at, now))


# What fills each kind of gap in `DETAILS`.
_GAPS: Final = {"day": r"\d{4}-\d\d-\d\d", "number": r"-?\d+", "list": ".+?", "detail": ".+?", "text": ".+?"}
_GAP: Final = re.compile(r"\{(\w+)\}")
_LONGEST_DETAIL: Final = 1000  # a longer text is none of ours
_BETWEEN: Final = {" and ": phrase(" and ", " y "), " or ": phrase(" or ", " o ")}


def _reader(english: str) -> re.Pattern[str]:
    """What recognises a detail, with a group for each of its gaps."""
    parts = _GAP.split(english)  # text and kind of gap by turns
    patterns = (re.escape(part) if place % 2 == 0 else f"({_GAPS[part]})" for place, part in enumerate(parts))
    return re.compile("".join(patterns))


_DETAILS: Final = [(_reader(pair[0]), _GAP.findall(pair[0]), phrase(*pair)) for pair in DETAILS]


@lru_cache(maxsize=1000)  # many lines fail alike
def _detail(words: Words, text: str) -> str:
    if len(text) > _LONGEST_DETAIL:
        return text
    for reader, kinds, said in _DETAILS:
        if found := reader.fullmatch(text):
            values: dict[str, list[str]] = {kind: [] for kind in kinds}
            for kind, value in zip(kinds, found.groups(), strict=True):
                values[kind].append(_filled(words, kind, value))
            return _GAP.sub(partial(_next, values), words.say(said))
    return text


def _next(values: Mapping[str, list[str]], gap: re.Match[str]) -> str:
    """What comes into a gap: gaps of one kind are in the same order in every language."""
    return values[gap.group(1)].pop(0)


def _filled(words: Words, kind: str, value: str) -> str:
    """What stands in a gap, in the language."""
    match kind:
        case "day":
            with suppress(ValueError):  # a row may hold anything
                return words.day(datetime.fromisoformat(value))
            return value
        case "list":
            parts = re.split("( and | or )", value)
            return "".join(
                words.say(_BETWEEN[part]) if part in _BETWEEN else words.detail(part) for part in parts
            )
        case "detail":
            return words.detail(value)
        case _:
            return value


EN: Final = Words()
