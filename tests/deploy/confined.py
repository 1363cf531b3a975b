"""Run a command with what systemd or a container takes away; see `confinement.py`.

It is started by `unshare --mount`, as root: `python confined.py '<JSON>' COMMAND…`. The JSON has `writable`
(folders) and may have `folder` (to run it in), `umask`, `syscalls` (allowed names) and `families` (of
addresses, as numbers). The user stays the same, because another one may not be allowed to read this Python.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import mmap
import os
import subprocess
import sys
from pathlib import Path

import pyseccomp as seccomp

PR_SET_NO_NEW_PRIVS, PR_CAPBSET_DROP = 38, 24
LAST_CAPABILITY = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
libc = ctypes.CDLL(None, use_errno=True)


def check(code: int) -> None:
    if code:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def make_read_only(writable: list[str]) -> None:
    """ProtectSystem=strict: every file system but the kernel's own; there is not even a /tmp to write to."""
    mount = ["mount", "--no-mtab"]
    for folder in writable:
        subprocess.run([*mount, "--bind", folder, folder], check=True)
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in dict.fromkeys(points):
        if point not in writable and not point.startswith(("/proc", "/sys", "/dev/pts", "/dev/mqueue")):
            subprocess.run([*mount, "-o", "remount,bind,ro", point], check=True)


def give_up_rights() -> None:
    """CapabilityBoundingSet=, NoNewPrivileges=: whoever has no capability may do no more for being root."""
    for capability in range(LAST_CAPABILITY + 1):
        check(libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0))
    os.setgroups([])
    check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def filter_system_calls(allowed: list[str], families: list[int]) -> None:
    """MemoryDenyWriteExecute=, RestrictAddressFamilies= and SystemCallFilter=, each a filter of its own."""
    memory = seccomp.SyscallFilter(seccomp.ALLOW)
    both = mmap.PROT_EXEC | mmap.PROT_WRITE
    memory.add_rule(seccomp.ERRNO(errno.EPERM), "mmap", seccomp.Arg(2, seccomp.MASKED_EQ, both, both))
    for call in ("mprotect", "pkey_mprotect"):
        execute = seccomp.Arg(2, seccomp.MASKED_EQ, mmap.PROT_EXEC, mmap.PROT_EXEC)
        memory.add_rule(seccomp.ERRNO(errno.EPERM), call, execute)
    sockets = seccomp.SyscallFilter(seccomp.ALLOW)
    for family in set(range(46)) - set(families):
        sockets.add_rule(seccomp.ERRNO(errno.EAFNOSUPPORT), "socket", seccomp.Arg(0, seccomp.EQ, family))
    calls = seccomp.SyscallFilter(seccomp.ERRNO(errno.EPERM))
    for name in allowed:
        with contextlib.suppress(RuntimeError, OSError, ValueError):  # calls of other processors
            calls.add_rule(seccomp.ALLOW, name)
    for each in (memory, sockets, calls):
        each.load()


if __name__ == "__main__":
    unit = json.loads(sys.argv[1])
    make_read_only(unit["writable"])
    give_up_rights()
    os.chdir(unit.get("folder", "/"))
    os.umask(int(unit.get("umask", "022"), 8))
    if "syscalls" in unit:
        filter_system_calls(unit["syscalls"], unit["families"])
    os.execv(sys.argv[2], sys.argv[2:])
