"""The benchmarks, tiny: that they still run, not how fast."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from world import ROOT


def test_every_figure_can_be_measured(postgres):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick"],
        cwd=ROOT,
        env=os.environ | {"TEST_DATABASE_URL": postgres},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^### (\w+)", done.stdout, re.MULTILINE) == [
        *("The", "1", "2", "3", "4a", "4b", "4c", "5", "6")
    ]
