"""What is said never ends the work, and nothing that is said commands a terminal."""

import io
import json
import logging
import os
import pty
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

from jobs import cli
from jobs.terminal import Output, one_line
from tests.support.clips import write_clips
from tests.support.results import REELMASK, REPO, command, reelmask, result_digest, start
from vis_core import errors

EVIL = "red\x1b[31m\x07\x9b0m\u202etxt\x7f"
SHOWN = r"red\u001b[31m\u0007\u009b0m\u202etxt\u007f"


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    write_clips(folder, 2, num_frames=12)
    return folder


def words(clips, out, *more):
    sets = (f"truth={clips}/truth.json", "shard_frames=6", *more)
    given = ["label", str(clips), "--out", str(out), "--system", "oracle"]
    return [*given, *(word for text in sets for word in ("--set", text))]


@pytest.fixture(scope="module")
def labelled(clips, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("labelled") / "out"
    assert cli.main(words(clips, out)) == 0
    return out


def in_shell(text: str, **more) -> subprocess.CompletedProcess:
    """A line of bash; `$R` is the program."""
    program = " ".join(REELMASK)
    environment = {**os.environ, "PYTHONPATH": str(REPO), "R": program, **more}
    return subprocess.run(
        ["bash", "-c", text], env=environment, capture_output=True, text=True, check=False
    )


# --- nobody listens -------------------------------------------------------------------------------


@pytest.mark.parametrize("nobody", ["2>&1 >/dev/null | true", "2>/dev/full", "2>&-"])
def test_a_run_is_finished_though_nobody_reads_its_stderr(clips, labelled, tmp_path, nobody):
    """Progress, logs and warnings lose their reader, the run its audience and nothing else."""
    line = " ".join(words(clips, tmp_path / "out"))
    done = in_shell(f"$R {line} {nobody}; echo code ${{PIPESTATUS[0]}}")
    assert done.stdout.splitlines()[-1] == "code 0", done.stderr
    assert result_digest(tmp_path / "out") == result_digest(labelled)


def test_a_failure_keeps_its_code_though_nobody_reads_it(tmp_path):
    done = in_shell(
        "$R label none --out o --system oracle 2>&1 >/dev/null | true; echo ${PIPESTATUS[0]}"
    )
    assert done.stdout.split() == ["2"]


def test_a_terminal_that_is_gone_ends_no_run(clips, labelled, tmp_path):
    """The bar is drawn on a terminal whose other end was closed: every write fails with EIO."""
    ours, theirs = pty.openpty()
    argv, environment = command(*words(clips, tmp_path / "out"))
    environment |= {"REELMASK_FAILPOINTS": ""}
    run = subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    os.read(ours, 1)  # it has begun to draw
    os.close(ours)
    assert run.wait() == 0
    assert result_digest(tmp_path / "out") == result_digest(labelled)


@pytest.mark.parametrize("what", ["verify {}", "explain {} clip_0000", "verify {} --json"])
def test_a_reader_of_the_result_may_leave(labelled, what):
    done = in_shell(f"$R {what.format(labelled)} | true; echo ${{PIPESTATUS[0]}}")
    assert done.stdout.split() == ["0"] and done.stderr == ""


def test_help_may_be_cut_short():
    done = in_shell("$R --help | true; echo ${PIPESTATUS[0]}")
    assert done.stdout.split() == ["0"] and done.stderr == ""


def test_a_result_that_could_not_be_printed_is_no_success(labelled):
    done = in_shell(f"$R verify {labelled} --json > /dev/full; echo $?")
    assert done.stdout.split() == [str(errors.EXIT_FAILED)]
    assert done.stderr == "reelmask: the result could not be printed: No space left on device\n"


def test_a_pipe_that_breaks_elsewhere_is_a_failure(labelled, monkeypatch, capsys):
    """Storage behind a socket may raise it as well, before anything was done."""
    from vis_core.stages import audit

    def broken(*args, **kwargs):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(audit, "verify", broken)
    assert cli.main(["verify", str(labelled)]) == errors.EXIT_FAILED
    assert "Broken pipe" in capsys.readouterr().err


def test_a_stream_that_fails_is_given_up_once():
    class Full(io.StringIO):
        calls = 0

        def write(self, text):
            self.calls += 1
            raise OSError(28, "No space left on device")

    stream = Full()
    out = Output(stream)
    assert out.write("a") == 1 and out.write("bc") == 2
    assert (stream.calls, out.error.errno) == (1, 28)


# --- what a terminal would obey -------------------------------------------------------------------


@pytest.fixture(scope="module")
def evil(tmp_path_factory) -> tuple[Path, str]:
    """Results of a video and a file that is none, both with names that command terminals."""
    folder = tmp_path_factory.mktemp("evil") / f"in {EVIL}"
    (clip,) = write_clips(folder, 1, num_frames=6)
    clip.rename(clip.with_name(f"a{EVIL}\nb.mp4"))
    (folder / f"no{EVIL}.mp4").write_text("no video")
    (folder / "truth.json").unlink()
    out = folder.parent / "out"
    given = ["label", str(folder), "--out", str(out), "--system", "oracle"]
    assert cli.main([*given, "--set", "truth=formula:2"]) == errors.EXIT_QUARANTINE
    done = reelmask("verify", out)
    assert done.returncode == 0, done.stderr
    return out, next(name for name in ids(out) if name.startswith("a"))


def ids(out):
    import pyarrow.parquet as pq

    return pq.read_table(out / "videos" / "videos.parquet")["video_id"].to_pylist()


def harmless(text: str) -> bool:
    return all(c in "\n\t" or (c.isprintable() and c not in "\u202e") for c in text)


def test_names_command_no_terminal(evil, capfd):
    """Neither results nor messages, log lines and warnings."""
    out, video = evil
    folder = out.parent / f"in {EVIL}"
    for given in (
        ["explain", str(out), video],
        ["verify", str(out), "--deep"],
        ["explain", str(out), f"{EVIL}\nreelmask: all is well"],
        ["plan", str(folder), "--system", "oracle", "--set", "truth=formula:2"],
        ["label", str(folder / EVIL), "--out", "o", "--system", "oracle", "--set", f"{EVIL}=1"],
        ["render", str(out), "--out", str(out.parent / EVIL), "--height", "64"],
    ):
        cli.main(given)
        said = capfd.readouterr()
        assert said.out + said.err and harmless(said.out + said.err), given
    with pytest.raises(SystemExit):
        cli.main(["label", f"--{EVIL}"])
    assert harmless(capfd.readouterr().err)


def test_a_name_begins_no_line_of_its_own(evil, capfd):
    out, video = evil
    assert cli.main(["explain", str(out), video]) == 0
    assert not any(line.startswith("b") for line in capfd.readouterr().out.splitlines())
    assert one_line("a\nb\tc") == "a\\nb\\tc"


def test_log_lines_command_no_terminal(capsys):
    from jobs import terminal

    with terminal.guarded():
        handler = terminal.Handler()
        handler.handle(logging.makeLogRecord({"msg": "%s", "args": (f"{EVIL}\nreelmask: ok",)}))
    assert capsys.readouterr().err == f"{SHOWN}\\nreelmask: ok\n"


def test_json_stays_json(evil, capfd):
    out, video = evil
    assert cli.main(["explain", str(out), video, "--json"]) == 0
    text = capfd.readouterr().out
    assert harmless(text) and json.loads(text)["video"]["video_id"] == video


def test_a_terminal_that_lacks_letters_gets_escapes(tmp_path):
    """Both what is printed and what is said of it, whatever encoding is asked for."""
    (clip,) = write_clips(tmp_path / "in", 1, num_frames=3)
    clip.rename(clip.with_name("日本.mp4"))
    given = ["label", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--system", "oracle"]
    assert cli.main([*given, "--set", "truth=formula:1"]) == 0
    plain = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    for video, locale, code in (
        ("日本", {"PYTHONIOENCODING": "ascii"}, 0),
        ("日本", {"PYTHONIOENCODING": "latin-1:strict"}, 0),
        ("another", plain, errors.EXIT_USAGE),
    ):
        done = in_shell(f"$R explain {tmp_path}/out {video}", **locale)
        assert done.returncode == code and "Traceback" not in done.stderr, done.stderr
        assert r"\u65e5\u672c" in done.stdout + done.stderr


# --- stopped from outside -------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_terminal_that_closes_stops_a_run_like_ctrl_c(clips, labelled, tmp_path, number):
    """Shell and kernel both send SIGHUP: the second does not cut the commit short."""
    out = tmp_path / "out"
    running = start(*words(clips, out), failpoints="after_segment=hang@3")
    while len(list(out.glob("frames/part-*"))) < 2:
        assert running.poll() is None
        time.sleep(0.05)
    running.send_signal(number)
    running.send_signal(number)
    assert running.wait() == errors.EXIT_INTERRUPTED
    assert list((out / "manifest" / "segments").glob("*.parquet"))
    assert cli.main(words(clips, out)) == 0
    assert result_digest(out) == result_digest(labelled)


def test_under_nohup_a_closed_terminal_stops_nothing(tmp_path):
    code = (
        "import signal; from jobs import signals; signals.interrupt_on_termination();"
        "print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN)"
    )
    done = in_shell(f"trap '' HUP; exec {sys.executable} -c '{code}'")
    assert done.stdout.split() == ["True"], done.stderr


@pytest.mark.xdist_group("ray")
def test_sigterm_under_ray_keeps_what_was_done(clips, labelled, tmp_path):
    """Ray takes the signal for itself as it starts: what it would do with it loses receipts."""
    out = tmp_path / "out"
    given = [*words(clips, out, "num_actors=1", "flush_seconds=3600"), "--runner", "ray"]
    argv, environment = command(*given, failpoints="after_segment=hang@3")
    run = subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while len(list(out.glob("frames/part-*"))) < 2:
        assert run.poll() is None, run.stderr.read()
        time.sleep(0.05)
    time.sleep(2)  # until the driver has the receipts
    run.send_signal(signal.SIGTERM)
    _, said = run.communicate()
    assert run.returncode == errors.EXIT_INTERRUPTED, said
    assert b"Traceback" not in said and b"interrupted" in said
    record = json.loads((out / "run.json").read_text())
    assert record["exit_code"] == errors.EXIT_INTERRUPTED and record["num_units"] == 2
    assert list((out / "manifest" / "segments").glob("*.parquet"))
    assert cli.main(words(clips, out)) == 0
    assert result_digest(out) == result_digest(labelled)


# --- nothing of others is written over ------------------------------------------------------------


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def refused(capsys):
    def run(*words):
        capsys.readouterr()
        assert cli.main([str(word) for word in words]) == errors.EXIT_USAGE
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return said.err.splitlines()[-1]

    return run


@pytest.mark.parametrize("kind", ["video", "link", "dangling", "folder", "nowhere"])
def test_a_trace_replaces_nothing_but_a_trace(clips, tmp_path, refused, kind):
    victim = tmp_path / "victim.mp4"
    victim.write_bytes(b"a video")
    path = victim if kind == "video" else tmp_path / "trace.json"
    if kind == "link":
        path.symlink_to(victim)
    elif kind == "dangling":
        path.symlink_to(tmp_path / "none")
    elif kind == "folder":
        path.mkdir()
    elif kind == "nowhere":
        path = tmp_path / "none" / "trace.json"
    line = refused(*words(clips, tmp_path / "out", f"trace={path}"))
    assert line.startswith("reelmask: trace: ") and str(path) in line
    assert victim.read_bytes() == b"a video" and not (tmp_path / "none").exists()


def test_a_trace_replaces_an_earlier_trace(clips, tmp_path):
    trace = tmp_path / "trace.json"
    sizes = []
    for name in ("one", "two", "two"):
        assert cli.main(words(clips, tmp_path / name, f"trace={trace}")) == 0
        sizes.append(trace.stat().st_size)
        json.loads(trace.read_text().rstrip().rstrip(",") + "]")
    assert sizes[2] < sizes[0]  # nothing was left to do
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_trace_that_cannot_be_written_ends_no_run(clips, labelled, tmp_path, caplog):
    """Its name is taken by the run itself."""
    out = tmp_path / "out"
    assert cli.main(words(clips, out, f"trace={out}/run.json")) == 0
    assert "no trace is written" in caplog.text
    assert json.loads((out / "run.json").read_text())["exit_code"] == 0
    assert result_digest(out) == result_digest(labelled)


def test_overlays_replace_nothing_but_overlays(clips, labelled, tmp_path, refused):
    """The folder of the videos themselves is a tempting place."""
    folder = tmp_path / "videos"
    write_clips(folder, 2, num_frames=12)
    before = snapshot(folder)
    line = refused("render", labelled, "--out", folder, "--height", "64")
    assert "clip_0000.mp4' is there already and is no overlay" in line
    assert snapshot(folder) == before
    for _ in range(2):
        given = ["render", str(labelled), "--out", str(tmp_path / "overlays"), "--height", "64"]
        assert cli.main(given) == 0


def test_no_command_writes_over_files_of_others(clips, labelled, tmp_path, refused):
    """Exports, synthetic data, fused and linked results go where nothing of others is."""
    mine = tmp_path / "mine"
    for name in ("tracks/mine.parquet", "truth.json", "fuse.json", "curves.png", "videos/a.mp4"):
        (mine / name).parent.mkdir(parents=True, exist_ok=True)
        (mine / name).write_bytes(b"mine")
    before = snapshot(mine)
    refused("export", labelled, "--format", "ytvis", "--out", mine / "truth.json")
    refused("export", labelled, "--format", "davis", "--out", mine)
    refused("synth", "--out", mine, "--videos", "1", "--seed", "0")
    refused("fuse", f"a={labelled}", f"b={labelled}", "--out", mine)
    refused("link", labelled, "--system", "oracle", "--out", mine)
    refused(*words(clips, mine))
    assert snapshot(mine) == before


@pytest.mark.parametrize("name", ["metrics.csv", "weights/last.safetensors", "train.yaml"])
def test_a_training_writes_over_nothing_of_others(tmp_path, name):
    """Also not where others use the same names."""
    from vis_core.errors import UsageError
    from vis_core.training.folder import opened

    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("recipe: idol\nout: here\n")
    before = snapshot(tmp_path)
    job = types.SimpleNamespace(out=str(tmp_path))
    with pytest.raises(UsageError, match=r"another `out`"), opened(job, replace=True):
        pass
    assert snapshot(tmp_path) == before


def test_a_demo_takes_no_folder_of_others(tmp_path, capsys):
    from jobs import demo

    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "truth.json").write_text("mine")
    before = snapshot(tmp_path)
    assert demo.main([str(tmp_path), "--runner", "inline"]) == errors.EXIT_USAGE
    assert "holds files that are no demo's" in capsys.readouterr().err
    assert snapshot(tmp_path) == before
