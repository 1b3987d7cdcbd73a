"""The probe against real and hostile files; truth comes from a separate ffmpeg program."""

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import fsspec
import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from vis_core.errors import SourceError
from vis_core.video.images import list_frames, probe_images, read_frame
from vis_core.video.limits import Limits
from vis_core.video.probe import display_size, open_container, probe_source
from vis_core.video.sources import expand_inputs
from vis_core.video.uris import local_uri

SHARED = Path(os.environ.get("REELMASK_SHARED", Path(__file__).parents[3] / "shared"))
MEDIA = sorted(p for p in SHARED.glob("media/**/*") if p.suffix in (".mp4", ".mkv"))
MEDIA_NAMES = [path.name for path in MEDIA]
FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
LIMITS = Limits()
SMALL = ["-f", "lavfi", "-i", "testsrc2=s=96x64:r=25:d=2"]
VP9 = ["-c:v", "libvpx-vp9", "-auto-alt-ref", "1", "-lag-in-frames", "25", "-cpu-used", "8"]
X264 = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-bf", "2", "-g", "20"]


def ffmpeg(*arguments, cwd=None):
    command = [FFMPEG, "-nostdin", "-hide_banner", "-v", "error", "-y", *map(str, arguments)]
    subprocess.run(command, check=True, cwd=cwd, capture_output=True, timeout=600)


def truth(path, *arguments):
    """Frames an independent decoder shows, and the display size it scales them to."""
    square = ["-vf", "scale=trunc(iw*sar+0.5):ih:flags=neighbor,setsar=1"]
    command = [FFMPEG, "-nostdin", "-hide_banner", *arguments, "-i", f"file:{path}"]
    command += ["-map", "0:V:0", *square, "-fps_mode", "passthrough", "-f", "rawvideo"]
    command += ["-pix_fmt", "gray", "-y", os.devnull]
    text = subprocess.run(command, check=True, capture_output=True, timeout=600).stderr.decode()
    frames = re.findall(r"frame=\s*(\d+)", text)[-1]
    width, height = re.search(r"rawvideo.*?(\d{2,})x(\d{2,})", text.split("Output #0")[1]).groups()
    return int(frames), int(height), int(width)


def probe(path, limits=LIMITS):
    (source,) = expand_inputs([str(path)], {})
    return probe_source(source, limits)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """One plain H.264 clip the tests below bend and break."""
    path = tmp_path_factory.mktemp("clip") / "plain.mp4"
    ffmpeg(*SMALL, *X264, path)
    return path


def check_against_truth(path):
    video = probe(path)
    assert (video.num_frames, video.height, video.width) == truth(path)
    return video


@pytest.mark.skipif(not MEDIA, reason=f"no shared media under {SHARED}; set REELMASK_SHARED")
@pytest.mark.parametrize("path", MEDIA, ids=MEDIA_NAMES)
def test_real_files_have_the_frames_and_size_ffmpeg_shows(path):
    """Counted without decoding, equal to an independent decoder's count."""
    video = check_against_truth(path)
    assert (video.status, video.error, video.sequential) == ("ok", None, False)
    assert video.key_frames[0] == 0


