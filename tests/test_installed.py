"""What is said by a Python that cannot run the program, and on the first run."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import venv
from importlib.metadata import packages_distributions

import pytest
from test_requirements import asked_for
from world import ROOT

from whatsapp_tokens import installed

NAMES = ["DATABASE_URL", "META_APP_ID", "META_APP_SECRET", "TOKEN_ENCRYPTION_KEY"]


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory):
    """A Python without any packages."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False, symlinks=True)
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """The program as it is after `make install`: its files, and a virtual environment beside them."""
    folder = tmp_path_factory.mktemp("opt") / "whatsapp token refresh"
    folder.mkdir()
    for name in (
        "crypto.py",
        "meta_client.py",
        "models.py",
        "notify.py",
        "refresh_tokens.py",
        ".env.example",
    ):
        shutil.copy(ROOT / name, folder)
    for name in ("whatsapp_tokens", "locale"):
        shutil.copytree(ROOT / name, folder / name)
    venv.create(folder / ".venv", with_pip=False, symlinks=True)
    (site_packages,) = (folder / ".venv").glob("lib/python*/site-packages")
    (site_packages / "installed.pth").write_text(
        "\n".join(path for path in sys.path if "site-packages" in path)
    )
    return folder


def run(python, script, cwd, **environment):
    return subprocess.run(
        [str(python), str(script)],
        cwd=cwd,
        env={"PATH": os.environ["PATH"]} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_python_without_the_packages_says_in_two_lines_what_is_missing_and_what_to_run(bare_python):
    done = run(bare_python, "refresh_tokens.py", ROOT)
    missing, what_to_run = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    assert missing.startswith(f"{bare_python} lacks packages that this program needs: apprise, babel, click")
    assert what_to_run == "Run: make install, then: .venv/bin/python refresh_tokens.py"


def test_from_another_folder_the_paths_are_absolute(bare_python, tmp_path):
    done = run(bare_python, ROOT / "refresh_tokens.py", tmp_path)
    assert done.stderr.splitlines()[1] == (
        f"Run: make -C {ROOT} install, then: {ROOT}/.venv/bin/python {ROOT}/refresh_tokens.py"
    )


def test_a_python_that_is_too_old_is_told_so(monkeypatch):
    monkeypatch.setattr(installed.sys, "version_info", (3, 9, 2))
    monkeypatch.chdir(ROOT)
    assert installed.what_is_missing().splitlines() == [
        f"{sys.executable} is Python 3.9; 3.11 or newer is needed",
        "Run: make PYTHON=python3.11 install, then: .venv/bin/python refresh_tokens.py",
    ]


@pytest.mark.parametrize(
    "name", ["refresh_tokens.py", "whatsapp_tokens/__init__.py", "whatsapp_tokens/installed.py"]
)
def test_an_old_python_can_read_what_tells_it_so(name):
    ast.parse((ROOT / name).read_text(encoding="utf-8"), feature_version=(3, 8))


def test_the_packages_that_are_looked_for_are_those_that_the_program_needs():
    found = packages_distributions()
    looked_for = {found[package][0].casefold().replace("_", "-") for package in installed.PACKAGES}
    assert looked_for | {"alembic"} == {requirement.name for requirement in asked_for("runtime")}


@pytest.mark.parametrize("where", ["here", "elsewhere", "through a symlink"])
def test_the_first_run_says_in_five_lines_what_to_do_next(fresh, tmp_path, where):
    python, script = fresh / ".venv/bin/python", fresh / "refresh_tokens.py"
    if where == "through a symlink":
        (tmp_path / "link").symlink_to(fresh)
        (tmp_path / "refresh").symlink_to(tmp_path / "link/refresh_tokens.py")
        script = tmp_path / "refresh"
    done = run(python, script, fresh if where == "here" else tmp_path)
    lines = [line.partition("  # ")[0].strip() for line in done.stderr.splitlines()]
    assert (done.returncode, done.stdout, [name for name in NAMES if name not in lines[0]]) == (2, "", [])
    at, make = ("", "make") if where == "here" else (f"{fresh}/", f"make -C '{fresh}'")
    ini = "" if where == "here" else f" -c '{at}alembic.ini'"

    def typed(path):
        return f"'{at}{path}'" if at else path

    assert lines[1:] == [
        f"cp {typed('.env.example')} {typed('.env')} && chmod 600 {typed('.env')}",
        f"{typed('.venv/bin/alembic')}{ini} upgrade head",
        f"{typed('.venv/bin/python')} {typed('refresh_tokens.py')} --check",
        f"{make} demo",
    ]


def test_what_the_first_run_says_can_be_typed(fresh, tmp_path):
    done = run(fresh / ".venv/bin/python", fresh / "refresh_tokens.py", tmp_path)
    copy = done.stderr.splitlines()[1]
    subprocess.run(["sh", "-c", copy], cwd=tmp_path, check=True)
    try:
        done = run(fresh / ".venv/bin/python", fresh / "refresh_tokens.py", tmp_path)
    finally:
        (fresh / ".env").unlink()
    told = [line.split()[2] for line in done.stderr.splitlines()]
    assert (done.returncode, sorted(told)) == (2, [f"{name}:" for name in NAMES])


def test_one_required_setting_is_enough_to_be_told_of_each_other_one(fresh, tmp_path):
    done = run(fresh / ".venv/bin/python", fresh / "refresh_tokens.py", tmp_path, META_APP_ID="1")
    told = [line.split()[2] for line in done.stderr.splitlines()]
    assert sorted(told) == [f"{name}:" for name in NAMES if name != "META_APP_ID"]


def test_the_check_on_the_first_run_says_the_same(fresh):
    done = subprocess.run(
        [fresh / ".venv/bin/python", "refresh_tokens.py", "--check"],
        cwd=fresh,
        env={},
        capture_output=True,
        text=True,
        check=False,
    )
    first, *steps = done.stdout.splitlines()
    assert (done.returncode, done.stderr, len(steps)) == (2, "", 4)
    assert first.startswith(
        "PROBLEM  settings: DATABASE_URL, META_APP_ID, META_APP_SECRET and TOKEN_ENCRYPTION_KEY "
    )
