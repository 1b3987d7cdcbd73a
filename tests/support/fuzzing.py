"""How long the fuzzers of `make chaos` take for each reader of foreign bytes."""

import os

# A minute each for a person; where other things wait, less: REELMASK_FUZZ_SECONDS=20 make chaos.
SECONDS = float(os.environ.get("REELMASK_FUZZ_SECONDS", "60"))


def most_kilobytes() -> int:
    """The most memory this program has held; getrusage counts that of its parent, too."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:"))