ENCODINGS = {
    "one_frame.mp4": [*SMALL, *X264, "-frames:v", "1"],
    "odd_size.mp4": [*SMALL, "-vf", "crop=95:63:exact=1", "-c:v", "libx264", "-pix_fmt", "yuv444p"],
    "ten_bit.mp4": [*SMALL, *X264, "-pix_fmt", "yuv420p10le"],
    "open_gop.mp4": [*SMALL, *X264, "-x264-params", "open-gop=1:bframes=3:keyint=10"],
    "intra_refresh.mp4": [*SMALL, *X264, "-bf", "0", "-x264-params", "intra-refresh=1"],
    "variable_rate.mp4": [*SMALL, "-vf", "setpts=N*N*40/TB/1000", "-fps_mode", "vfr", *X264],
    "anamorphic.mp4": [*SMALL, "-vf", "setsar=16/11", *X264],
    "narrow_pixels.mkv": [*SMALL, "-vf", "setsar=8/9", *X264],
    "fragmented.mp4": [*SMALL, *X264, "-movflags", "frag_keyframe+empty_moov"],
    "hevc.mkv": [*SMALL, "-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "keyint=10"],
    "av1.webm": [*SMALL, "-c:v", "libsvtav1", "-preset", "12"],
    "vp8.webm": [*SMALL, "-c:v", "libvpx", "-deadline", "realtime", "-auto-alt-ref", "1"],
    "vp9.webm": [*SMALL, *VP9, "-b:v", "60k"],
    "h264.ts": [*SMALL, *X264],
    "mpeg2.mpg": [*SMALL, "-c:v", "mpeg2video", "-bf", "2"],
    "mpeg4.avi": [*SMALL, "-c:v", "mpeg4"],
    "wmv2.wmv": [*SMALL, "-c:v", "wmv2"],
    "theora.ogv": [*SMALL, "-c:v", "libtheora"],
    "mpeg2.mxf": [*SMALL, "-c:v", "mpeg2video"],
    "flv1.flv": [*SMALL, "-c:v", "flv"],
    "title.mp4": [*SMALL, *X264, "-metadata", "title=displaymatrix: rotation of 90.00 degrees"],
}


@pytest.mark.parametrize("name", ENCODINGS)
def test_codecs_and_containers_agree_with_ffmpeg(tmp_path, name):
    """Frame count and display size, for what archives are made of."""
    ffmpeg(*ENCODINGS[name], tmp_path / name)
    video = check_against_truth(tmp_path / name)
    assert not video.sequential
    assert len(video.pts_of(np.arange(video.num_frames))) == video.num_frames
    assert video.rotation == 0


@pytest.mark.parametrize("name", ["raw.h264", "h264_reordered.avi", "moving.gif"])
def test_files_without_usable_time_stamps_are_counted(tmp_path, name):
    """Time then follows from the frame rate, and decoding from the start."""
    ffmpeg(*SMALL, *([] if name.endswith("gif") else X264), tmp_path / name)
    video = check_against_truth(tmp_path / name)
    assert video.sequential
    assert video.duration_seconds == pytest.approx(2.0)
    assert video.seconds_of(np.array([0, 25])) == pytest.approx([0.0, 1.0])


def test_two_recordings_in_one_transport_stream_are_counted(tmp_path):
    """The clock starts again, so pts name no frames; every frame is still there."""
    ffmpeg(*SMALL, *X264, tmp_path / "one.ts")
    data = (tmp_path / "one.ts").read_bytes()
    (tmp_path / "two.ts").write_bytes(data + data)
    video = probe(tmp_path / "two.ts")
    assert video.sequential
    assert video.num_frames == 100


def test_streams_that_appear_midway_are_no_error(tmp_path):
    """As when a recorder switches sound on; the video goes on."""
    ffmpeg(*SMALL, *X264, tmp_path / "mute.ts")
    ffmpeg(*SMALL, "-f", "lavfi", "-i", "sine=d=2", *X264, tmp_path / "loud.ts")
    both = (tmp_path / "mute.ts").read_bytes() + (tmp_path / "loud.ts").read_bytes()
    (tmp_path / "both.ts").write_bytes(both)
    assert probe(tmp_path / "both.ts").num_frames == 100


def test_time_stamps_are_those_of_the_decoder(tmp_path):
    """frame_index is the rank of pts, also with reordered frames and a late start."""
    ffmpeg(*ENCODINGS["variable_rate.mp4"], tmp_path / "in.mp4")
    video = probe(tmp_path / "in.mp4")
    with open_container(video.uri, LIMITS) as container:
        pts = [frame.pts for frame in container.decode(video=0)]
    assert video.pts is not None
    assert video.pts.tolist() == pts
    mean = (video.num_frames - 1) / float(video.seconds_of(np.array([video.num_frames - 1]))[0])
    assert video.fps == pytest.approx(mean)


def test_an_edit_list_hides_frames(tmp_path):
    """Packets that are only decoded to get to the first shown frame are no frames."""
    ffmpeg(*ENCODINGS["open_gop.mp4"], tmp_path / "in.mp4")
    ffmpeg("-ss", "0.92", "-i", tmp_path / "in.mp4", "-c", "copy", tmp_path / "cut.mp4")
    video = check_against_truth(tmp_path / "cut.mp4")
    assert video.num_frames == 27
    assert video.key_frames.tolist() == [0, 7, 17]  # 0: reached through its hidden key frame


def test_hidden_reference_frames_are_no_frames(tmp_path):
    """VP8 encoded in two passes has packets that are only there to be predicted from."""
    vp8 = ["-c:v", "libvpx", "-auto-alt-ref", "1", "-lag-in-frames", "16", "-arnr-maxframes", "7"]
    for number in (1, 2):
        ffmpeg(*SMALL, *vp8, "-b:v", "60k", "-pass", number, "clip.webm", cwd=tmp_path)
    with open_container(local_uri(str(tmp_path / "clip.webm")), LIMITS) as container:
        assert sum(1 for packet in container.demux(video=0) if packet.size) > 50
    video = check_against_truth(tmp_path / "clip.webm")
    assert (video.num_frames, video.sequential, video.pts) == (50, False, None)


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_rotation_turns_the_display_size(tmp_path, clip, degrees):
    """Counterclockwise degrees, as FFmpeg counts them."""
    turned = tmp_path / "turned.mp4"
    ffmpeg("-display_rotation", degrees, "-i", clip, "-c", "copy", turned)
    video = check_against_truth(turned)
    assert video.rotation == degrees
    assert (video.height, video.width) == ((96, 64) if degrees % 180 else (64, 96))


def test_rotation_comes_after_square_pixels():
    """As a player does it; absurd pixels are a broken header."""
    assert display_size(480, 720, 32 / 27, 0) == (480, 853)
    assert display_size(480, 720, 32 / 27, 270) == (853, 480)
    assert display_size(480, 720, None, 180) == (480, 720)
    assert display_size(480, 720, 1 / 5000, 0) == (480, 720)


def test_the_first_stream_that_is_no_cover_is_the_video(tmp_path, clip):
    """Not the largest; a cover picture never."""
    cover, audio = tmp_path / "cover.png", ["-f", "lavfi", "-i", "sine=d=2"]
    ffmpeg(*SMALL, "-frames:v", "1", cover)
    big = ["-f", "lavfi", "-i", "testsrc2=s=200x100:d=1"]
    two = tmp_path / "two.mkv"
    ffmpeg("-i", clip, *big, "-map", "0", "-map", "1", "-c:v:1", "mpeg4", "-c:v:0", "copy", two)
    assert (probe(two).num_frames, probe(two).width) == (50, 96)
    covered = tmp_path / "covered.mp4"
    maps = ["-map", "0", "-map", "2", "-map", "1", "-c:v:0", "png", "-c:v:1", "copy"]
    ffmpeg("-i", cover, "-i", clip, *audio, *maps, "-disposition:v:0", "attached_pic", covered)
    assert probe(covered).num_frames == 50
    song = tmp_path / "song.m4a"
    maps = ["-map", "1", "-map", "0", "-c:v", "png", "-disposition:v:0", "attached_pic"]
    ffmpeg("-i", cover, *audio, *maps, song)
    with pytest.raises(SourceError, match=r"no video stream, only audio \(aac\) and a cover"):
        probe(song)


# --- damaged, odd and hostile files -------------------------------------------------------------


def test_audio_only_is_said_so(tmp_path):
    """With the codec, and the file's name."""
    ffmpeg("-f", "lavfi", "-i", "sine=d=1", tmp_path / "talk.mp4")
    with pytest.raises(SourceError, match=r"talk\.mp4: has no video stream, only audio \(aac\)$"):
        probe(tmp_path / "talk.mp4")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"the file is empty \(0 bytes\)"),
        (b"\0" * 4096, "zero bytes only"),
        (b"dear diary, today I shot a video\n" * 50, "got a text file"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 99, "got a JPEG picture"),
        (b"PK\x03\x04" + bytes(range(256)), "zip archive; unpack it"),
        (bytes(range(255, 0, -1)) * 40, "not a video container this FFmpeg build can read"),
    ],
)
def test_what_is_no_video_is_said_so(tmp_path, content, message):
    """In words its owner can act on."""
    (tmp_path / "clip.mp4").write_bytes(content)
    with pytest.raises(SourceError, match=message):
        probe(tmp_path / "clip.mp4")


