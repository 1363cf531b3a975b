"""`--check`: show whether a run would work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Final

from whatsapp_tokens.commands.preflight import preflight
from whatsapp_tokens.commands.result import CommandResult, Finding, Level
from whatsapp_tokens.commands.wiring import Invocation, aborted_by, as_given, open_targets_of, read_settings
from whatsapp_tokens.environment import BadSettings
from whatsapp_tokens.redaction import redact

SUBJECT_WIDTH: Final = 10  # on a terminal


def check(invocation: Invocation) -> CommandResult:
    """Look at everything that a run needs, and show what was found."""
    console, quiet = invocation.console, invocation.options.quiet
    width = SUBJECT_WIDTH if console.is_terminal else 0
    findings: list[Finding] = []
    steps: Sequence[str] = ()
    aborted = None
    try:
        for finding in _findings(invocation):
            findings.append(finding)
            if finding.level is not Level.OK or not quiet:
                console.line(finding.line(width))
    except BadSettings as error:
        for problem in error.problems:  # there is nothing else to look at
            findings.append(Finding("settings", Level.PROBLEM, problem))
            console.line(findings[-1].line(width))
        steps = error.steps
    except Exception as error:  # noqa: BLE001 - also a mistake of ours gets its exit code
        aborted = aborted_by(error)
    found = Counter(finding.level for finding in findings)
    if not quiet and not aborted:
        for line in steps or ("", _summary(found)):
            console.line(line)
    checks = [asdict(one) | {"ok": one.level is not Level.PROBLEM} for one in findings]
    return CommandResult(aborted, findings=tuple(findings), document={"checks": checks})


def _findings(invocation: Invocation) -> Iterator[Finding]:
    """Yield what is found. Raise `BadSettings` if the settings cannot be read."""
    warnings: list[str] = []
    try:
        settings = read_settings(invocation.options, warnings.append)
    finally:
        yield from (Finding("settings", Level.WARNING, warning) for warning in warnings)
    targets = open_targets_of(settings, invocation.signalled)
    for finding in preflight(settings, targets, invocation.stop, invocation.clock):
        # Redacted while the settings are held: the document is printed when they are gone.
        yield replace(finding, text=redact(as_given(finding.text, settings)))


def _summary(found: Counter[Level]) -> str:
    """Return how many problems and warnings there are."""
    return ", ".join(
        f"{found[level] or 'no'} {level}{'' if found[level] == 1 else 's'}"
        for level in (Level.PROBLEM, Level.WARNING)
    )
