"""Details as facts: what is stored and shown of a failure, made so that it can be translated piece by piece.

A detail is facts joined by `"; "`, and a fact is a fixed English phrase, or `phrase: value`. The phrase is a
gettext message: `fact` marks it, so Babel finds it, and `reports.language` looks it up when people are told.
"""

from __future__ import annotations


def fact(phrase: str, value: object = "") -> str:
    """Return one fact. `phrase` is a literal (Babel reads it in the source), `value` is shown as it stands.

    >>> fact("data access expires", date(2026, 12, 5))
    'data access expires: 2026-12-05'
    """
    return f"{phrase}: {value}" if str(value) else phrase


def facts(*parts: str) -> str:
    """Return a detail: the facts that are not empty, joined."""
    return "; ".join(filter(None, parts))