def test_an_mp4_without_its_index_is_said_so(tmp_path, clip):
    """A recording or copy that was cut short: the moov box comes last."""
    data = clip.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    with pytest.raises(SourceError, match=r"no index \(moov box\): the recording or copy was cut"):
        probe(tmp_path / "cut.mp4")


def test_an_mp4_cut_inside_its_index_is_said_so(tmp_path, clip):
    """With the number of missing bytes."""
    data = clip.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[:-300])
    with pytest.raises(SourceError, match=r"cut off: \d+ bytes of its moov box are missing"):
        probe(tmp_path / "cut.mp4")


def test_a_truncated_file_has_the_frames_that_are_there(tmp_path, clip):
    """It is partial: the sample table places more frames behind its end."""
    front, cut = tmp_path / "front.mp4", tmp_path / "cut.mp4"
    ffmpeg("-i", clip, "-c", "copy", "-movflags", "+faststart", front)
    data = front.read_bytes()
    cut.write_bytes(data[: len(data) // 2])
    video = probe(cut)
    assert (video.status, video.missing_frames) == ("partial", 50 - video.num_frames)
    assert 5 < video.num_frames < 50
    assert video.error == f"cut off: {video.num_frames} of 50 frames are in the file"


@pytest.mark.parametrize("name", ["clip.ts", "clip.mkv"])
def test_damage_in_the_middle_is_stepped_over(tmp_path, clip, name):
    """4 kB of noise cost some frames, not the rest of the file."""
    ffmpeg("-stream_loop", 3, "-i", clip, "-c", "copy", tmp_path / name)
    data = bytearray((tmp_path / name).read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4096] = np.random.default_rng(0).bytes(4096)
    (tmp_path / name).write_bytes(data)
    video = probe(tmp_path / name)
    assert 120 < video.num_frames <= 200
    assert video.duration_seconds == pytest.approx(8.0, abs=0.5)


@pytest.fixture
def trap():
    """A local server that notes who calls."""
    calls = []
    server = socket.create_server(("127.0.0.1", 0))

    def listen():
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            calls.append(connection.recv(100))
            connection.close()

    threading.Thread(target=listen, daemon=True).start()
    yield f"http://127.0.0.1:{server.getsockname()[1]}", calls
    server.close()


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile '{}'\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
    '<AdaptationSet mimeType="video/mp4"><Representation id="1"><BaseURL>{}</BaseURL>'
    "</Representation></AdaptationSet></Period></MPD>",
}


@pytest.mark.parametrize("kind", PLAYLISTS)
def test_a_playlist_named_mp4_reaches_nothing(tmp_path, clip, trap, kind):
    """Neither the network nor another file, even one that is a good video."""
    url, calls = trap
    for target in (f"{url}/x.ts", "/etc/passwd", clip, f"file:{clip}"):
        path = tmp_path / "clip.mp4"
        path.write_text(PLAYLISTS[kind].format(target))
        with pytest.raises(SourceError, match="is a playlist, not a video"):
            probe(path)
    assert calls == []


def test_a_quicktime_reference_to_another_file_is_not_followed(tmp_path, clip):
    """An alias in the data reference box names the other file; no frame of it is read."""
    data = clip.read_bytes()
    start = data.index(b"dinf") - 4
    size = int.from_bytes(data[start : start + 4], "big")
    other = str(clip).encode()
    alias = bytes(150) + (2).to_bytes(2, "big") + len(other).to_bytes(2, "big") + other
    alias += b"\0" * (len(other) % 2) + b"\xff\xff\0\0"
    entry = (12 + len(alias)).to_bytes(4, "big") + b"alis" + bytes(4) + alias
    dref = (
        (16 + len(entry)).to_bytes(4, "big") + b"dref" + bytes(4) + (1).to_bytes(4, "big") + entry
    )
    dinf = (8 + len(dref)).to_bytes(4, "big") + b"dinf" + dref
    moved = bytearray(data[:start] + dinf + data[start + size :])
    for box in (b"moov", b"trak", b"mdia", b"minf"):  # the boxes around it have grown
        at = moved.index(box) - 4
        grown = int.from_bytes(moved[at : at + 4], "big") + len(dinf) - size
        moved[at : at + 4] = grown.to_bytes(4, "big")
    mdat = moved.index(b"mdat")
    length = int.from_bytes(moved[mdat - 4 : mdat], "big")
    moved[mdat + 4 : mdat - 4 + length] = bytes(length - 8)  # its own pictures are gone
    path = tmp_path / "referring.mov"
    path.write_bytes(moved)
    with open_container(local_uri(str(path)), LIMITS) as container:
        payload = b"".join(bytes(p) for p in container.demux(video=0) if p.size)
    assert not payload.strip(b"\0")


@pytest.mark.parametrize(
    "name",
    [b"bad\xff.mp4", b"concat:x|y.mp4", b"http:x.mp4", b"%d.mp4", b"a#b?c%41.mp4", b"-i.mp4"],
)
def test_odd_names_name_the_file_and_nothing_else(tmp_path, clip, name):
    """No protocol, no pattern, no option, no encoding."""
    shutil.copy(clip, os.path.join(os.fsencode(tmp_path), name))  # noqa: PTH118 - bytes
    (source,) = expand_inputs([str(tmp_path)], {})
    assert probe_source(source, LIMITS).num_frames == 50


def test_files_that_are_none_are_said_so(tmp_path, clip):
    """A pipe would hang, a folder confuse, a broken link puzzle."""
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "link.mp4").symlink_to("gone")
    cases = {"pipe": "device or pipe", "folder": "got a folder", "link": "link to a file that"}
    for name, message in {**cases, "gone": "does not exist"}.items():
        with pytest.raises(SourceError, match=message):
            open_container(local_uri(str(tmp_path / f"{name}.mp4")), LIMITS)


