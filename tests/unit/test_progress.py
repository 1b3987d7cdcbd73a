"""What a log shows of long work: lines with numbers, and one at the end of a stage."""

import io
import threading

from jobs.progress import Lines


class Told(io.StringIO):
    """A stream that says when so many lines were written."""

    def __init__(self, lines):
        super().__init__()
        self.full = threading.Event()
        self._lines = lines

    def write(self, text):
        count = super().write(text)
        if self.getvalue().count("\n") >= self._lines:
            self.full.set()
        return count


def test_a_line_now_and_then_also_while_nothing_is_done():
    stream = Told(lines=2)
    lines = Lines(stream, seconds=0.01)
    lines.begin("predict", 100, "frames")
    assert stream.full.wait(120), "silence while work is under way"
    lines.end()
    assert stream.getvalue().startswith("predict: 0/100 frames, 0.0/s\n")


def test_the_last_line_has_all_numbers():
    stream = io.StringIO()
    lines = Lines(stream, seconds=1000)
    lines.begin("predict", 100, "frames")
    lines.advance(40)
    lines.note(linked="1/2", failures=3)
    lines.end()
    lines.end()
    (line,) = stream.getvalue().splitlines()
    assert line.startswith("predict: 40/100 frames, ")
    assert " s left, 1/2 linked, 3 failures" in line
