"""Run a command and say what it cost: `python -S launch.py FILE COMMAND…` writes JSON into FILE.

A process of its own, and a small one, because Linux counts the size of whoever forks into the child's
peak. So it imports nothing that is not needed.
"""

import os
import sys
import time


def main(result: str, command: list[str]) -> None:
    """Wait for the command; seconds of wall clock and of both kinds of CPU, KiB of peak memory, exit code."""
    begun = time.monotonic()
    child = os.posix_spawn(command[0], command, os.environ)
    _, status, usage = os.wait4(child, 0)
    wall = time.monotonic() - begun
    cpu = usage.ru_utime + usage.ru_stime
    with open(result, "w", encoding="ascii") as file:  # noqa: PTH123 - pathlib would make this process large
        file.write(
            f'{{"wall": {wall}, "cpu": {cpu}, "peak": {usage.ru_maxrss}, '
            f'"code": {os.waitstatus_to_exitcode(status)}}}'
        )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
