"""Systems that raise, mix up their batch or lose frames: what the run makes of each."""

import dataclasses

import pytest

from tests.support.results import open_failures, result_digest, run_record, table
from tests.support.tiny_net import TINY_NET
from vis_core.errors import AlignmentError
from vis_core.job import MemberSpec, make_job
from vis_core.local import run_inline
from vis_core.progress import Silence


def run(clips, out, system, progress=None, **options):
    job = make_job(
        [str(clips)],
        str(out),
        [MemberSpec(system=system)],
        settings={"shard_frames": 8},
        **options,
    )
    return run_inline(job, progress)


def predicting(change):
    """TINY_NET with the rows of every call passed through `change(rows, window)`."""

    class Changed:
        def __init__(self, config):
            self.inner = TINY_NET.make_predictor(config)

        def predict(self, frames, window):
            yield from change(self.inner.predict(frames, window), window)

    return dataclasses.replace(TINY_NET, make_predictor=Changed)


def drop_second(rows, window):
    for number, row in enumerate(rows):
        if number != 1:
            yield row


def swap_first_two(rows, window):
    first, second, *rest = rows
    yield from (second, first, *rest)


def shift_time(rows, window):
    for row in rows:
        yield dataclasses.replace(row, pts_seconds=row.pts_seconds + 0.1)


def repeat_first(rows, window):
    for number, row in enumerate(rows):
        yield row
        if number == 0:
            yield row


def wrong_video(rows, window):
    for row in rows:
        yield dataclasses.replace(row, video_id="another")


@pytest.mark.parametrize(
    "change", [drop_second, swap_first_two, shift_time, repeat_first, wrong_video]
)
def test_rows_that_are_not_the_frames_that_went_in_stop_the_run(clips, tmp_path, change):
    """A wrong pairing of rows and frames is never written."""
    with pytest.raises(AlignmentError):
        run(clips, tmp_path / "out", predicting(change))
    assert not list((tmp_path / "out").glob("frames/part-*"))


def test_a_model_that_raises_on_one_video_loses_only_that(clips, tmp_path):
    """Its segments are tried three times on their own, then given up; the code is 3."""

    def raise_on_one(rows, window):
        if window.video.video_id == "clip_0002" and window.start >= 8:
            raise RuntimeError("no kernel for this")
        yield from rows

    report = run(clips, tmp_path / "out", predicting(raise_on_one))
    assert report.exit_code == 3 and report.status == {"ok": 7, "partial": 1}
    failures = open_failures(tmp_path / "out")
    assert {(f["video_id"], f["stage"], f["attempts"]) for f in failures} == {
        ("clip_0002", "predict", 3)
    }
    assert sorted((f["start_frame"], f["stop_frame"]) for f in failures) == [(8, 16), (16, 20)]
    assert all("no kernel for this" in f["message"] for f in failures)
    assert all(account["holds"] for account in report.conservation)
    tracks = table(tmp_path / "out", "tracks").to_pylist()
    assert max(t["stop_frame"] for t in tracks if t["video_id"] == "clip_0002") <= 8

    healed = run(clips, tmp_path / "out", TINY_NET, retry_quarantined=True)
    assert healed.exit_code == 0 and healed.frames_predicted == 12
    run(clips, tmp_path / "clean", TINY_NET)
    assert result_digest(tmp_path / "out") == result_digest(tmp_path / "clean")


class Shown(Silence):
    """What progress showed of frames, and what was saved then."""

    def __init__(self, out):
        self.out, self.stage, self.steps, self.unsaved = out, "", [], 0

    def begin(self, stage, total, unit):
        self.stage = stage

    def advance(self, amount):
        if self.stage == "predict":
            self.steps.append(amount)
            self.unsaved += not list(self.out.glob("frames/part-*"))


def test_progress_shows_frames_as_they_come_and_takes_back_what_failed(clips, tmp_path):
    def raise_after_three(rows, window):
        for number, row in enumerate(rows):
            if window.video.video_id == "clip_0002" and number == 3:
                raise RuntimeError("no kernel for this")
            yield row

    out = tmp_path / "out"
    shown = Shown(out)
    report = run(clips, out, predicting(raise_after_three), progress=shown)
    assert report.exit_code == 3
    assert sum(shown.steps) == report.frames_predicted and min(shown.steps) < 0
    assert shown.unsaved > 1

    again = Shown(out)
    healed = run(clips, out, TINY_NET, progress=again, retry_quarantined=True)
    assert sum(again.steps) == healed.frames_predicted > 0 == min(again.steps)


def test_a_linker_that_raises_loses_only_that_video(clips, tmp_path):
    """Other videos are linked; the failure is tried again only when asked."""

    class Raising:
        def __init__(self, config):
            self.inner = TINY_NET.make_linker(config)
            self.video_id = ""

        def start(self, video):
            self.video_id = video.video_id
            self.inner.start(video)

        def step(self, item):
            self.inner.step(item)

        def finish(self):
            if self.video_id == "clip_0004":
                raise ArithmeticError("singular")
            return self.inner.finish()

    raising = dataclasses.replace(TINY_NET, make_linker=Raising)
    report = run(clips, tmp_path / "out", raising)
    assert report.exit_code == 3 and report.status == {"ok": 7, "partial": 1}
    (failure,) = open_failures(tmp_path / "out")
    assert (failure["stage"], failure["error_class"]) == ("link", "ArithmeticError")
    again = run(clips, tmp_path / "out", TINY_NET)
    assert (again.exit_code, again.videos_linked) == (3, 0)
    healed = run(clips, tmp_path / "out", TINY_NET, retry_quarantined=True)
    assert (healed.exit_code, healed.videos_linked, healed.frames_predicted) == (0, 1, 0)
    assert run_record(tmp_path / "out")["open_failures"] == 0
    run(clips, tmp_path / "clean", TINY_NET)
    assert result_digest(tmp_path / "out") == result_digest(tmp_path / "clean")
