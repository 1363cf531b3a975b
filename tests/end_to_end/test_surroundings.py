"""The command as cron, containers and people start it: with little around it, or with the wrong things."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import migrate
from world import ROOT

NAME = "Panadería Ñandú 🥐"
# What root may do although a file's mode forbids it.
OVERRIDES = "-dac_override,-dac_read_search"


@pytest.fixture
def database_url(sqlite_template, tmp_path):
    """A migrated database: what is around the program is the same for every kind."""
    shutil.copy(sqlite_template, tmp_path / "channels.sqlite3")
    return f"sqlite:///{tmp_path / 'channels.sqlite3'}"


@pytest.fixture
def program(tmp_path):
    """A copy of the program, in a folder with a name that needs quoting."""
    folder = tmp_path / "año nuevo" / "whatsapp token's refresh"
    folder.mkdir(parents=True)
    for path in (*ROOT.glob("*.py"), ROOT / "alembic.ini"):
        shutil.copy(path, folder)
    for name in ("whatsapp_tokens", "locale", "alembic"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture
def cron(world, tmp_path):
    """Run the program as cron does: only the settings in its environment, another folder, no terminal."""
    world.channel(name=NAME)
    world.channel("EAA-unknown-to-meta", name="Bakery North")

    def run(*options, program=ROOT, python=(), shell="", cwd=tmp_path, environment=None, **more):
        given = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | more
        launcher = ["/bin/sh", "-c", f'exec "$@" {shell}', "sh"] if shell else []
        script = [] if "-c" in python else [str(Path(program) / "refresh_tokens.py")]
        return subprocess.run(
            [*launcher, sys.executable, *python, *script, *options],
            env=world.env | (environment or {}),
            cwd=cwd,
            text=True,
            encoding="utf-8",
            errors="surrogateescape",
            check=False,
            **given,
        )

    return run


def lines(done):
    """What a run said of its two channels, and its last line."""
    shown = [line for line in done.stdout.splitlines() if line[:7].strip() in {"renewed", "failed"}]
    return [line.split()[0] for line in shown], done.stdout.splitlines()[-1]


WELL = (["renewed", "failed"], "2 due of 2 channels with a token")


def without_privileges(arguments):
    """Let root have no more rights than a file's mode gives it."""
    if os.geteuid() != 0:
        return arguments
    if shutil.which("setpriv") is None:
        pytest.skip("root needs setpriv to have no more rights than others")
    return ["setpriv", f"--bounding-set={OVERRIDES}", f"--inh-caps={OVERRIDES}", *arguments]


# -- the environment


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"HOME": "/nonexistent"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"LC_ALL": "xx_XX.UTF-8"},
        {"PYTHONIOENCODING": "ascii"},
        {"TZ": "America/Argentina/Buenos_Aires"},
        {"TZ": ":no such zone:"},
        {"TERM": "dumb", "COLUMNS": "1", "LINES": "0"},
        {"PYTHONWARNINGS": "error"},
        {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONNOUSERSITE": "1", "PYTHONSAFEPATH": "1"},
        {"PYTHONDEVMODE": "1"},
        {"TMPDIR": "/nonexistent"},
    ],
    ids=lambda environment: ",".join(f"{name}={value}" for name, value in environment.items()) or "nothing",
)
def test_a_run_goes_well_in_every_environment(cron, environment):
    done = cron(environment=environment)
    assert (done.returncode, done.stderr, lines(done)) == (1, "", WELL)


@pytest.mark.parametrize("flags", ["-O", "-OO", "-I", "-P", "-bb", "-Werror", "-Xutf8=0"])
def test_a_run_goes_well_with_every_flag_of_python(cron, flags):
    done = cron(python=[flags])
    assert (done.returncode, done.stderr, lines(done)) == (1, "", WELL)


def test_names_arrive_as_they_are_where_the_output_can_hold_them_and_escaped_where_it_cannot(cron):
    shown = [
        cron("--dry-run", environment=environment).stdout
        for environment in (
            {"LANG": "C"},  # Python itself chooses UTF-8 there
            {"PYTHONIOENCODING": "latin-1"},
        )
    ]
    assert [NAME in shown[0], r"\U0001f950" in shown[1]] == [True, True]


