"""What the status page says, in every language."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from whatsapp_tokens.reports.translations import Phrase, phrase
from whatsapp_tokens.results import State

STATES: Final[Mapping[State, Phrase]] = {
    State.WARNING: phrase("Needs attention", "Necesita atención"),
    State.ENDED: phrase("Token ended", "Token caducado"),
    State.WAITING: phrase("Disconnected", "Desconectada"),
    State.ENDING: phrase("Ending soon", "Caduca pronto"),
    State.UNKNOWN: phrase("Not known yet", "Sin datos aún"),
    State.OK: phrase("Working", "Funciona"),
    State.NEVER_EXPIRES: phrase("Never expires", "No caduca"),
}

TEXTS: Final[Mapping[str, Phrase]] = {
    "title": phrase("WhatsApp lines", "Líneas de WhatsApp"),
    "skip": phrase("Skip to the lines", "Ir a las líneas"),
    "summary": phrase("Summary", "Resumen"),
    "attention": phrase("need attention", "necesitan atención"),
    "attention_one": phrase("needs attention", "necesita atención"),
    "ends_soon": phrase("{} end soon", "{} caducan pronto"),
    "ends_soon_one": phrase("1 ends soon", "1 caduca pronto"),
    "not_known": phrase("{} not known yet", "{} sin datos aún"),
    "of_lines": phrase("of {} lines", "de {} líneas"),
    "of_one_line": phrase("of 1 line", "de 1 línea"),
    "lines": phrase("Lines", "Líneas"),
    "all_well": phrase("all lines are well", "todas las líneas están bien"),
    "no_lines": phrase("no line has a token", "ninguna línea tiene token"),
    "soonest": phrase("Soonest end", "Próxima caducidad"),
    "none_ends": phrase("No token has a known end", "No se conoce la caducidad de ningún token"),
    "last_run": phrase("Last run", "Última ejecución"),
    "looked_at": phrase("Looked at, without a run", "Consultado, sin ejecución"),
    "went_well": phrase("finished; nothing failed", "terminó; nada falló"),
    "with_failures": phrase("finished; some lines failed", "terminó; algunas líneas fallaron"),
    "undelivered": phrase("finished; an alert was not delivered", "terminó; no se entregó un aviso"),
    "was_interrupted": phrase("was interrupted", "fue interrumpida"),
    "stopped": phrase("stopped early", "se detuvo antes de terminar"),
    "stale": phrase(
        "This page is older than 36 hours: the job that renews the tokens has stopped. "
        "Look at its schedule and its log.",
        "Esta página tiene más de 36 horas: la tarea que renueva los tokens se ha detenido. "
        "Revise su programación y su registro.",
    ),
    "timeline": phrase("Tokens that end in the next 60 days", "Tokens que caducan en los próximos 60 días"),
    "timeline_text": phrase(
        "{total} in all; at most {most} on one day.", "{total} en total; como máximo {most} en un día."
    ),
    "timeline_none": phrase("None.", "Ninguno."),
    "as_table": phrase("As a table", "Como tabla"),
    "day": phrase("Day", "Día"),
    "tokens": phrase("Tokens", "Tokens"),
    "find": phrase("Find a line", "Buscar una línea"),
    "find_hint": phrase("Name, number or id", "Nombre, número o id"),
    "state": phrase("State", "Estado"),
    "every_state": phrase("All", "Todos"),
    "shown": phrase("{shown} of {all} lines shown", "{shown} de {all} líneas a la vista"),
    "nothing_found": phrase("No line fits. Clear the search.", "Ninguna línea coincide. Borre la búsqueda."),
    "end": phrase("End", "Caducidad"),
    "renewed": phrase("Last renewal", "Última renovación"),
    "never": phrase("never", "nunca"),
    "unknown": phrase("not known", "se desconoce"),
    "cause": phrase("Cause", "Causa"),
    "ended": phrase(
        "Its token has ended, and no run has renewed it",
        "Su token ha caducado, y ninguna ejecución lo ha renovado",
    ),
    "to_do_ended": phrase(
        "Run the renewal now; if that fails, the customer must connect WhatsApp again",
        "Ejecute la renovación ahora; si falla, el cliente debe volver a conectar WhatsApp",
    ),
    "to_do": phrase("To do", "Qué hacer"),
    "reconnect": phrase("Reconnect WhatsApp", "Reconectar WhatsApp"),
    "left_out": phrase(
        "… and {} more that are well, and end later.", "… y {} más que están bien y caducan más tarde."
    ),
    "made": phrase("Made on {}", "Creada el {}"),
}
