"""`make demo`: three clips labelled on this machine, drawn, and shown as tables.

    python -m jobs.demo FOLDER [--video PATH]

Everything a user would type is printed as a command first. Run again, it finds the clips labelled
and goes on from there; with another video it starts over.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import json
import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs import progress, signals, terminal
from jobs.commands import label
from vis_core import config, errors
from vis_core.data.synth.config import SynthConfig
from vis_core.errors import ReelmaskError, UsageError
from vis_core.job import Job, MemberSpec, make_job
from vis_core.schema import table_to_videos
from vis_core.store import parts
from vis_core.store.local_folder import LocalFolder
from vis_core.store.store import CURRENT, Store, is_results_folder, open_store
from vis_core.systems import get_system
from vis_core.types import VideoInfo
from vis_core.video.sources import expand_inputs

if TYPE_CHECKING:
    from vis_core.render.sheet import Strip

_CURRENT = pa.schema([("file", pa.string())])
_MARK = ".reelmask-demo"  # says that a folder is a demo's
SHEET_BYTES = 400_000
SHARD_FRAMES = 36  # small, so that two cores have work: who comes first takes two units


class _Clip(NamedTuple):
    """A clip to generate; its seed may serve training, and nothing was trained on it."""

    name: str
    config: SynthConfig
    seed: int


# Systems that need no training, then those whose small networks know the shapes of the clips that
# are made with categories.
ANY_VIDEO, TRAINED = ("flow_match",), ("propose_reduce", "idol")
CLIPS = (
    _Clip("plain", SynthConfig(preset="plain"), 900_042),
    _Clip("occluded", SynthConfig(preset="occluded"), 900_032),
    _Clip("scene", SynthConfig(preset="open_world", num_frames=72, height=540, width=960), 33),
)


def main(argv: Sequence[str] | None = None) -> int:
    with terminal.guarded():
        return _run(argv)


def _run(argv: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.demo",
        description="Labels three clips here, system by system, and shows what came out.",
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--video", help="a video of yours, instead of the third clip")
    parser.add_argument("--system", choices=[*ANY_VIDEO, *TRAINED], help="one alone")
    parser.add_argument("--runner", choices=["inline", "ray"], default="ray")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, handlers=[terminal.Handler()])
    signals.interrupt_on_termination()
    try:
        return _demo(arguments)
    except (ReelmaskError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return getattr(error, "exit_code", errors.EXIT_FAILED)
    except KeyboardInterrupt:
        print("demo: interrupted; `make demo` goes on from here", file=sys.stderr)
        return errors.EXIT_INTERRUPTED


def _demo(arguments: argparse.Namespace) -> int:
    folder: Path = arguments.folder
    own = _own_video(arguments.video) if arguments.video is not None else None
    clips = CLIPS if own is None else CLIPS[:-1]
    _take(folder)
    paths = _write_clips(folder / "clips", clips)
    known = [path for clip, path in zip(clips, paths, strict=True) if _has_categories(clip)]
    wanted = [arguments.system] if arguments.system else [*ANY_VIDEO, *TRAINED]
    code, strips, rows = errors.EXIT_OK, [], []
    for system in wanted:
        results = _results(folder, system)
        inputs = known if system in TRAINED else [*paths, *filter(None, [own])]
        job = _job(inputs, results, system, arguments)
        found = label.run(job, arguments.runner, as_json=False)
        if found not in (errors.EXIT_OK, errors.EXIT_QUARANTINE):
            return found
        code = max(code, found)
        strips += _draw(results, system, folder)
        rows += _rows(results, system)
    _write_sheet(folder / "contact.png", strips)
    print(_table(rows))
    print(_where_to_look(folder, wanted))
    return code


def _take(folder: Path) -> None:
    """A new or empty folder, or one of an earlier demo: what is in it may be written over."""
    mark, truth = folder / _MARK, folder / "clips" / "truth.json"
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; expected a folder")
    ours = mark.is_file() or (truth.is_file() and '"generator_version"' in truth.read_text())
    if folder.is_dir() and any(folder.iterdir()) and not ours:
        raise UsageError(f"{folder} holds files that are no demo's; choose a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    mark.touch()


def _has_categories(clip: _Clip) -> bool:
    return clip.config.preset != "open_world"


def _results(folder: Path, system: str) -> Path:
    """One folder of results holds one system's."""
    return folder / ("results" if system == ANY_VIDEO[0] else f"results-{system}")


