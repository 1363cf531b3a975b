"""`--check`: show whether a run would work."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

from whatsapp_tokens.commands.preflight import bad_settings, preflight
from whatsapp_tokens.commands.result import CommandResult, Finding, Level
from whatsapp_tokens.commands.wiring import Invocation, aborted_by, open_targets_of, read_settings
from whatsapp_tokens.environment import BadSettings


def check(invocation: Invocation) -> CommandResult:
    """Look at everything that a run needs, and show what was found."""
    findings: list[Finding] = []
    aborted = None
    try:
        for finding in _findings(invocation):
            findings.append(finding)
            if finding.level is not Level.OK or not invocation.options.quiet:
                invocation.console.line(finding.line)
    except Exception as error:  # noqa: BLE001 - also a mistake of ours gets its exit code
        aborted = aborted_by(error)
    checks = [asdict(one) | {"ok": one.level is not Level.PROBLEM} for one in findings]
    return CommandResult(aborted, findings=tuple(findings), document={"checks": checks})


def _findings(invocation: Invocation) -> Iterable[Finding]:
    try:
        settings = read_settings(invocation.options)
    except BadSettings as error:
        return bad_settings(error.problems)
    targets = open_targets_of(settings, invocation.signalled)
    return preflight(settings, targets, invocation.stop, invocation.clock)
