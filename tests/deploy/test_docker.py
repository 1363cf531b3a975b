"""The image and the compose file, step by step without Docker: no test here shows that Docker runs them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa
import yaml
from confinement import confined, may_confine, reachable
from receivers import closed_port
from world import ROOT

from whatsapp_tokens.database.url import parse_url

DOCKERFILE = ROOT / "deploy/Dockerfile"
COMPOSE = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text(encoding="utf-8"))
SERVICES = COMPOSE["services"]
NETWORK = re.compile(r"python -m venv|pip install")  # steps that would need a registry


def instructions(target: str) -> list[tuple[str, str]]:
    """Return the instructions of a stage, without those of the stages that it copies from."""
    text = re.sub(r"\\\n", " ", DOCKERFILE.read_text(encoding="utf-8"))
    found: dict[str, list[tuple[str, str]]] = {}
    stage = ""
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        if word == "FROM":
            stage = rest.split()[-1]
        if word.isupper() and stage:
            found.setdefault(stage, []).append((word, rest))
    return found[target]


def is_in_context(path: str) -> bool:
    """Return whether .dockerignore lets a file into the build: the last rule that fits decides."""
    inside = True
    for rule in (ROOT / ".dockerignore").read_text(encoding="utf-8").split("\n"):
        if not rule or rule.startswith("#"):
            continue
        pattern = rule.lstrip("!").rstrip("/")
        parents = [path, *map(str, Path(path).parents)]
        if any(fnmatch(each, pattern) or fnmatch(f"/{each}", pattern.replace("**", "*")) for each in parents):
            inside = rule.startswith("!")
    return inside


class Image:
    """What a stage of the Dockerfile leaves in a folder: `/app`; `/venv` is the one of the tests."""

    def __init__(self, folder: Path, target: str) -> None:
        self.root = folder / target
        self.environment: dict[str, str] = {}
        self.entrypoint: list[str] = []
        self.user = ""
        (self.root / "app").mkdir(parents=True)
        self._build(target)

    def path(self, text: str) -> str:
        for word, other in {"/venv/bin/python": sys.executable, "/app": str(self.root / "app")}.items():
            text = re.sub(rf"(?<![\w.]){word}\b", other, text)
        return text

    def _build(self, target: str) -> None:
        folder = self.root / "app"
        for word, rest in instructions(target):
            match word:
                case "ENV":
                    self.environment |= dict(pair.split("=", 1) for pair in rest.split())
                case "COPY" if rest.startswith("--from="):
                    source, copied, _ = rest.removeprefix("--from=").split()
                    if copied == "/app":
                        shutil.rmtree(folder)
                        shutil.copytree(Image(self.root, source).root / "app", folder)
                case "COPY":
                    *sources, to = rest.split()
                    for source in sources:
                        self._copy(source, Path(self.path(str(Path("/app") / to))))
                case "RUN" if not NETWORK.search(rest):
                    subprocess.run(["sh", "-ec", self.path(rest)], cwd=folder, check=True)
                case "ENTRYPOINT":
                    self.entrypoint = json.loads(rest)
                case "USER":
                    self.user = rest

    def _copy(self, source: str, to: Path) -> None:
        """Copy what .dockerignore lets through, as its owner only may read it: as with umask 077."""
        paths = [path for path in [ROOT / source, *(ROOT / source).rglob("*")] if path.is_file()]
        assert paths, f"there is no {source}"
        for path in paths:
            name = str(path.relative_to(ROOT))
            if is_in_context(name):
                target = to / (path.relative_to(ROOT / source) if (ROOT / source).is_dir() else path.name)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
                target.chmod(0o600)

    def run_environment(self, more: dict[str, str]) -> dict[str, str]:
        bin_ = str(Path(sys.executable).parent)
        environment = {"HOME": "/", "PATH": "/usr/local/bin:/usr/bin:/bin"} | self.environment
        environment["PATH"] = environment["PATH"].replace("/venv/bin", bin_).replace("$PATH", os.defpath)
        return {name: self.path(value) for name, value in (environment | more).items()}


@pytest.fixture(scope="module")
def job(tmp_path_factory) -> Image:
    return Image(tmp_path_factory.mktemp("image"), "job")


def test_what_is_secret_or_only_for_development_stays_out_of_the_build():
    names = [
        *(
            ".env",
            "production.env",
            "sandbox/.env",
            "whatsapp_tokens/local.env",
            ".git/config",
            "tests/world.py",
        ),
        *("deploy/demo-secrets/database_url", "channels.sqlite3", "whatsapp_tokens/__pycache__/x.pyc"),
    ]
    assert [name for name in names if is_in_context(name)] == []
    assert is_in_context("whatsapp_tokens/reports/templates/status.html.j2")


def test_the_image_is_built_from_hashes_for_a_user_without_a_name(job):
    (install,) = [rest for _, rest in instructions("build") if "pip install" in rest]
    assert "--require-hashes" in install
    assert job.user == "10001:10001"
    assert job.environment["PYTHONDONTWRITEBYTECODE"] == "1"
    assert job.entrypoint == ["python", "/app/refresh_tokens.py"]


def test_the_image_holds_the_program_and_nothing_else(job):
    top = {path.name for path in (job.root / "app").iterdir()} - {"__pycache__"}
    assert top == {
        *("alembic", "alembic.ini", "crypto.py", "locale", "meta_client.py", "models.py", "notify.py"),
        *("refresh_tokens.py", "requirements.txt", "whatsapp_tokens"),
    }


def test_every_user_can_read_the_image_and_its_bytecode(job):
    modes = {path: path.stat().st_mode for path in (job.root / "app").rglob("*")}
    assert [str(path) for path, mode in modes.items() if mode & 0o044 != 0o044] == []
    assert list((job.root / "app/whatsapp_tokens").rglob("*.pyc"))


class Stack:
    """The compose file on this machine: paths, hosts and ports are replaced, nothing else."""

    def __init__(self, folder: Path, database_url: str) -> None:
        self.folder = folder
        self.port = str(closed_port())
        self.images = {target: Image(folder, target) for target in ("job", "sandbox")}
        self.secrets = folder / "secrets"
        self.secrets.mkdir()
        for name, secret in COMPOSE["secrets"].items():
            shutil.copy(ROOT / "deploy" / secret["file"], self.secrets / name)
        self.demo_url = (self.secrets / "database_url").read_text().strip()
        (self.secrets / "database_url").write_text(f"{database_url}\n")

    def _mapped(self, service: str, text: str) -> str:
        for name in re.findall(r"/run/secrets/(\w+)", text):
            assert name in SERVICES[service]["secrets"], f"{service} does not mount {name}"
        text = text.replace("/run/secrets/", f"{self.secrets}/").replace("8080", self.port)
        return text.replace("/tmp/ready", str(self.folder / "tmp/ready")).replace("$$", "$")

    def process(self, service: str, *options: str, **more) -> subprocess.Popen[str]:
        """Start a service as Docker would, on a file system that can only be read."""
        entry = SERVICES[service]
        image = self.images[entry["build"]["target"]]
        assert entry["read_only"] is True
        given = {name: self._mapped(service, value) for name, value in entry.get("environment", {}).items()}
        command = [self._mapped(service, word) for word in entry.get("entrypoint", image.entrypoint)]
        command = [image.path(word) for word in [*command, *options]]
        environment = image.run_environment(given)
        command[0] = shutil.which(command[0], path=environment["PATH"])
        if may_confine():
            writable = [str(self.folder / "tmp")] if "/tmp" in entry.get("tmpfs", []) else []
            command = confined(command, writable=writable, folder=str(image.root / "app"))
        return subprocess.Popen(
            command,
            cwd=image.root / "app",
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **more,
        )

    def run(self, service: str, *options: str) -> tuple[int, str, str]:
        process = self.process(service, *options)
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err

    @contextmanager
    def up(self, service: str):
        """Keep a service running, once its health check has passed."""
        (self.folder / "tmp").mkdir()
        with self.process(service) as process:
            try:
                self._wait_for_health(service, process)
                yield
            finally:
                process.terminate()
                process.communicate(timeout=60)

    def _wait_for_health(self, service: str, process: subprocess.Popen[str]) -> None:
        kind, *test = SERVICES[service]["healthcheck"]["test"]
        assert kind == "CMD"
        probe = [self._mapped(service, word) for word in test]
        until = time.monotonic() + 60
        while subprocess.run(probe, check=False, capture_output=True).returncode:
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < until
            time.sleep(0.1)


def order() -> list[str]:
    """Return the services, each after those that it depends on."""
    done: list[str] = []
    while len(done) < len(SERVICES):
        done += [
            name
            for name, entry in SERVICES.items()
            if name not in done and all(other in done for other in entry.get("depends_on", {}))
        ]
    return done


def test_compose_starts_things_one_after_another():
    assert order() == ["database", "migrate", "meta", "refresh"]
    conditions = {
        name: {other: how["condition"] for other, how in entry.get("depends_on", {}).items()}
        for name, entry in SERVICES.items()
    }
    assert conditions["migrate"] == {"database": "service_healthy"}
    assert conditions["meta"] == {"migrate": "service_completed_successfully"}
    assert conditions["refresh"] == {"meta": "service_healthy"}


def test_the_run_reaches_the_simulated_meta_by_loopback_only():
    assert SERVICES["refresh"]["network_mode"] == "service:meta"
    assert urlsplit(SERVICES["refresh"]["environment"]["META_GRAPH_URL"]).hostname == "127.0.0.1"


def test_no_secret_is_in_the_compose_file_itself():
    text = (ROOT / "deploy/compose.yaml").read_text(encoding="utf-8")
    for secret in COMPOSE["secrets"].values():
        assert (ROOT / "deploy" / secret["file"]).read_text().strip() not in text
    for entry in SERVICES.values():
        assert entry["read_only"] is True


def channels(url: str) -> dict[str, str]:
    """Return the ciphertext of each channel, by name."""
    with sa.create_engine(parse_url(url).url, poolclass=sa.NullPool).connect() as connection:
        found = connection.execute(sa.text('SELECT name, wa_token_encrypted FROM "Channel"'))
        return {row.name: row.wa_token_encrypted for row in found}


@pytest.mark.parametrize("empty_database_url", ["postgresql"], indirect=True)
def test_the_services_of_compose_one_after_another_show_a_whole_run(empty_database_url, tmp_path):
    stack = Stack(tmp_path, empty_database_url)
    demo = urlsplit(stack.demo_url)
    password = (stack.secrets / "database_password").read_text().strip()
    assert (demo.hostname, demo.password, demo.path) == ("database", password, "/postgres")

    with reachable(empty_database_url):
        code, _, err = stack.run("migrate")
        assert code == 0, err
        with stack.up("meta"):
            show_a_run(stack, empty_database_url)


def show_a_run(stack, url):
    before = channels(url)
    code, out, err = stack.run("refresh")
    assert (code, "Traceback" in err) == (1, False), err
    assert "renewed  Clinic East" in out
    after = channels(url)
    assert {name for name in after if before[name] != after[name]} == {
        *("Clinic East", "Florist Harbour", "Garage West", "Hotel Reception"),
        *("Restaurant Delivery", "Restaurant Front Desk", "School Office"),
    }
    code, out, err = stack.run("refresh", "--history", "2")  # "Clinic East"
    assert (code, "Token refreshed automatically" in out) == (0, True), out + err
