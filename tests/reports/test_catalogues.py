"""The catalogues of `locale/` against the source: nothing missing, nothing stale, the same placeholders."""

from __future__ import annotations

import re
import tomllib
from functools import cache

import pytest
from babel.messages.extract import DEFAULT_KEYWORDS, extract_from_dir, extract_from_file
from babel.messages.pofile import read_po
from world import ROOT

from whatsapp_tokens.reports.language import ENGLISH, Language
from whatsapp_tokens.settings import catalogue_path, languages

KEYWORDS = DEFAULT_KEYWORDS | {"fact": None, "Rule": (2,), "counted": (1, 2)}  # as in the Makefile
TRANSLATED = [code for code in languages() if code != "en"]
WITHOUT_VERB = {"Tokens"}  # the same word in every language


@cache
def extracted(names=tuple(KEYWORDS)):
    """Every message in the source, found as `make messages` finds it, or only those of some functions."""
    keywords = {name: KEYWORDS[name] for name in names}
    mappings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["babel"]["mappings"]
    methods = [(one["pattern"], one["method"]) for one in mappings]
    found = extract_from_dir(ROOT / "whatsapp_tokens", method_map=methods, keywords=keywords)
    messages = {message for _, _, message, _, _ in found}
    for name in ("crypto.py", "meta_client.py"):
        messages |= {message for _, message, _, _ in extract_from_file("python", ROOT / name, keywords)}
    return messages


@cache
def catalogue(code):
    with catalogue_path(code).open("rb") as file:
        return read_po(file, locale=code, abort_invalid=True)


def test_the_languages_are_the_folders_of_catalogues_and_english():
    assert languages() == ["en", "es", "pt"]


@pytest.mark.parametrize("code", TRANSLATED)
def test_a_catalogue_has_every_message_of_the_source_and_no_other(code):
    ids = {message.id for message in catalogue(code) if message.id}
    assert (sorted(map(str, extracted() - ids)), sorted(map(str, ids - extracted()))) == ([], [])


@pytest.mark.parametrize("code", TRANSLATED)
def test_every_message_is_translated_in_every_form_with_the_same_placeholders(code):
    wrong = []
    for message in catalogue(code):
        if message.id:
            ids, texts = (one if isinstance(one, tuple) else (one,) for one in (message.id, message.string))
            placeholders = [sorted(re.findall(r"\{\w*\}", text)) for text in (*ids, *texts)]
            same = all(found == placeholders[0] for found in placeholders)
            wrong += [] if all(texts) and same and len(ids) == len(texts) else [message.id]
    assert wrong == []


def test_no_phrase_of_a_detail_holds_what_separates_facts_and_values():
    phrases = extracted(("fact", "Rule"))
    assert ([one for one in phrases if "; " in one or ": " in one], len(phrases) > 20) == ([], True)


def test_a_message_without_a_translation_is_said_in_english():
    assert (Language("es").gettext("A new message"), ENGLISH.gettext("")) == ("A new message", "")
