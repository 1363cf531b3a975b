"""deploy/railway.json against the settings that docs.railway.com/config-as-code/reference describes.

The published schema, https://railway.com/railway.schema.json, is in no package, so it is not checked here.
"""

from __future__ import annotations

import json
import shlex

from world import ROOT

CONFIG = json.loads((ROOT / "deploy/railway.json").read_text(encoding="utf-8"))
# Section, setting, and its type or its values. As described in 2026.
DESCRIBED = {
    ("build", "builder"): {"RAILPACK", "DOCKERFILE"},
    ("build", "dockerfilePath"): str,
    ("deploy", "startCommand"): str,
    ("deploy", "cronSchedule"): str,
    ("deploy", "restartPolicyType"): {"ON_FAILURE", "ALWAYS", "NEVER"},
}


def test_the_file_has_only_settings_that_railway_describes():
    found = {(part, name): value for part in ("build", "deploy") for name, value in CONFIG[part].items()}
    assert set(CONFIG) == {"$schema", "build", "deploy"}
    assert found.keys() == DESCRIBED.keys()
    for name, value in found.items():
        described = DESCRIBED[name]
        assert value in described if isinstance(described, set) else isinstance(value, described)


def test_railway_builds_the_image_and_runs_the_command_that_the_image_runs():
    dockerfile = (ROOT / CONFIG["build"]["dockerfilePath"]).read_text(encoding="utf-8")
    entrypoint = json.loads(dockerfile.rpartition("ENTRYPOINT ")[2])
    assert shlex.split(CONFIG["deploy"]["startCommand"]) == entrypoint


def test_railway_starts_it_once_a_day_and_does_not_start_it_again():
    minute, hour, *rest = CONFIG["deploy"]["cronSchedule"].split()
    assert (minute.isdigit(), hour.isdigit(), rest) == (True, True, ["*", "*", "*"])
    assert CONFIG["deploy"]["restartPolicyType"] == "NEVER"
