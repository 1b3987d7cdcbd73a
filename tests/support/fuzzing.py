"""How long the fuzzers of `make chaos` take for each reader of foreign bytes."""

import os

# A minute each for a person; where other things wait, less: REELMASK_FUZZ_SECONDS=20 make chaos.
SECONDS = float(os.environ.get("REELMASK_FUZZ_SECONDS", "60"))