def test_latin1_tags_do_not_matter(tmp_path, clip):
    """A title of 1998 is no reason to refuse a video."""
    tagged = tmp_path / "tagged.mkv"
    ffmpeg("-i", clip, "-c", "copy", "-metadata", "title=xxxxNAMExxxx", tagged)
    tagged.write_bytes(tagged.read_bytes().replace(b"NAME", b"\xe9\xe8\xff\xfe"))
    assert probe(tagged).num_frames == 50


def test_limits_are_errors_with_the_setting_named(clip):
    """So that who has such videos knows what to raise."""
    with pytest.raises(SourceError, match=r"96x64 pixels exceed 1000 \(max_frame_pixels\)"):
        probe(clip, Limits(max_frame_pixels=1000))
    with pytest.raises(SourceError, match=r"more than 10 frames \(max_video_frames\)"):
        probe(clip, Limits(max_frames=10))


# --- versions -----------------------------------------------------------------------------------


def test_the_version_is_that_of_the_content(tmp_path, clip):
    """Touching or moving changes nothing; another packet in the middle does."""
    copy = tmp_path / "copy.mp4"
    shutil.copy(clip, copy)
    os.utime(copy, (1, 1))
    assert probe(copy).version == probe(clip).version
    assert probe(copy).mtime_ns == 10**9
    ffmpeg(*SMALL, "-vf", "negate", *X264, copy)
    assert probe(copy).version != probe(clip).version


