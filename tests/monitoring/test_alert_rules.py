"""The alert rules and their description name only what there is, and all of it."""

from __future__ import annotations

import re

import pytest
import yaml
from world import ROOT

from whatsapp_tokens.monitoring.prometheus import HELP
from whatsapp_tokens.results import State

TEXT = (ROOT / "deploy/prometheus-rules.yml").read_text(encoding="utf-8")
PAGE = (ROOT / "docs/monitoring.md").read_text(encoding="utf-8")
RULES = [rule for group in yaml.safe_load(TEXT)["groups"] for rule in group["rules"]]


def figures(text):
    return set(re.findall(r"whatsapp_token_refresh_\w+", text))


def test_the_rules_watch_every_figure_and_no_other():
    assert {name for rule in RULES for name in figures(rule["expr"])} == set(HELP)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_a_rule_has_what_prometheus_wants_and_people_need(rule):
    assert set(rule) - {"for"} == {"alert", "expr", "labels", "annotations"}
    assert re.fullmatch(r"\d+[mh]", rule.get("for", "1m"))
    assert (set(rule["labels"]), set(rule["annotations"])) == ({"severity"}, {"summary", "description"})
    assert rule["labels"]["severity"] in {"warning", "critical"}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_the_brackets_of_a_rule_are_closed_and_its_labels_exist(rule):
    expression = rule["expr"]
    assert [expression.count(mark) for mark in "({["] == [expression.count(mark) for mark in ")}]"]
    assert set(re.findall(r"(\w+)=~?\"", expression)) <= {"state", "outcome"}
    for states in re.findall(r'state=~"([^"]*)"', expression):
        assert set(states.split("|")) <= set(State)


def test_the_page_names_every_figure_rule_and_state():
    table = PAGE.partition("| figure |")[2].partition("\n\n")[0]
    rules = [name for row in re.findall(r"\| ([^|]*) \|$", table, re.MULTILINE) for name in row.split(", ")]
    assert figures(table) == set(HELP)
    assert sorted(rules[1:]) == sorted(f"`{rule['alert']}`" for rule in RULES)
    assert [state for state in State if f"`{state}`" not in table] == []
