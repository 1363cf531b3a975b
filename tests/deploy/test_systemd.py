"""The units of deploy/, as systemd-analyze judges them; and the job under what its unit takes away."""

from __future__ import annotations

import re
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confinement import confined, may_confine, reachable
from conftest import only_postgresql
from installed import install, mapped, write_settings
from world import ROOT

UNITS = ROOT / "deploy"
SERVICE = UNITS / "whatsapp-token-refresh.service"
TIMER = UNITS / "whatsapp-token-refresh.timer"
FAILED = UNITS / "whatsapp-token-refresh-failed@.service"
SECRETS = ("DATABASE_URL", "META_APP_SECRET", "TOKEN_ENCRYPTION_KEY")

analyzed = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")


def read(unit: Path) -> dict[str, list[str]]:
    """Return the values of each setting, in order."""
    found = defaultdict(list)
    for line in unit.read_text(encoding="utf-8").splitlines():
        if re.match(r"[A-Z]\w+=", line):
            name, _, value = line.partition("=")
            found[name].append(value)
    return found


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def program():
    """Install the program where every user may read it."""
    folder = Path(tempfile.mkdtemp(prefix="whatsapp-token-refresh-", dir="/var/tmp"))
    folder.chmod(0o755)
    yield install(folder / "program")
    shutil.rmtree(folder)


@analyzed
def test_systemd_finds_nothing_wrong_with_the_units(program, tmp_path):
    for unit in (SERVICE, TIMER, FAILED):
        text = mapped(unit.read_text(encoding="utf-8"), program)
        (tmp_path / unit.name).write_text(text.replace("/usr/sbin/sendmail", "/bin/true"))
    units = [str(tmp_path / unit.name) for unit in (SERVICE, TIMER, FAILED)]
    done = analyze("verify", *units)
    assert (done.returncode, [line for line in done.stderr.splitlines() if "whatsapp" in line]) == (0, [])


@analyzed
def test_systemd_calls_the_job_well_protected():
    done = analyze("security", "--offline=yes", "--threshold=15", "--no-pager", str(SERVICE))
    assert done.returncode == 0, done.stdout


@analyzed
def test_the_timer_starts_the_job_once_a_day_at_an_hour_of_utc():
    timer = read(TIMER)
    (when,) = timer["OnCalendar"]
    assert when.endswith(" UTC")
    (elapses,) = re.findall(r"Next elapse: .* (\d\d:\d\d):00 UTC", analyze("calendar", when).stdout)
    assert elapses == "04:37"
    assert (timer["Persistent"], timer["RandomizedDelaySec"]) == (["true"], ["15min"])


def test_exit_codes_mean_what_the_unit_says():
    service = read(SERVICE)
    assert (service["SuccessExitStatus"], service["Restart"]) == (["143"], ["no"])
    assert service["OnFailure"] == ["whatsapp-token-refresh-failed@%n.service"]
    assert service["TimeoutStopSec"] == ["90s"]


class Unit:
    """The service on this machine: its command, environment and restrictions, with paths replaced."""

    def __init__(self, world, program: Path) -> None:
        self.world = world
        self.credentials = program.parent / "credentials"
        self.credentials.mkdir(exist_ok=True)
        self.service = read(SERVICE)
        self.options: list[str] = []
        self.writable: list[Path] = []
        self.text = {"%d": str(self.credentials), "%n": SERVICE.name}
        self.program = program

    def _expand(self, value: str) -> str:
        return mapped(value, self.program, **self.text)

    def load_credentials(self) -> None:
        """LoadCredential=: /etc/whatsapp-token-refresh is laid out as docs/deployment.md says."""
        settings = dict(self.world.env)
        sources = {name.lower(): settings.pop(name) for name in SECRETS}
        example = (UNITS / "settings.env.example").read_text(encoding="utf-8")
        by_hand = example.replace("META_APP_ID=\n", "")  # names the files that a run by hand reads
        write_settings(self.credentials / "settings.env", settings, above=by_hand)
        for name, value in sources.items():
            (self.credentials / name).write_text(f"{value}\n")
        named = {entry.partition(":")[0] for entry in self.service["LoadCredential"]}
        assert named == {"settings.env", *sources}
        for path in self.credentials.iterdir():
            path.chmod(0o440)  # as an access list shows

    def environment(self) -> dict[str, str]:
        given = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/", "LANG": "C.UTF-8"}
        given["CREDENTIALS_DIRECTORY"] = str(self.credentials)
        for entry in self.service["Environment"]:
            name, _, value = entry.strip('"').partition("=")
            given[name] = self._expand(value)
        return given

    def command(self) -> list[str]:
        (line,) = self.service["ExecStart"]
        before, _, after = line.partition("$OPTIONS")
        return [*shlex.split(self._expand(before)), *self.options, *shlex.split(after)]

    def restrictions(self) -> dict[str, Any]:
        allowed: set[str] = set()
        for entry in self.service["SystemCallFilter"]:
            named = {call for word in entry.lstrip("~").split() for call in calls_of(word)}
            allowed = allowed - named if entry.startswith("~") else allowed | named
        families = [int(getattr(socket, name)) for name in self.service["RestrictAddressFamilies"][0].split()]
        return {
            "writable": [str(path) for path in self.writable],
            "syscalls": sorted(allowed),
            "families": families,
            "umask": self.service["UMask"][0],
        }

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            confined(self.command(), **self.restrictions()),
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *options: str) -> tuple[int, str, str]:
        self.options = list(options)
        process = self.start()
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err