def test_an_object_has_its_etag_as_version(clip):
    """And is read through the store, not through FFmpeg's protocols."""
    memory = fsspec.filesystem("memory")
    memory.pipe("/probe/clip.mp4", clip.read_bytes())
    try:
        (source,) = expand_inputs(["memory://probe"], {})
        video = probe_source(source, LIMITS)
        assert (video.num_frames, video.width) == (50, 96)
        assert video.version == probe(clip).version  # this store has no etags
        memory.pipe("/probe/clip.mp4", b"")
        with pytest.raises(SourceError, match="the file is empty"):
            probe_source(source, LIMITS)
    finally:
        memory.rm("/probe", recursive=True)


def test_the_probe_imports_no_heavy_library():
    """A decoder child starts once per worker and again after every crash."""
    heavy = "('pyarrow', 'fsspec', 'PIL', 'ray', 'torch', 'pandas')"
    code = f"import sys, vis_core.video.probe; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert result.stdout.strip() == b"[]"


# --- folders of pictures ------------------------------------------------------------------------


def save(path, size=(32, 20), mode="RGB", color=0, **options):
    path.parent.mkdir(exist_ok=True)
    Image.new(mode, size, color).save(path, **options)


def probe_folder(path, limits=LIMITS):
    (source,) = expand_inputs([str(path)], {})
    return probe_images(source, limits)


