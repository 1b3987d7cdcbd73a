"""Named places where a test can make the program die, hang or run out of disk.

Off unless `REELMASK_FAILPOINTS` arms some: `name[key]=action@hit` entries, separated by commas.
`key` limits it to one video, `@hit` to the n-th passage of the process. Actions: `kill`, `segv`,
`stop` (until SIGCONT), `hang`, `enospc`, `eio`. With `REELMASK_FAILPOINTS_ONCE=FILE` one entry acts
once, in whichever process comes first: the one that can create the file.

    REELMASK_FAILPOINTS='after_write=kill@2,decode_frame[clips/bad]=hang' reelmask label …
"""

from __future__ import annotations

import collections
import errno
import os
import re
import signal
import time
from collections.abc import Callable

VARIABLE = "REELMASK_FAILPOINTS"
ONCE = "REELMASK_FAILPOINTS_ONCE"
_ENTRY = re.compile(r"(?P<name>\w+)(\[(?P<key>.*)\])?=(?P<action>\w+)(@(?P<hit>\d+))?")
_passages: collections.Counter[str] = collections.Counter()
# Set by a test in this process: hears of every passage, and may do there what another would.
listener: Callable[[str], None] | None = None


def failpoint(name: str, key: str | None = None) -> None:
    """Does nothing, unless the environment arms `name` (for `key`), or a test listens."""
    if listener is not None:
        listener(name)
    armed = os.environ.get(VARIABLE)
    if not armed:
        return
    for entry in armed.split(","):
        match = _ENTRY.fullmatch(entry.strip())
        if match is None:
            raise ValueError(f"{VARIABLE}: cannot read {entry!r}; expected name[key]=action@hit")
        if match["name"] != name or (match["key"] is not None and match["key"] != key):
            continue
        _passages[entry] += 1
        if (match["hit"] is None or _passages[entry] == int(match["hit"])) and _is_first():
            _act(match["action"], name)


def _is_first() -> bool:
    path = os.environ.get(ONCE)
    if not path:
        return True
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return False
    return True


def _act(action: str, name: str) -> None:
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "segv":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif action == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)  # the whole process, until SIGCONT
    elif action == "hang":
        time.sleep(3600)
    elif action in ("enospc", "eio"):
        code = errno.ENOSPC if action == "enospc" else errno.EIO
        raise OSError(code, f"{os.strerror(code)} (failpoint {name})")
    else:
        raise ValueError(f"{VARIABLE}: unknown action {action!r} at {name}")