def _say(words: Sequence[object]) -> None:
    print(f"\n$ reelmask {shlex.join(map(str, words))}", flush=True)


# --- clips ----------------------------------------------------------------------------------------


def _own_video(path: str) -> str:
    """The user's video, if it is one and can be read: found out before anything else is done."""
    from vis_core.video.reader import VideoReader

    sources = expand_inputs([path], {})
    if len(sources) != 1:
        raise UsageError(f"VIDEO={path}: {len(sources)} videos are there; name one of them")
    with VideoReader() as reader:
        info = reader.probe(sources[0])
    if info.status == "failed":
        raise UsageError(f"VIDEO={path}: {info.error}")
    print(f"VIDEO={path}: {info.num_frames} frames of {info.width}x{info.height}", flush=True)
    return path


def _write_clips(folder: Path, clips: Sequence[_Clip]) -> list[str]:
    """Generates the clips and their truth, if they are not there; returns their paths."""
    from vis_core.data.synth.generate import generate_clip
    from vis_core.video.encode import open_video

    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{clip.name}.mp4" for clip in clips]
    truth, at = _truth_of(clips), folder / "truth.json"
    if all(path.is_file() for path in (*paths, at)) and at.read_text() == truth:
        return list(map(str, paths))
    at.unlink(missing_ok=True)
    shown = progress.for_stderr()
    shown.begin("clips", len(clips), "clips")
    try:
        for clip, path in zip(clips, paths, strict=True):
            frames = generate_clip(clip.config, clip.seed).frames
            height, width = clip.config.height, clip.config.width
            with open_video(path, fps=clip.config.fps, height=height, width=width) as video:
                for frame in frames:
                    video.write(frame)
            shown.advance(1)
    finally:
        shown.end()
    at.write_text(truth)  # last: it says that the clips are complete
    return list(map(str, paths))


def _truth_of(clips: Sequence[_Clip]) -> str:
    """The truth of all clips in one file.

    The presets name their categories differently; in common they have only that there are things.
    """
    from vis_core.data.synth.generate import generate_truth
    from vis_core.data.synth.truth import GENERATOR_VERSION, annotation_entries, video_entry

    videos: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, clip in enumerate(clips, 1):
        truth = generate_truth(clip.config, clip.seed)
        videos.append(video_entry(truth, clip.name, number))
        annotations += annotation_entries(truth, number, len(annotations) + 1)
    document = {
        "info": {"generator_version": GENERATOR_VERSION},
        "videos": videos,
        "annotations": [{**row, "category_id": 1} for row in annotations],
        "categories": [{"id": 1, "name": "object"}],
    }
    return json.dumps(document)


# --- labelling and drawing ------------------------------------------------------------------------


def _job(inputs: Sequence[str], results: Path, system: str, arguments: argparse.Namespace) -> Job:
    settings = [f"shard_frames={SHARD_FRAMES}", *arguments.set]
    words = ["label", *inputs, "--out", results, "--system", system]
    words += ["--runner", arguments.runner]
    for setting in settings:
        words += ["--set", setting]
    job = make_job(
        inputs,
        str(results),
        [MemberSpec(system=get_system(system))],
        settings=config.parse_assignments(settings),
    )
    if _holds_another_job(job):
        job = dataclasses.replace(job, replace=True)
        words.append("--replace")
    _say(words)
    return job


def _holds_another_job(job: Job) -> bool:
    """Whether the results are of other videos, or of another system."""
    if not is_results_folder(job.out):
        return False
    earlier = open_store(job.out, create=False).job() or {}
    systems = [dict(member).get("system") for member in earlier.get("members", [])]
    return earlier.get("inputs") != list(job.inputs) or systems != [job.members[0].system.name]


