"""Why no channel is found: the table is empty, or a setting or a policy hides its rows."""

from __future__ import annotations

from whatsapp_tokens.commands.result import Finding, Level
from whatsapp_tokens.database.database import Database
from whatsapp_tokens.redaction import one_line, truncate

LONGEST_TYPE = 40  # characters


def why_no_channels(database: Database, type_: str) -> Finding:
    """Return why no candidate is in the table; `type_` is CHANNEL_TYPE. A problem keeps runs from working."""
    types = database.queries.other_types()
    if alike := [name for name in types if _is_alike(name, type_)]:
        there = ", ".join(f"{types[name]} of the type {_shown(name)}" for name in alike)
        text = f"CHANNEL_TYPE: no row is of the type {_shown(type_)}, but there are {there}; set it to that"
        return Finding("channels", Level.PROBLEM, text)
    if database.queries.hides_rows():
        text = "row-level security hides all rows from the database role: give it a policy that shows them"
        return Finding("channels", Level.PROBLEM, text)
    if types:
        there = ", ".join(f"{_shown(name)} ({count})" for name, count in types.items())
        text = f"CHANNEL_TYPE: no row is of the type {_shown(type_)}; the table has {there}"
        return Finding("channels", Level.WARNING, text)
    text = "no channel has an active WhatsApp token: there is nothing to do"
    return Finding("channels", Level.OK, text)


def _is_alike(name: str, type_: str) -> bool:
    """Return whether a type differs from ours only by case, quotes and spaces, or is also about WhatsApp."""
    return _plain(name) == _plain(type_) or "whatsapp" in _plain(name)


def _plain(name: str) -> str:
    return "".join(name.split()).strip("'\"`").casefold()


def _shown(name: str) -> str:
    """Return a type with quotation marks: what is wrong may be a space, or another kind of quotation mark."""
    return f"“{truncate(one_line(name), LONGEST_TYPE)}”"
