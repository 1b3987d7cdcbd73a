"""The papers' comparisons on synthetic clips with the small networks that come with reelmask.

    python -m tests.bench.paper_tables [SYSTEM …]

Writes docs/paper_tables.md; what is not measured again keeps its table. Figures of the papers are
of other networks on other videos: what can be compared is the direction.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import sys
from collections.abc import Callable, Mapping
from typing import Any

from tests.bench import paper_tables_idol, paper_tables_propose_reduce
from tests.bench.run import DOCS, machine

Table = tuple[str, list[str]]  # a title, and lines of Markdown

SYSTEMS: Mapping[str, Callable[[], list[Table]]] = {
    "idol": paper_tables_idol.tables,
    "propose_reduce": paper_tables_propose_reduce.tables,
}
_FILE = DOCS / "paper_tables.json"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("systems", nargs="*", metavar="SYSTEM", help=", ".join(SYSTEMS))
    wanted = parser.parse_args().systems or list(SYSTEMS)
    if unknown := set(wanted) - set(SYSTEMS):
        parser.error(f"no tables of {', '.join(sorted(unknown))}; there are {', '.join(SYSTEMS)}")
    entries: dict[str, Any] = json.loads(_FILE.read_text()) if _FILE.exists() else {}
    for name in wanted:
        print(f"{name} …", file=sys.stderr, flush=True)
        taken = {"date": f"{datetime.date.today():%Y-%m-%d}", "machine": machine()}
        entries[name] = {**taken, "python": platform.python_version(), "tables": SYSTEMS[name]()}
        _FILE.write_text(json.dumps(entries, indent=2) + "\n")
        (DOCS / "paper_tables.md").write_text(_page(entries))
    return 0


def _page(entries: Mapping[str, Any]) -> str:
    lines = [
        "# The papers' comparisons, on synthetic clips",
        "",
        "`python -m tests.bench.paper_tables` makes this page with the small networks that come"
        " with reelmask, on clips that neither training nor any choice has seen (seeds from"
        " 2,000,000). The papers' networks and videos are others: what can be compared is the"
        " direction. What IDOL's pseudo pairs are worth takes trainings, hence a command of its own"
        " (`python -m tests.bench.pseudo_pairs`): its table is in [training.md](training.md).",
    ]
    for name in SYSTEMS:
        if name not in entries:
            continue
        entry = entries[name]
        lines += ["", f"## {name}", "", f"{entry['date']}, {entry['machine']}."]
        for title, rows in entry["tables"]:
            lines += ["", f"**{title}**", "", *rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
