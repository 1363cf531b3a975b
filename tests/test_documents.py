"""Links in documents lead somewhere, READMEs are short, and the settings are as docs/settings.md says."""

from __future__ import annotations

import re
from typing import Any

import pytest
from documents import DOCUMENTS, Document, machine_words
from world import ROOT

from whatsapp_tokens import settings
from whatsapp_tokens.environment import Reader
from whatsapp_tokens.settings import Settings

READMES = ["README.md", "README.es.md"]
REQUIRED = {
    "DATABASE_URL": "sqlite:////var/lib/app/channels.sqlite3",
    "META_APP_ID": "100000000000001",
    "META_APP_SECRET": "0" * 32,
    "TOKEN_ENCRYPTION_KEY": "0" * 64,
}


def names(documents):
    return [str(path.relative_to(ROOT)) for path in documents]


# -- links


@pytest.mark.parametrize("name", names(DOCUMENTS))
def test_every_link_to_a_file_or_a_heading_leads_there(name):
    document = Document(ROOT / name)
    broken = []
    for link in document.links:
        if re.match(r"[a-z]+:", link):  # https:, mailto:
            continue
        file, _, anchor = link.partition("#")
        target = (document.path.parent / file).resolve() if file else document.path
        if not target.exists() or (anchor and anchor not in Document(target).anchors):
            broken.append(link)
    assert broken == []


def test_every_document_is_linked_from_another_one():
    linked = {
        (document.path.parent / link.partition("#")[0]).resolve()
        for document in map(Document, DOCUMENTS)
        for link in document.links
        if not re.match(r"[a-z]+:|#", link)
    }
    assert [name for name in names(set(DOCUMENTS) - linked) if name != "README.md"] == []


# -- the READMEs


@pytest.mark.parametrize("name", READMES)
def test_a_readme_has_at_most_200_lines_of_at_most_120_columns(name):
    lines = Document(ROOT / name).text.splitlines()
    assert (len(lines) <= 200, [line for line in lines if len(line) > 120]) == (True, [])


# -- docs/settings.md


class Noting(Reader):
    """A reader that notes what each setting is: its default, whether it is secret, and its range."""

    noted: dict[str, dict[str, Any]]

    def text(self, name, default):
        self.noted.setdefault(name, {"default": default})
        return super().text(name, default)

    def parsed(self, name, default, parse, *, required=False):
        self.noted[name] = {"default": "required" if required else default}
        return super().parsed(name, default, parse, required=required)

    def number(self, name, default, *, whole=False, least=0, most):
        self.noted[name] = {"default": default, "range": f"{least:g} to {most:g}"}
        return super().number(name, default, whole=whole, least=least, most=most)

    def secret(self, name, parse, *, required=True, has_parts=True):
        self.noted[name] = {"default": "required" if required else None, "secret": True}
        return super().secret(name, parse, required=required, has_parts=has_parts)


@pytest.fixture
def noted(monkeypatch):
    """What each setting is, by its name, as the program reads it."""
    found = {}
    monkeypatch.setattr(Noting, "noted", found, raising=False)
    monkeypatch.setattr(settings, "Reader", Noting)
    Settings.from_env(REQUIRED)
    return found


def documented():
    """The default and the text of each setting, by its name, as the document says."""
    rows = [row for table in Document(ROOT / "docs/settings.md").tables for row in table[1:]]
    assert len(rows) == len({row[0] for row in rows})
    return {machine_words(name)[0]: (default, text) for name, default, text in rows}


def shown(setting):
    """The default of a setting as the document writes it."""
    default = setting["default"]
    if default in (None, "", "required"):
        text = default or "none"
    else:
        text = f"`{default}`" if isinstance(default, str) else f"{default:g}"
    return text + (", secret" if "secret" in setting else "")


def test_the_document_has_each_setting_with_its_default_and_whether_it_is_secret(noted):
    assert {name: default for name, (default, _) in documented().items()} == {
        name: shown(setting) for name, setting in noted.items()
    }


def test_the_document_and_the_example_name_the_range_of_each_number(noted):
    ranges = {name: setting["range"] for name, setting in noted.items() if "range" in setting}
    texts = {name: text for name, (_, text) in documented().items()}
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    before = {name: re.search(rf"((?:^# .*\n)+)# {name}=", example, re.MULTILINE)[1] for name in ranges}
    assert [name for name, range_ in ranges.items() if range_ not in texts[name]] == []
    assert [name for name, range_ in ranges.items() if range_ not in before[name]] == []
