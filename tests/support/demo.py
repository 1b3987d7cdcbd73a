"""`make demo`: small clips with known truth, labelled by the test system, queried with SQL.

No model runs: `oracle` reads its predictions from the truth file. What is real is everything
around a model: index, decoding, parts, resume, linking, tables.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import duckdb

from jobs import cli
from tests.support.clips import write_clips

QUERY = """\
select t.video_id, t.track_id, c.name, round(t.score, 3) as score, t.num_frames,
       round(avg((box[3] - box[1]) * (box[4] - box[2]))) as mean_box_area_px
from '{out}/tracks/*.parquet' t
join '{out}/masks/*.parquet' m using (video_id, track_id)
join '{out}/categories/*.parquet' c using (label)
group by all order by t.video_id, t.track_id limit 8"""


def main(argv: list[str] | None = None) -> int:
    folder = Path((sys.argv[1:] if argv is None else argv)[0])
    clips, out = folder / "clips", folder / "results"
    paths = write_clips(clips, 6, num_frames=60, size=(96, 128), seed=7)
    print(f"wrote {len(paths)} clips of 60 frames and their truth to {clips}/\n", flush=True)
    words = ["label", str(clips), "--out", str(out), "--system", "oracle"]
    words += ["--set", f"truth={clips}/truth.json"]
    print(f"$ reelmask {shlex.join(words)}", flush=True)
    code = cli.main(words)
    if code:
        return code
    query = QUERY.format(out=out)
    print(f"\n{query}\n\n{duckdb.sql(query)}")
    print(f"The tables are Parquet, in {out}/. `make demo` again finds nothing left to do.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
