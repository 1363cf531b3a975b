"""deploy/kubernetes.yaml: its schema is checked by `make lint`; here, what the schema cannot know."""

from __future__ import annotations

import subprocess
import sys

import pytest
import yaml
from installed import install
from world import ROOT

FILE = ROOT / "deploy/kubernetes.yaml"
DOCUMENTS = {document["kind"]: document for document in yaml.safe_load_all(FILE.read_text(encoding="utf-8"))}
CRON = DOCUMENTS["CronJob"]["spec"]
PODS = {"Job": DOCUMENTS["Job"]["spec"], "CronJob": CRON["jobTemplate"]["spec"]}
SECRETS = "/run/secrets/whatsapp"


def pod_of(kind):
    return PODS[kind]["template"]["spec"]


def container_of(kind):
    (container,) = pod_of(kind)["containers"]
    return container


def validate(text, tmp_path):
    path = tmp_path / "changed.yaml"
    path.write_text(text)
    command = [sys.executable, "-m", "kubernetes_validate", "--strict", "--quiet", str(path)]
    return subprocess.run(command, capture_output=True, check=False).returncode


def test_the_schema_would_find_a_mistake(tmp_path):
    text = FILE.read_text(encoding="utf-8")
    assert validate(text, tmp_path) == 0
    assert validate(text.replace("startingDeadlineSeconds", "startingDeadlineSecond"), tmp_path) != 0
    assert validate(text.replace("backoffLimit: 0", 'backoffLimit: "none"'), tmp_path) != 0


def test_one_run_a_day_and_none_is_repeated():
    assert (CRON["timeZone"], CRON["concurrencyPolicy"]) == ("Etc/UTC", "Forbid")
    assert CRON["startingDeadlineSeconds"] > 3600
    assert {spec["backoffLimit"] for spec in PODS.values()} == {0}
    assert {pod_of(kind)["restartPolicy"] for kind in PODS} == {"Never"}
    assert PODS["CronJob"]["activeDeadlineSeconds"] >= 3600
    assert pod_of("CronJob")["terminationGracePeriodSeconds"] >= 10 + 30


@pytest.mark.parametrize("kind", PODS)
def test_a_pod_may_do_nothing_that_it_does_not_need(kind):
    pod, container = pod_of(kind), container_of(kind)
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert set(container["resources"]) == {"requests", "limits"}


def test_a_pod_runs_as_the_user_of_the_image():
    dockerfile = (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8")
    for kind in PODS:
        user = pod_of(kind)["securityContext"]
        assert f"USER {user['runAsUser']}:{user['runAsGroup']}" in dockerfile
    assert container_of("CronJob")["command"] == ["python", "/app/refresh_tokens.py"]


def test_secrets_are_files_and_none_is_in_this_file():
    assert "Secret" not in DOCUMENTS
    settings = DOCUMENTS["ConfigMap"]["data"]
    assert {name for name in settings if name.endswith("_FILE")} == {
        *("DATABASE_URL_FILE", "META_APP_SECRET_FILE", "TOKEN_ENCRYPTION_KEY_FILE"),
    }
    for name, path in settings.items():
        if name.endswith("_FILE"):
            assert path == f"{SECRETS}/{name.removesuffix('_FILE').lower()}"
            assert f"--from-file={name.removesuffix('_FILE').lower()}" in FILE.read_text(encoding="utf-8")
    for kind in PODS:
        (mount,) = container_of(kind)["volumeMounts"]
        (volume,) = pod_of(kind)["volumes"]
        assert (mount["mountPath"], mount["readOnly"], mount["name"]) == (SECRETS, True, volume["name"])
        assert volume["secret"]["secretName"] == DOCUMENTS["CronJob"]["metadata"]["name"]


def test_the_commands_of_both_jobs_renew_a_token_with_these_settings(world, tmp_path):
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    for name in ("DATABASE_URL", "META_APP_SECRET", "TOKEN_ENCRYPTION_KEY"):
        (secrets / name.lower()).write_text(world.env.pop(name))
    settings = {
        name: value.replace(SECRETS, str(secrets)) for name, value in DOCUMENTS["ConfigMap"]["data"].items()
    }
    app = install(tmp_path / "app")

    def run(kind):
        command = [word.replace("/app/", f"{app}/") for word in container_of(kind)["command"]]
        python = [sys.executable, "-m"] if command[0] == "alembic" else [sys.executable]
        command = [*python, *(command if command[0] == "alembic" else command[1:])]
        return subprocess.run(
            command,
            cwd=app,
            env={"PATH": "/usr/bin:/bin", "META_GRAPH_URL": world.meta.url} | settings,
            capture_output=True,
            text=True,
            check=False,
        )

    assert run("Job").returncode == 0
    channel = world.channel()
    done = run("CronJob")
    assert (done.returncode, done.stderr) == (0, "")
    assert world.events(channel) == ["refreshed"]


def test_the_network_policy_lets_out_what_a_run_needs():
    policy = DOCUMENTS["NetworkPolicy"]["spec"]
    (egress,) = policy["egress"]
    assert policy["ingress"] == []
    assert {(port["protocol"], port["port"]) for port in egress["ports"]} == {
        *(("UDP", 53), ("TCP", 53), ("TCP", 443), ("TCP", 5432)),
    }
    for kind in PODS:
        labels = PODS[kind]["template"]["metadata"]["labels"]
        assert policy["podSelector"]["matchLabels"].items() <= labels.items()
