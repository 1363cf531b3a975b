"""The files of requirements: what pyproject.toml asks for, pinned and hashed for every platform."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import distribution
from itertools import pairwise
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

ROOT = Path(__file__).parents[1]
FILES = {
    "runtime": "requirements.txt",
    "dev": "requirements-dev.txt",
    "benchmarks": "benchmarks/requirements.txt",
}
each_group = pytest.mark.parametrize("group", FILES)


@dataclass(frozen=True, slots=True)
class Pin:
    """One package of a compiled file: what is installed, its hashes, and what asks for it."""

    requirement: Requirement
    hashes: tuple[str, ...]
    asked_by: frozenset[str]

    @property
    def name(self) -> NormalizedName:
        return canonicalize_name(self.requirement.name)


def compiled(group: str) -> dict[NormalizedName, Pin]:
    """Return the packages of a group's file, by name."""
    text = (ROOT / FILES[group]).read_text(encoding="utf-8")
    starts = [match.start() for match in re.finditer(r"^[a-z]", text, re.MULTILINE)]
    pins = [pin_of(text[start:end]) for start, end in pairwise([*starts, len(text)])]
    assert pins
    return {pin.name: pin for pin in pins}


def pin_of(block: str) -> Pin:
    lines = [line.strip().removesuffix("\\").strip() for line in block.splitlines()]
    comments = [
        line.removeprefix("#").strip().removeprefix("via").strip() for line in lines if line[:1] == "#"
    ]
    hashes = [line for line in lines if line.startswith("--hash=")]
    assert len(lines) == 1 + len(comments) + len(hashes)
    return Pin(Requirement(lines[0]), tuple(hashes), frozenset(filter(None, comments)))


def asked_for(group: str) -> Iterator[Requirement]:
    """Yield what a group of pyproject.toml asks for, with the groups that it includes."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
    for entry in groups[group]:
        if isinstance(entry, dict):
            yield from asked_for(entry["include-group"])
        else:
            yield Requirement(entry)


def test_every_group_has_its_file():
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
    assert set(groups) == set(FILES)


@each_group
def test_every_package_is_pinned_and_hashed(group):
    loose = [
        name
        for name, pin in compiled(group).items()
        if not re.fullmatch(r"==[\w.]+", str(pin.requirement.specifier))
        or not pin.hashes
        or not all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", digest) for digest in pin.hashes)
    ]
    assert loose == []


@each_group
def test_the_file_holds_what_its_group_asks_for(group):
    pins = compiled(group)
    asked = {canonicalize_name(requirement.name): requirement for requirement in asked_for(group)}
    assert {name for name, pin in pins.items() if f"(pyproject.toml:{group})" in pin.asked_by} == set(asked)
    for name, requirement in asked.items():
        version = str(pins[name].requirement.specifier).removeprefix("==")
        assert requirement.specifier.contains(version)
        assert requirement.extras <= pins[name].requirement.extras


@each_group
def test_the_file_holds_nothing_that_no_package_of_it_asks_for(group):
    pins = compiled(group)
    known = {*pins, f"(pyproject.toml:{group})", "-c requirements.txt"}
    assert {name: pin.asked_by - known for name, pin in pins.items() if pin.asked_by - known} == {}
    assert [name for name, pin in pins.items() if not pin.asked_by - {"-c requirements.txt"}] == []


@each_group
def test_all_files_agree_on_the_version_of_what_the_program_needs(group):
    runtime = compiled("runtime")
    differ = {
        name
        for name, pin in compiled(group).items()
        if name in runtime and pin.hashes != runtime[name].hashes
    }
    assert differ == set()


@pytest.mark.parametrize("group", ["runtime", "dev"])
def test_the_file_is_complete_for_what_its_packages_say_they_need(group):
    """The installed packages say what they need: on this machine, everything that applies is in the file."""
    pins = compiled(group)
    missing = set()
    for name, pin in pins.items():
        if pin.requirement.marker is not None and not pin.requirement.marker.evaluate():
            continue
        for text in distribution(name).requires or ():
            needed = Requirement(text)
            extras = {"", *pin.requirement.extras}
            if needed.marker is not None and not any(
                needed.marker.evaluate({"extra": extra}) for extra in extras
            ):
                continue
            found = pins.get(canonicalize_name(needed.name))
            if found is None or not needed.specifier.contains(str(found.requirement.specifier)[2:]):
                missing.add(f"{name} needs {needed}")
    assert missing == set()


@pytest.mark.parametrize("group", ["runtime", "dev"])
def test_what_is_installed_here_is_what_the_file_says(group):
    other = {
        name: distribution(name).version
        for name, pin in compiled(group).items()
        if (pin.requirement.marker is None or pin.requirement.marker.evaluate())
        and not pin.requirement.specifier.contains(distribution(name).version)
    }
    assert other == {}


@pytest.mark.parametrize(
    "file", ["Makefile", ".ci/run", ".github/workflows/refresh-tokens.yml", "deploy/Dockerfile"]
)
def test_nothing_is_installed_without_its_hashes(file):
    text = (ROOT / file).read_text(encoding="utf-8")
    installs = [line for line in text.splitlines() if re.search(r"\bpip install\b", line)]
    assert [line for line in installs if "--require-hashes" not in line] == []