def test_the_document_is_the_same_in_a_locale_that_knows_no_accents(cron):
    plain, ascii_only = (
        json.loads(cron("--dry-run", "--json", environment=environment).stdout)["channels"]
        for environment in ({}, {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"})
    )
    assert (plain, NAME in {channel["name"] for channel in plain}) == (ascii_only, True)


def test_optional_variables_that_are_empty_are_as_good_as_none(cron):
    example = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    names = {line.lstrip("# ").partition("=")[0] for line in example if "=" in line}
    empty = {name: "" for name in names - REQUIRED if re.fullmatch(r"[A-Z_]+", name)}
    done = cron(environment=empty)
    assert (len(empty) > 25, done.returncode, done.stderr, lines(done)) == (True, 1, "", WELL)


REQUIRED = {
    "DATABASE_URL", "META_APP_ID", "META_APP_SECRET", "META_GRAPH_URL", "TOKEN_ENCRYPTION_KEY",
}  # fmt: skip


def test_variables_of_an_older_or_another_program_do_no_harm(cron):
    done = cron(environment={"ENCRYPTION_KEY": "old", "META_ACCESS_TOKEN": "old", "DATABASE_URL_OLD": "old"})
    assert (done.returncode, done.stderr, lines(done)) == (1, "", WELL)


def test_a_variable_that_hides_the_value_of_the_file_is_named(cron, world, tmp_path):
    path = tmp_path / "settings.env"
    path.write_text(f"META_APP_ID={world.env['META_APP_ID']}\n")
    path.chmod(0o600)
    done = cron("--env-file", str(path), environment={"META_APP_ID": ""})
    said = f"the environment sets it to nothing, which wins over its value in {path}; unset it there"
    assert (done.returncode, done.stderr.partition("ERROR   ")[2]) == (2, f"META_APP_ID: {said}\n")


# -- where it lies and where it is started


def test_a_path_with_spaces_accents_and_quotes_is_no_obstacle(cron, program):
    done = cron(program=program)
    assert (done.returncode, done.stderr, lines(done)) == (1, "", WELL)


@pytest.mark.parametrize("link", ["the script", "the folder"])
def test_a_symlink_leads_to_the_settings_beside_the_real_script(cron, world, program, tmp_path, link):
    (program / ".env").write_text("".join(f"{name}={value}\n" for name, value in world.env.items()))
    (program / ".env").chmod(0o600)
    world.env = {}
    at = tmp_path / "link"
    if link == "the script":
        at.mkdir()
        (at / "refresh_tokens.py").symlink_to(program / "refresh_tokens.py")
    else:
        at.symlink_to(program)
    done = cron(program=at)
    assert (done.returncode, done.stderr, lines(done)) == (1, "", WELL)


def test_a_relative_env_file_is_looked_for_where_the_user_stands(cron, world, tmp_path):
    (tmp_path / "conf").mkdir()
    path = tmp_path / "conf" / "production settings.env"
    path.write_text("".join(f"{name}={value}\n" for name, value in world.env.items()))
    path.chmod(0o600)
    world.env = {}
    done = cron("--env-file", "conf/production settings.env")
    assert (done.returncode, done.stderr, lines(done)) == (1, "", WELL)


def test_a_program_that_may_not_be_written_runs_all_the_same(world, program, tmp_path):
    world.channel()
    folders = [program, *(path for path in program.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        done = subprocess.run(
            without_privileges([sys.executable, str(program / "refresh_tokens.py")]),
            env=world.env | {"PATH": os.environ["PATH"]},
            cwd=program,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert (done.returncode, done.stderr, list(program.rglob("__pycache__"))) == (0, "", [])


def test_a_folder_that_was_deleted_meanwhile_is_no_place_to_fail(cron, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    script = 'rmdir ../gone && exec "$@"'
    done = subprocess.run(
        ["sh", "-c", script, "sh", sys.executable, str(ROOT / "refresh_tokens.py")],
        cwd=gone,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "DATABASE_URL" in done.stderr, "Traceback" in done.stderr) == (2, True, False)


def test_a_report_into_a_folder_that_may_not_be_written_names_it_and_the_run_goes_on(world, tmp_path):
    world.channel()
    folder = tmp_path / "read-only"
    folder.mkdir(mode=0o555)
    done = subprocess.run(
        without_privileges(
            [sys.executable, str(ROOT / "refresh_tokens.py"), "--report", "page.html"],
        ),
        env=world.env | {"PATH": os.environ["PATH"], "METRICS_FILE": "metrics.prom"},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.startswith("renewed "), "Traceback" in done.stderr) == (
        1,
        True,
        False,
    )
    assert "--report page.html could not be written: Permission denied" in done.stderr
    assert "METRICS_FILE" in done.stderr


@pytest.mark.parametrize(("mask", "mode"), [(0o077, 0o600), (0o027, 0o640), (0o022, 0o644)])
def test_new_files_have_the_mode_that_the_umask_gives_and_keep_it_if_someone_changes_it(
    cron, tmp_path, mask, mode
):
    names = ("page.html", "page.json", "metrics.prom")
    options = ("--report", "page.html", "--report", "page.json")
    environment = {"METRICS_FILE": str(tmp_path / "metrics.prom")}
    cron(*options, environment=environment, umask=mask)
    first = [(tmp_path / name).stat().st_mode & 0o777 for name in names]
    for name in names:
        (tmp_path / name).chmod(0o604)
    cron(*options, environment=environment, umask=mask)
    assert (first, [(tmp_path / name).stat().st_mode & 0o777 for name in names]) == ([mode] * 3, [0o604] * 3)


# -- its streams


def test_a_closed_stdin_is_no_obstacle(cron):
    done = cron(shell="<&-")
    assert (done.returncode, done.stderr, lines(done)) == (1, "", WELL)


@pytest.mark.parametrize(
    ("option", "closed", "code"),
    [
        ("--quiet", ">&-", 1),
        ("--json", ">&-", 1),
        ("--check", ">&-", 0),
        ("--dry-run", "2>&-", 0),
        ("--help", ">&-", 0),
        ("-v", "<&- >&- 2>&-", 1),
    ],
)
def test_closed_streams_change_no_exit_code(cron, option, closed, code):
    done = cron(option, shell=closed)
    assert (done.returncode, "Traceback" in done.stdout + done.stderr) == (code, False)


@pytest.mark.parametrize("option", [[], ["--json"], ["--check"]])
def test_a_full_disk_behind_stdout_is_said_and_the_run_is_written(cron, world, option):
    with Path("/dev/full").open("w") as full:
        done = cron(*option, stdout=full)
    assert (done.returncode, "could not be written (No space left on device)" in done.stderr) == (1, True)
    assert "Traceback" not in done.stderr


def test_without_any_place_for_temporary_files_a_document_is_written_all_the_same(cron):
    launcher = (
        "import runpy, sys, tempfile; tempfile._candidate_tempdir_list = lambda: ['/nonexistent'];"
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    done = cron("--json", python=["-c", launcher, str(ROOT / "refresh_tokens.py")])
    assert (done.returncode, done.stderr, len(json.loads(done.stdout)["channels"])) == (1, "", 2)


# -- columns and revisions of another version


def test_columns_that_the_program_does_not_know_are_left_alone(cron, world):
    world.rows.run('ALTER TABLE "Channel" ADD COLUMN plan TEXT')
    world.rows.run('ALTER TABLE "Channel" ADD COLUMN token_rotation INTEGER NOT NULL DEFAULT 7')
    world.rows.run("ALTER TABLE token_audit_log ADD COLUMN actor TEXT")
    done = cron()
    assert (done.returncode, done.stderr, lines(done)) == (1, "", WELL)
    assert world.rows.get(1)["token_rotation"] == 7


def test_a_newer_revision_does_not_keep_an_older_program_from_working(cron, world):
    world.rows.run("UPDATE whatsapp_token_alembic_version SET version_num = '9999'")
    done = cron()
    assert (done.returncode, done.stderr, lines(done)) == (1, "", WELL)


def test_alembic_says_that_a_newer_program_has_migrated_the_database(world):
    world.rows.run("UPDATE whatsapp_token_alembic_version SET version_num = '9999'")
    done = migrate(world.url)
    assert done.returncode != 0
    assert "was migrated by a newer version of this program (to 9999); update this one" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_column_of_a_newer_program_that_is_missing_is_named_with_what_to_run(cron, world):
    world.rows.run('ALTER TABLE "Channel" DROP COLUMN token_lease_until')
    world.rows.run("DROP TABLE whatsapp_token_alembic_version")
    done = cron()
    assert (done.returncode, "lacks token_lease_until" in done.stderr) == (2, True)
    assert "run: alembic upgrade head" in done.stderr


# -- alembic


@pytest.mark.parametrize("link", [False, True])
def test_alembic_finds_the_settings_beside_the_script_from_any_folder(world, program, tmp_path, link):
    new = tmp_path / "new.sqlite3"
    (program / ".env").write_text(f"DATABASE_URL=sqlite:///{new}\n")
    (program / ".env").chmod(0o600)
    if link:
        (tmp_path / "link").symlink_to(program)
    done = migrate(None, root=tmp_path / "link" if link else program, cwd=tmp_path)
    assert (done.returncode, new.exists()) == (0, True)


def test_alembic_takes_another_file_of_settings(tmp_path):
    new, path = tmp_path / "new.sqlite3", tmp_path / "other.env"
    path.write_text(f"DATABASE_URL=sqlite:///{new}\n")
    done = migrate(None, "-x", "env-file=other.env", "upgrade", "head", cwd=tmp_path)
    assert (done.returncode, new.exists()) == (0, True)


def test_alembic_says_that_the_file_of_settings_is_not_there(tmp_path):
    done = migrate(None, "-x", "env-file=other.env", "upgrade", "head", cwd=tmp_path)
    assert done.stdout.strip().endswith("there is no file other.env, which -x env-file names")
