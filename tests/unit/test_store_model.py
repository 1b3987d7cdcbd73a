"""An executable model of the store: what may happen, in any order, and what must stay true.

Real plan, parts, manifest and gc in a temporary folder; no video, no model. The model on the left
of each assertion is a dict of sets of frames.
"""

import shutil
import tempfile

import pyarrow.compute as pc
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.support.fakes import FAKE, empty_prediction, fake_job, fake_video
from vis_core import schema
from vis_core.job import file_metadata, job_record
from vis_core.stages import audit
from vis_core.stages.plan import plan_job
from vis_core.store.manifest import receipts_to_table
from vis_core.store.parts import PartWriter, find_part
from vis_core.store.segments import Receipt
from vis_core.store.store import VIDEOS, open_store


class StoreModel(RuleBasedStateMachine):
    @initialize()
    def start(self):
        self.root = tempfile.mkdtemp(prefix="reelmask-model-")
        self.videos, self.variant, self.shard = {}, 0, 7
        self.flushed = set()  # frames: (variant, video, frame)
        self.parts = {}  # frames of every part ever written
        self.receipts, self.units = [], []  # what only the living driver knows
        self.change_settings(variant=0, shard=7)

    def teardown(self):
        shutil.rmtree(self.root, ignore_errors=True)

    @rule(variant=st.integers(0, 1), shard=st.integers(1, 12))
    def change_settings(self, variant, shard):
        self.variant, self.shard = variant, shard
        self.driver()

    @rule()
    def driver(self):
        """A new driver starts: what the last one held in memory is gone; orphans are adopted."""
        self.job = fake_job(self.root, variant=self.variant, shard_frames=self.shard)
        self.store = open_store(self.root)
        self.store.write_job(job_record(self.job))
        self.receipts, self.units = [], []
        self.flushed = {f for name in self.on_disk() for f in self.parts[name]}
        self.store.adopt_orphans("run")
        self.plan()

    @rule(name=st.sampled_from("abcde"), num_frames=st.integers(1, 20))
    def add_input(self, name, num_frames):
        self.videos.setdefault(name, num_frames)

    def table(self):
        return schema.videos_to_table([fake_video(n, k) for n, k in sorted(self.videos.items())])

    def owned(self):
        return {(self.variant, n, f) for n, k in self.videos.items() for f in range(k)}

    @rule()
    def plan(self):
        self.store.write_table(VIDEOS, self.table(), file_metadata(self.job))
        self.units = list(plan_job(self.job, self.store, self.table()).units(self.job))
        planned = [f for unit in self.units for f in self.frames(unit)]
        assert len(planned) == len(set(planned)), "a frame is planned twice"
        assert set(planned) == self.owned() - self.flushed, "planned is not owned minus committed"

    def frames(self, unit):
        return [
            (self.variant, s.video.video_id, f)
            for s in unit.segments
            for f in range(s.start, s.stop)
        ]

    @precondition(lambda self: self.units)
    @rule(data=st.data())
    def write(self, data):
        """A worker computes any planned unit, perhaps again: the first file stays."""
        unit = data.draw(st.sampled_from(self.units))
        before = find_part(self.store.folder, unit.part)
        member = self.job.members[0]
        with PartWriter(
            self.store.folder,
            unit.part,
            member=member.name,
            fingerprint=member.fingerprint,
            metadata=file_metadata(self.job),
        ) as writer:
            for segment in unit.segments:
                for frame in range(segment.start, segment.stop):
                    writer.append(empty_prediction(segment.video.video_id, frame))
                writer.end_segment(segment.key(member.fingerprint))
            receipt = writer.commit(
                Receipt(member=member.name, segments=(), part=unit.part, part_bytes=0)
            )
        assert before is None or before.segments == receipt.segments
        self.parts[unit.part] = self.frames(unit)
        self.receipts.append(receipt)

    @rule(keep=st.integers(0, 3))
    def flush(self, keep):
        done, self.receipts = self.receipts[keep:], self.receipts[:keep]
        self.store.manifest.segments.append(receipts_to_table(done, "run"))
        self.flushed |= {
            (self.variant, s.key.video_id, f)
            for r in done
            for s in r.segments
            for f in range(s.key.start, s.key.stop)
        }

    @precondition(lambda self: self.on_disk())
    @rule(data=st.data())
    def lose_a_part(self, data):
        """Somebody deletes a file; the next driver plans its frames again."""
        self.store.folder.delete(f"frames/{data.draw(st.sampled_from(self.on_disk()))}")
        self.driver()

    @rule()
    def compact(self):
        self.store.manifest.segments.compact()

    @rule()
    def gc(self):
        """Drops the other variant's parts, and never one that counts."""
        audit.collect_garbage(self.store, {"fake": FAKE})
        named = set(pc.unique(self.store.manifest.segments.load()["part"]).to_pylist())
        self.flushed = {f for f in self.flushed if f[0] == self.variant}
        assert named <= set(self.on_disk()), "a committed part is gone"

    def on_disk(self):
        return self.store.folder.names("frames")

    @invariant()
    def manifest_says_what_was_flushed(self):
        if not hasattr(self, "store"):
            return
        rows = self.store.manifest.segments.load()
        mine = rows.filter(pc.equal(rows["fingerprint"], self.job.members[0].fingerprint))
        got = {
            (self.variant, r["video_id"], f)
            for r in mine.select(["video_id", "start", "stop"]).to_pylist()
            for f in range(r["start"], r["stop"])
        }
        assert got == {f for f in self.flushed if f[0] == self.variant}


StoreModel.TestCase.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
TestStoreModel = StoreModel.TestCase
