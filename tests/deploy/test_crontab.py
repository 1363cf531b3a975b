"""deploy/crontab.example and logrotate.example, read as cron and logrotate read them."""

from __future__ import annotations

import grp
import os
import pwd
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import only_postgresql
from installed import install, mapped, write_settings
from world import ROOT, days

CRONTAB = ROOT / "deploy/crontab.example"
LOGROTATE = ROOT / "deploy/logrotate.example"


@dataclass
class Crontab:
    """What cron makes of a crontab: variables, and jobs with the variables that stand above them."""

    variables: dict[str, str] = field(default_factory=dict)
    jobs: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def read(cls, text: str) -> Crontab:
        found = cls()
        for line in filter(None, map(str.strip, text.splitlines())):
            if line.startswith("#"):
                continue
            if assignment := re.fullmatch(r"(\w+)\s*=\s*(.*)", line):
                found.variables[assignment[1]] = assignment[2].strip("\"'")
            else:
                *when, command = line.split(None, 5)
                found.jobs.append((" ".join(when), command))
        return found


class Cron:
    """Runs a command line as vixie cron does, with nothing in the environment but what cron gives."""

    def __init__(self, world, folder: Path, text: str) -> None:
        self.home = folder / "home"
        self.home.mkdir()
        self.program = install(folder / "opt with a space")
        write_settings(self.program / ".env", world.env)
        self.crontab = Crontab.read(text)

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run it; what it prints is what cron mails."""
        assert "%" not in command.replace("\\%", ""), "cron would end the command there"
        given = {"HOME": str(self.home), "LOGNAME": "whatsapp", "SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"}
        environment = given | self.crontab.variables
        line = mapped(command, self.program)
        return subprocess.run(
            [environment["SHELL"], "-c", line.replace(str(self.program), f"'{self.program}'")],
            env=environment,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.fixture
def crontab() -> Crontab:
    return Crontab.read(CRONTAB.read_text(encoding="utf-8"))


def commented_jobs() -> list[str]:
    """Return the commands of the jobs that stand in comments, to be chosen instead."""
    text = CRONTAB.read_text(encoding="utf-8")
    lines = re.findall(r"^#(\d.*)$", text, re.MULTILINE)
    return [command for _, command in Crontab.read("\n".join(lines)).jobs]


def test_cron_starts_one_job_once_a_day(crontab):
    ((when, command),) = crontab.jobs
    minute, hour, *rest = when.split()
    assert (0 < int(minute) < 60, 0 <= int(hour) < 24, rest) == (True, True, ["*", "*", "*"])
    assert command.endswith("refresh_tokens.py --quiet")


def test_cron_knows_who_gets_the_mail(crontab):
    assert crontab.variables == {"SHELL": "/bin/sh", "PATH": "/usr/bin:/bin", "MAILTO": "root"}


def test_a_renewal_is_no_mail_and_a_failure_is_one(world, tmp_path, crontab):
    cron = Cron(world, tmp_path, CRONTAB.read_text(encoding="utf-8"))
    ((_, command),) = crontab.jobs
    good = world.channel()
    done = cron.run(command)
    assert (done.returncode, done.stdout) == (0, "")
    assert world.events(good) == ["refreshed"]

    world.channel(world.token(valid=False), name="Bakery North")
    done = cron.run(command)
    assert done.returncode == 1
    assert "Bakery North" in done.stdout
    assert "reconnect_required" in done.stdout
    assert len(done.stdout.splitlines()) < 6


@only_postgresql
def test_the_other_lines_write_a_log_and_print_nothing(world, tmp_path):
    to_logger, to_file = commented_jobs()
    cron = Cron(world, tmp_path, CRONTAB.read_text(encoding="utf-8"))
    log, syslog = tmp_path / "runs.log", tmp_path / "syslog"
    logger = tmp_path / "bin/logger"
    logger.parent.mkdir()
    logger.write_text(f'#!/bin/sh\necho "$*" >>{syslog}\ncat >>{syslog}\n')
    logger.chmod(0o755)
    cron.crontab.variables["PATH"] = f"{logger.parent}:/usr/bin:/bin"
    world.channel(world.token(valid=False), name="Bakery North")

    done = cron.run(to_logger)
    assert (done.stdout, syslog.read_text().splitlines()[0]) == ("", "-t whatsapp-token-refresh")
    assert "Bakery North" in syslog.read_text()

    world.channel(name="Garage West", token_expires_at=world.now + days(10))
    for _ in range(2):
        done = cron.run(to_file.replace("/var/log/whatsapp-token-refresh/runs.log", str(log)))
        assert (done.returncode, done.stdout) == (1, "")
    assert log.read_text().count("Bakery North") >= 2
    assert "renewed  Garage West" in log.read_text()


def test_overlapping_runs_of_the_job_renew_each_channel_once(world, tmp_path, crontab):
    cron = Cron(world, tmp_path, CRONTAB.read_text(encoding="utf-8"))
    ((_, command),) = crontab.jobs
    for _ in range(3):
        world.channel()
    both = f"{command} & {command} & wait"
    done = cron.run(both)
    assert (done.returncode, len(world.meta.exchanges)) == (0, 3), done.stdout


@pytest.mark.skipif(not shutil.which("logrotate"), reason="logrotate is not installed")
def test_logrotate_reads_its_file_and_rotates_the_log(tmp_path):
    me = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
    text = LOGROTATE.read_text(encoding="utf-8")
    text = text.replace("/var/log/whatsapp-token-refresh/", f"{tmp_path}/")
    text = text.replace("whatsapp-token-refresh whatsapp-token-refresh", " ".join(me))
    config, log = tmp_path / "logrotate.conf", tmp_path / "runs.log"
    config.write_text(text)
    config.chmod(0o644)
    tmp_path.chmod(0o755)

    def logrotate(*options):
        done = subprocess.run(
            [shutil.which("logrotate"), "--state", str(tmp_path / "state"), *options, str(config)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, "error:" in done.stderr) == (0, False), done.stderr
        return done.stderr

    log.write_text("the run of today\n")
    assert "rotating pattern" in logrotate("--debug")
    for _ in range(3):
        logrotate("--force")
        log.write_text("another run\n")
    names = sorted(path.name for path in tmp_path.glob("runs.log*"))
    assert names == ["runs.log", "runs.log.1", "runs.log.2.gz", "runs.log.3.gz"]