def _draw(results: Path, system: str, folder: Path) -> list[tuple[VideoInfo, Strip]]:
    """Overlay videos of a system's clips, and some of their moments."""
    from vis_core.render.render import render
    from vis_core.render.sheet import strip_of
    from vis_core.render.source import RenderSource
    from vis_core.video.reader import VideoReader

    overlays = folder / results.name.replace("results", "overlays")
    _say(["render", results, "--out", overlays])
    source = RenderSource(str(results))
    report = render(source, str(overlays), progress=progress.for_stderr())
    for video_id, reason in report.skipped.items():
        print(f"  skipped {terminal.one_line(video_id)}: {terminal.one_line(reason)}")
    drawn = [video for video in source.videos if video.video_id not in report.skipped]
    counts = _rows_of_videos(results, "tracks")
    with VideoReader() as reader:
        captions = [f"{v.video_id}, {counts[v.video_id]} tracks by {system}" for v in drawn]
        return [
            (video, strip_of(source, video, reader, caption))
            for video, caption in zip(drawn, captions, strict=True)
        ]


def _write_sheet(path: Path, strips: Sequence[tuple[VideoInfo, Strip]]) -> None:
    """Clip by clip; the sort keeps the systems of a clip in their order."""
    from vis_core.render.sheet import contact_sheet

    ordered = [strip for _, strip in sorted(strips, key=lambda pair: _rank(pair[0]))]
    LocalFolder(path.parent).replace(path.name, contact_sheet(ordered, SHEET_BYTES))


def _rank(video: VideoInfo) -> tuple[int, str]:
    """Our clips in their order, then the user's."""
    names = [clip.name for clip in CLIPS]
    known = video.video_id in names
    return names.index(video.video_id) if known else len(names), video.video_id


# --- what came out --------------------------------------------------------------------------------


def _rows(results: Path, system: str) -> list[list[str]]:
    store = open_store(str(results), create=False)
    tracks, masks = (_rows_of_videos(results, name) for name in ("tracks", "masks"))
    seconds = _seconds(store)
    rows = []
    for video in sorted(table_to_videos(store.videos()), key=_rank):
        name = video.video_id
        numbers = video.num_frames, tracks[name], masks[name]
        rows.append(
            [terminal.one_line(name), system, *map(str, numbers), f"{seconds.get(name, 0.0):.1f}"]
        )
    return rows


def _table(found: Sequence[Sequence[str]]) -> str:
    rows = [["clip", "system", "frames", "tracks", "masks", "seconds"], *found]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            [
                *map(str.ljust, row[:2], widths[:2]),
                *map(str.rjust, row[2:], widths[2:]),
            ]
        )
        for row in rows
    ]
    return "\n".join(["", *lines])


def _rows_of_videos(results: Path, name: str) -> collections.Counter[str]:
    """How many rows each video has in one of the tables."""
    counts: collections.Counter[str] = collections.Counter()
    for path in (results / name).glob("*.parquet"):
        for row in pc.value_counts(pq.read_table(path, columns=["video_id"])["video_id"]):
            counts[row["values"].as_py()] += row["counts"].as_py()
    return counts


def _seconds(store: Store) -> dict[str, float]:
    """What decoding and predicting each video took on one core, in this run or an earlier one."""
    seconds: dict[str, float] = collections.defaultdict(float)
    for name in store.table(CURRENT, _CURRENT)["file"].to_pylist():
        receipt = parts.read_receipt(store.folder, name)
        if receipt is not None:
            spent = receipt.decode_seconds + receipt.predict_seconds + receipt.write_seconds
            frames = sum(segment.num_rows for segment in receipt.segments)
            for segment in receipt.segments:
                seconds[segment.key.video_id] += spent * segment.num_rows / max(frames, 1)
    return seconds


def _where_to_look(folder: Path, systems: Sequence[str]) -> str:
    python = Path(sys.executable)
    if python.is_relative_to(Path.cwd()):
        python = python.relative_to(Path.cwd())
    results = [_results(folder, system) for system in systems]
    overlays = [folder / path.name.replace("results", "overlays") for path in results]
    query = (
        "select video_id, track_id, count(*) as frames, round(avg(score), 2) as score"
        f' from \\"{results[0] / "masks" / "*.parquet"}\\" group by all order by all'
    )
    lines = [
        "",
        f"picture   {folder}/contact.png",
        *(f"overlays  {path}/*.mp4, for any browser" for path in overlays),
        *(f"tables    {path}/tracks and {path}/masks, as Parquet" for path in results),
        f"truth     {folder}/clips/truth.json, of the clips made here",
        "",
        f"Try: {python} -c 'import duckdb; duckdb.sql(\"{query}\").show()'",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
