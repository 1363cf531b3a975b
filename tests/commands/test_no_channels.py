"""A table in which a run finds no channel."""

from __future__ import annotations

import uuid

import pytest
import sqlalchemy as sa
from conftest import only_postgresql


def findings(result):
    found = [check for check in result.document["checks"] if check["subject"] == "channels"]
    return [(check["level"], check["text"]) for check in found]


@pytest.mark.parametrize("configured", ["WHATSAPP", "'whatsapp'", '"whatsapp"', "Whats App", "wa"])
def test_a_type_that_is_there_and_looks_like_ours_is_named(world, configured):
    channels = [world.channel() for _ in range(2)]
    world.channel(type="email")
    before = [world.rows.get(id_) for id_ in channels]
    world.env["CHANNEL_TYPE"] = configured
    runs = [world.json(*options) for options in ((), ("--dry-run",))]
    check = world.json("--check")
    said = f"CHANNEL_TYPE: no row is of the type “{configured}”, but there are 2 of the type “whatsapp”"
    assert [run.code for run in (*runs, check)] == [2, 2, 2]
    assert [run.document["stopped"]["detail"].startswith(said) for run in runs] == [True, True]
    ((level, text),) = findings(check)
    assert (level, text.startswith(said)) == ("problem", True)
    assert ([world.rows.get(id_) for id_ in channels], world.meta.exchanges) == (before, [])


@pytest.mark.parametrize("stored", ["WhatsApp", " whatsapp", "whatsapp_cloud", "'whatsapp'"])
def test_a_type_that_is_stored_in_another_way_is_named(world, stored):
    world.channel(type=stored)
    result = world.run("--quiet")
    assert (result.code, result.out, world.meta.count()) == (2, "", 0)
    assert f"but there are 1 of the type “{stored.strip()}”" in result.err


def test_other_types_alone_are_a_warning_also_with_quiet(world):
    for type_ in ("email", "email", "instagram"):
        world.channel(type=type_)
    run, check = world.run("--quiet"), world.json("--check")
    there = "“email” (2), “instagram” (1)"
    said = f"CHANNEL_TYPE: no row is of the type “whatsapp”; the table has {there}"
    assert (run.code, run.out, said in run.err) == (0, "", True)
    assert (check.code, findings(check)) == (0, [("warning", said)])


def test_a_row_of_our_type_shows_that_the_setting_is_right(world):
    world.channel(wa_token_encrypted=None)
    world.channel(type="whatsapp_old")
    result = world.run()
    assert (result.code, "there is nothing to do" in result.err) == (0, True)


def test_an_empty_table_is_no_problem_and_said_to_be_empty(world):
    run, quiet, check = world.run(), world.run("--quiet"), world.json("--check")
    said = "no channel has an active WhatsApp token: there is nothing to do"
    assert (run.code, said in run.err) == (0, True)
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")
    assert (check.code, findings(check)) == (0, [("ok", said)])


@only_postgresql
def test_rows_that_a_policy_hides_are_no_empty_table(world):
    role = f"role_{uuid.uuid4().hex[:12]}"
    channel = world.channel()
    before = world.rows.get(channel)
    for statement in (
        f"CREATE ROLE {role} LOGIN PASSWORD '{role}'",
        f'GRANT ALL ON "Channel", token_audit_log, token_audit_log_id_seq TO {role}',
        'ALTER TABLE "Channel" ENABLE ROW LEVEL SECURITY',
        f'CREATE POLICY none ON "Channel" TO {role} USING (false)',
        'ANALYZE "Channel"',
    ):
        world.rows.run(statement)
    url = sa.engine.make_url(world.url).set(username=role, password=role)
    world.env["DATABASE_URL"] = url.render_as_string(hide_password=False)
    try:
        run, check = world.json("--quiet"), world.json("--check")
    finally:
        world.rows.run(f"DROP OWNED BY {role}")
        world.rows.run(f"DROP ROLE {role}")
    said = "row-level security hides all rows from the database role: give it a policy that shows them"
    assert (run.code, run.document["stopped"]["detail"], world.rows.get(channel)) == (2, said, before)
    assert (check.code, findings(check)) == (2, [("problem", said)])