def test_a_folder_of_frames_is_probed_without_decoding(tmp_path):
    """One frame per second unless told, each frame a key frame."""
    for number in (7, 8, 10):
        save(tmp_path / f"take/{number}.jpg")
    video = probe_folder(tmp_path / "take")
    assert (video.codec, video.num_frames, video.height, video.width) == ("images", 3, 20, 32)
    assert (video.fps, video.duration_seconds, video.video_id) == (1.0, 3.0, "take")
    assert video.key_frames.tolist() == [0, 1, 2]
    assert [uri.rsplit("/", 1)[1] for uri in list_frames(video.uri)] == ["7.jpg", "8.jpg", "10.jpg"]


def test_the_version_of_a_folder_is_that_of_its_frames(tmp_path):
    """A rename or an edit changes it, touching does not."""
    for number in range(3):
        save(tmp_path / f"take/{number}.png", color=(number, 0, 0))
    before = probe_folder(tmp_path / "take").version
    os.utime(tmp_path / "take/1.png", (1, 1))
    assert probe_folder(tmp_path / "take").version == before
    (tmp_path / "take/2.png").rename(tmp_path / "take/3.png")
    renamed = probe_folder(tmp_path / "take").version
    save(tmp_path / "take/1.png", color=(9, 0, 0))
    assert len({before, renamed, probe_folder(tmp_path / "take").version}) == 3


def test_orientation_is_applied(tmp_path):
    """To the size in the index and to the pixels alike."""
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path / "take/1.jpg", exif=exif)
    video = probe_folder(tmp_path / "take")
    assert (video.height, video.width) == (32, 20)
    assert read_frame(list_frames(video.uri)[0]).shape == (32, 20, 3)


@pytest.mark.parametrize(
    ("mode", "color", "expected"),
    [
        ("RGB", (1, 2, 3), (1, 2, 3)),
        ("L", 9, (9, 9, 9)),
        ("1", 1, (255, 255, 255)),
        ("I;16", 0x8001, (128, 128, 128)),
        ("LA", (200, 255), (200, 200, 200)),
        ("RGBA", (200, 100, 50, 255), (200, 100, 50)),
        ("RGBA", (200, 100, 50, 0), (0, 0, 0)),
    ],
)
def test_every_kind_of_picture_becomes_rgb(tmp_path, mode, color, expected):
    """16 bits are scaled, not clipped; what is transparent is black."""
    save(tmp_path / "1.png", mode=mode, color=color)
    frame = read_frame(local_uri(str(tmp_path / "1.png")))
    assert frame.dtype == np.uint8
    assert frame.shape == (20, 32, 3)
    assert tuple(frame[3, 4]) == expected


def test_a_palette_becomes_its_colours(tmp_path):
    """The usual form of label images and old GIF exports."""
    image = Image.new("RGB", (32, 20), (255, 0, 0)).quantize(4)
    image.save(tmp_path / "1.png")
    assert tuple(read_frame(local_uri(str(tmp_path / "1.png")))[0, 0]) == (255, 0, 0)


def test_bad_pictures_are_said_so(tmp_path):
    """Truncated, renamed, or larger than any frame should be."""
    save(tmp_path / "take/1.jpg", (300, 300), color=(9, 99, 200))
    data = (tmp_path / "take/1.jpg").read_bytes()
    (tmp_path / "take/2.jpg").write_bytes(data[: len(data) // 2])
    (tmp_path / "take/3.jpg").write_text("not a picture")
    Image.new("RGB", (4, 4)).save(tmp_path / "take/4.jpg", format="BMP")
    first, cut, text, bitmap = list_frames(local_uri(str(tmp_path / "take")))
    with pytest.raises(SourceError, match=r"300x300 pixels exceed 999 \(max_frame_pixels\)"):
        read_frame(first, Limits(max_frame_pixels=999))
    with pytest.raises(SourceError, match="damaged"):
        read_frame(cut)
    for uri in (text, bitmap):
        with pytest.raises(SourceError, match="expected a JPEG or PNG"):
            read_frame(uri)
    (tmp_path / "take/1.jpg").write_text("not a picture")
    assert probe_folder(tmp_path / "take").width == 300  # the first that can be read
    (tmp_path / "take/2.jpg").write_text("not a picture")
    with pytest.raises(SourceError, match="none of its 4 frames can be read"):
        probe_folder(tmp_path / "take")
