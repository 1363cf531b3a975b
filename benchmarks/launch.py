"""Run a command and measure it: `python -S launch.py FILE COMMAND…` writes JSON into FILE.

This is a process of its own with few imports, because Linux counts the memory of the parent as part of the
child's peak.
"""

import os
import sys
import time


def main(result: str, command: list[str]) -> None:
    """Write seconds of wall clock, seconds of CPU, KiB of peak memory, and the exit code of the command."""
    begun = time.monotonic()
    child = os.posix_spawn(command[0], command, os.environ)
    _, status, usage = os.wait4(child, 0)
    wall = time.monotonic() - begun
    cpu = usage.ru_utime + usage.ru_stime
    with open(result, "w", encoding="ascii") as file:  # noqa: PTH123 - pathlib would make this process larger
        file.write(
            f'{{"wall": {wall}, "cpu": {cpu}, "peak": {usage.ru_maxrss}, '
            f'"code": {os.waitstatus_to_exitcode(status)}}}'
        )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
