"""Makes odd clips with a real FFmpeg, and says what FFmpeg itself decodes from a file."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import imageio_ffmpeg

from vis_core.types import VideoInfo
from vis_core.video.limits import Limits
from vis_core.video.probe import probe_source
from vis_core.video.sources import Source
from vis_core.video.uris import local_uri

X264 = ("-c:v", "libx264", "-preset", "veryfast")
# name: encoder arguments. 60 frames of 160x90, five groups of pictures, unless they say otherwise.
CLIPS: dict[str, tuple[str, ...]] = {
    "closed.mp4": (*X264, "-g", "12"),
    "open_gop.mp4": (*X264, "-x264-params", "open-gop=1:keyint=12:bframes=3"),
    "open_gop.mkv": (*X264, "-x264-params", "open-gop=1:keyint=12:bframes=3"),
    "intra_refresh.mp4": (*X264, "-x264-params", "intra-refresh=1:keyint=12"),
    "all_intra.mp4": (*X264, "-g", "1"),
    "stream.ts": (*X264, "-g", "12"),
    "intra_refresh.ts": (*X264, "-x264-params", "intra-refresh=1:keyint=12"),
    "vfr.mp4": (*X264, "-g", "12", "-vf", "scale=160:90,select='mod(n,5)'", "-fps_mode", "vfr"),
    "one_frame.mp4": (*X264, "-frames:v", "1"),
    "odd_size.mp4": (*X264, "-vf", "scale=157:89,setsar=1", "-pix_fmt", "yuv444p", "-g", "12"),
    "hevc.mp4": ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "keyint=12"),
    "ten_bit.mkv": (*X264, "-pix_fmt", "yuv420p10le", "-g", "12"),
    "av1.mkv": ("-c:v", "libsvtav1", "-preset", "12", "-g", "12"),
    "vp9.webm": ("-c:v", "libvpx-vp9", "-g", "12", "-deadline", "realtime", "-cpu-used", "8"),
    "vp8.webm": ("-c:v", "libvpx", "-g", "12", "-auto-alt-ref", "1", "-lag-in-frames", "10"),
    "mpeg4_bframes.avi": ("-c:v", "mpeg4", "-g", "12", "-bf", "2"),
    "mpeg4.avi": ("-c:v", "mpeg4", "-g", "12"),
    "mpeg2.mpg": ("-c:v", "mpeg2video", "-g", "12", "-bf", "2"),
    "mjpeg.mov": ("-c:v", "mjpeg"),
    "raw.h264": (*X264, "-g", "12"),
}


def ffmpeg(*arguments: str | Path) -> str:
    """Runs FFmpeg; its standard output."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def make_clip(path: Path, arguments: tuple[str, ...]) -> Path:
    """A test pattern in motion: every frame differs from every other."""
    size = () if "-vf" in arguments else ("-vf", "scale=160:90")
    source = ("-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25:duration=2.4")
    ffmpeg(*source, *size, *arguments, path)
    return path


def make_two_shots(path: Path) -> Path:
    """40 red frames, then 40 with blue noise, in one group of pictures."""
    graph = "color=red:s=160x96:r=25:d=1.6[a];color=blue:s=160x96:r=25:d=1.6[b];[a][b]concat"
    ffmpeg("-f", "lavfi", "-i", graph, *X264, "-sc_threshold", "0", path)
    return path


def ffmpeg_hashes(path: Path, filters: str | None = None) -> list[str]:
    """MD5 of each frame of the first real video stream, as RGB in display orientation."""
    extra = ("-vf", filters) if filters else ()
    text = ffmpeg(
        *("-i", path, "-map", "0:V:0", "-fps_mode", "passthrough", *extra),
        *("-pix_fmt", "rgb24", "-f", "framehash", "-hash", "md5", "-"),
    )
    return [line.rsplit(",", 1)[1].strip() for line in text.splitlines() if line[:1] != "#"]


def source_of(path: Path, video_id: str | None = None) -> Source:
    status = path.stat()
    return Source(
        video_id=video_id or path.stem,
        uri=local_uri(str(path)),
        kind="video",
        bytes=status.st_size,
        mtime_ns=status.st_mtime_ns,
    )


def probe(path: Path, video_id: str | None = None) -> VideoInfo:
    return probe_source(source_of(path, video_id), Limits())


def damaged(data: bytes, rng: random.Random) -> bytes:
    """A copy with flipped bits, a burst of noise, two stretches swapped, or the end cut off."""
    changed, first = bytearray(data), len(data) // 20
    kind = rng.choice(["flip", "burst", "swap", "cut"])
    if kind == "cut":
        return bytes(changed[: rng.randrange(first, len(data))])
    if kind == "flip":
        for _ in range(rng.randint(1, 40)):
            changed[rng.randrange(first, len(data))] ^= 1 << rng.randrange(8)
        return bytes(changed)
    size = min(300, len(data) // 4)
    here, there = (rng.randrange(first, len(data) - size) for _ in range(2))
    if kind == "burst":
        changed[here : here + size] = rng.randbytes(size)
    else:
        changed[here : here + size] = data[there : there + size]
        changed[there : there + size] = data[here : here + size]
    return bytes(changed)
