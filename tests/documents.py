"""The documents, read as Markdown: headings with GitHub's anchors, links, blocks of code, tables."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token
from world import ROOT

LEFT_OUT = {".venv", ".git", "node_modules", ".pytest_cache", ".ruff_cache", ".mypy_cache", ".hypothesis"}
DOCUMENTS = sorted(path for path in ROOT.rglob("*.md") if not LEFT_OUT & set(path.relative_to(ROOT).parts))


@dataclass(frozen=True)
class Document:
    """One Markdown file."""

    path: Path

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def _tokens(self) -> list[Token]:
        return MarkdownIt("gfm-like", {"linkify": False}).parse(self.text)

    @cached_property
    def headings(self) -> list[tuple[int, str]]:
        """The level and the text of each heading."""
        return [
            (int(opening.tag[1]), self._tokens[at + 1].content)
            for at, opening in enumerate(self._tokens)
            if opening.type == "heading_open"
        ]

    @cached_property
    def anchors(self) -> set[str]:
        """What a link may name behind #, made from the headings as GitHub does."""
        seen: Counter[str] = Counter()
        found = set()
        for _, heading in self.headings:
            shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
            slug = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
            found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
            seen[slug] += 1
        return found

    @cached_property
    def links(self) -> list[str]:
        """Where links and pictures lead, those in HTML too."""
        inline = [child for token in self._tokens for child in token.children or ()]
        found = [
            one.attrGet("href") or one.attrGet("src") for one in inline if one.type in {"link_open", "image"}
        ]
        return [str(one) for one in found] + re.findall(
            r'<(?:img|a)\b[^>]*\b(?:src|href)="([^"]+)"', self.text
        )

    def blocks(self, language: str) -> list[str]:
        """The blocks of code in a language."""
        return [one.content for one in self._tokens if one.type == "fence" and one.info == language]

    @cached_property
    def commands(self) -> list[str]:
        """What stands behind a $ in the blocks of console, without the comments."""
        lines = [line for block in self.blocks("console") for line in block.splitlines()]
        return [re.sub(r"\s+# .*", "", line[2:]) for line in lines if line.startswith("$ ")]

    @cached_property
    def tables(self) -> list[list[list[str]]]:
        """Each table as rows of cells, its head first."""
        found: list[list[list[str]]] = []
        for at, token in enumerate(self._tokens):
            match token.type:
                case "table_open":
                    found.append([])
                case "tr_open":
                    found[-1].append([])
                case "th_open" | "td_open":
                    found[-1][-1].append(self._tokens[at + 1].content)
        return found


def machine_words(text: str) -> list[str]:
    """What is written between backticks."""
    return re.findall(r"`([^`]+)`", text)


def all_documents() -> Iterator[Document]:
    """Every Markdown file of the project."""
    return map(Document, DOCUMENTS)