def calls_of(word: str) -> set[str]:
    """Return the system calls of a group, as `systemd-analyze` lists them."""
    if not word.startswith("@"):
        return {word}
    lines = analyze("syscall-filter", "--no-pager", word).stdout.splitlines()[1:]
    words = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    return {call for each in words for call in calls_of(each)}


@pytest.fixture
def unit(world, program) -> Iterator[Unit]:
    if not may_confine():
        pytest.skip("only root may make a mount namespace")
    made = Unit(world, program)
    made.load_credentials()
    with reachable(world.url):
        yield made


@analyzed
@only_postgresql
def test_the_job_runs_under_all_that_its_unit_takes_away(unit, world):
    world.env["META_GRAPH_URL"] = world.meta.url.replace("127.0.0.1", "localhost")  # a name to look up
    unit.load_credentials()
    good = world.channel()
    page = unit.credentials.parent / "www"
    page.mkdir(mode=0o770)
    page.chmod(0o2770)
    unit.writable = [page]
    code, out, err = unit.run("--report", str(page / "status.html"))
    assert (code, err) == (0, ""), out
    assert "Renewed: 1" in out
    assert world.events(good) == ["refreshed"]
    assert stat.S_IMODE((page / "status.html").stat().st_mode) == 0o640


@analyzed
@only_postgresql
def test_a_page_where_the_unit_may_not_write_makes_the_run_fail_after_it_has_renewed(unit, world):
    good = world.channel()
    code, _, err = unit.run("--report", str(unit.credentials.parent / "status.html"))
    assert (code, world.events(good)) == (1, ["refreshed"])
    assert "Read-only file system" in err


@analyzed
@only_postgresql
def test_stopping_the_unit_is_a_success_to_systemd(unit, world):
    for _ in range(3):
        world.channel()
    world.env["WORKERS"] = "1"
    unit.load_credentials()
    world.meta.latency = 1.0
    started = threading.Event()
    world.meta.on_request = lambda _: started.set()
    with unit.start() as process:
        assert started.wait(60)
        process.send_signal(signal.Signals[unit.service["KillSignal"][0]])
        process.communicate(timeout=90)
        assert str(process.returncode) in unit.service["SuccessExitStatus"]


def test_a_failure_is_mailed_with_the_log_of_that_run(tmp_path):
    (line,) = read(FAILED)["ExecStart"]
    command = [
        word.replace("%i", SERVICE.name).replace("%H", "host").replace("%%", "%").replace("\\n", "\n")
        for word in shlex.split(line)
    ]
    mail, asked = tmp_path / "mail", tmp_path / "asked"
    for name, script in {
        "journalctl": f"echo \"$*\" >{asked}; echo 'failed   Bakery North (1): reconnect_required'",
        "sendmail": f'[ "$*" = -t ] && cat >{mail}',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    environment = dict(entry.split("=", 1) for entry in read(FAILED)["Environment"])
    subprocess.run(
        [word.replace("/usr/sbin/sendmail", str(tmp_path / "sendmail")) for word in command],
        env=environment
        | {
            "PATH": f"{tmp_path}:/usr/bin:/bin",
            "MONITOR_EXIT_STATUS": "1",
            "MONITOR_INVOCATION_ID": "c0",
        },
        check=True,
    )
    assert mail.read_text().splitlines() == [
        "To: root",
        "Subject: whatsapp-token-refresh.service failed on host (1)",
        "",
        "failed   Bakery North (1): reconnect_required",
    ]
    assert asked.read_text().endswith("_SYSTEMD_INVOCATION_ID=c0\n")
