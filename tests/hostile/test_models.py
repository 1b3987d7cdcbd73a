"""Weights from anybody, and linkers on rows that lack what they read: one mistake, said once."""

import json
import zipfile

import pytest
import torch

from jobs import cli
from tests.support.clips import write_clips
from tests.support.idol import random_network
from tests.support.idol import write_weights as write_idol
from vis_core import errors
from vis_core.errors import UsageError
from vis_core.models import mask_rcnn
from vis_core.models.about import About
from vis_core.models.weights import read_weights, to_bytes
from vis_core.shipped import file_of
from vis_core.types import Category


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    write_clips(folder, 2, num_frames=4)
    return folder


@pytest.fixture
def refused(capsys):
    """Runs a command that must fail with code 2, and returns the one line it ends with."""

    def run(*words):
        capsys.readouterr()
        assert cli.main([str(word) for word in words]) == errors.EXIT_USAGE
        said = capsys.readouterr()
        assert "Traceback" not in said.err and said.out == ""
        (line,) = (line for line in said.err.splitlines() if line.startswith("reelmask: "))
        assert len(line) < 1000
        return line

    return run


# --- weights --------------------------------------------------------------------------------------


def propose_reduce(path):
    from vis_core.models.weights import safetensors as library

    read = read_weights(file_of("shipped:propose_reduce"))
    name = next(name for name, t in read.tensors.items() if t.is_floating_point() and t.dim() == 4)
    read.tensors[name].view(-1)[0] = float("nan")
    with library.safe_open(file_of("shipped:propose_reduce"), framework="pt") as file:
        library.torch.save_file(read.tensors, path, metadata=file.metadata())
    return ["--system", "propose_reduce", "--set", f"weights={path}"]


def idol(path):
    network = random_network()
    with torch.no_grad():
        network.detr.detr.class_embed[0].bias[0] = float("inf")
    write_idol(path, network)
    return ["--system", "idol", "--set", f"weights={path}"]


def flow_match(path):
    config = mask_rcnn.MaskRcnnConfig(width=8, pyramid=8, hidden=8)
    network = mask_rcnn.small(config, 2)
    with torch.no_grad():
        network.roi_heads.box_predictor.cls_score.weight[0, 0] = float("nan")
    settings = {"width": 8, "pyramid": 8, "hidden": 8}
    categories = [Category(label=1, name="object")]
    about = About(recipe="flow_match_detector", settings=settings, categories=categories)
    path.write_bytes(to_bytes(network, about))
    detector = "detector=torchvision:maskrcnn_small"
    return ["--system", "flow_match", "--set", detector, "--set", f"weights={path}"]


@pytest.mark.parametrize("system", [idol, propose_reduce, flow_match])
def test_weights_that_are_not_finite_are_said_once(clips, tmp_path, refused, system):
    """Not a traceback and an attempt for every video."""
    path = tmp_path / "w.safetensors"
    line = refused("label", clips, "--out", tmp_path / "out", *system(path))
    assert "tensors are not finite (NaN or infinite)" in line and str(path) in line
    assert not list((tmp_path / "out" / "manifest").glob("attempts/*"))


class Hostile:
    def __reduce__(self):
        return print, ("executed",)


def packed(path):
    """A thousand times as large inside as outside."""
    torch.save({"a": torch.zeros(1 << 20)}, path)
    with zipfile.ZipFile(path) as file:
        entries = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in entries.items():
            file.writestr(name, data)


FILES = {
    "code": lambda path: torch.save({"state_dict": Hostile()}, path),
    "objects": lambda path: torch.save({"a": torch.zeros(1), "b": Hostile()}, path),
    "network": lambda path: torch.save(torch.nn.Linear(1, 1), path),
    "text": lambda path: path.write_text("no weights"),
    "nothing": lambda path: path.write_bytes(b""),
    "cut": lambda path: (
        torch.save({"a": torch.zeros(999)}, path),
        path.write_bytes(path.read_bytes()[:2000]),
    ),
    "folder": lambda path: path.mkdir(),
    "packed": packed,
    "list": lambda path: torch.save([torch.zeros(1)], path),
    "numbers": lambda path: torch.save({"a": 1}, path),
    "repeated": lambda path: torch.save({"a": torch.zeros(1).expand(1 << 40)}, path),
    "meta": lambda path: torch.save({"a": torch.zeros(1, device="meta")}, path),
    "sparse": lambda path: torch.save({"a": torch.eye(3).to_sparse()}, path),
}


@pytest.mark.parametrize("what", FILES)
def test_no_file_of_weights_is_answered_in_torchs_words(tmp_path, capfd, what):
    """They tell people to set weights_only=False, which runs whatever the file holds."""
    path = tmp_path / "w.pth"
    FILES[what](path)
    with pytest.raises(UsageError) as refused:
        read_weights(str(path))
    said = str(refused.value)
    assert str(path) in said and "\n" not in said and len(said) < 600
    for word in ("weights_only", "WeightsUnpickler", "allowlist", "add_safe_globals", "pickle"):
        assert word not in said
    assert any(word in said for word in ("state_dict", "safetensors", "plain tensor"))
    assert "executed" not in capfd.readouterr().out


def test_what_is_refused_is_said_on_the_command_line(clips, tmp_path, refused):
    path = tmp_path / "w.pth"
    FILES["code"](path)
    settings = ("--set", f"weights={path}", "--set", "detector=torchvision:maskrcnn_resnet50_fpn")
    line = refused("label", clips, "--out", tmp_path / "o", "--system", "flow_match", *settings)
    assert "holds no weights that can be read safely" in line
    assert "save them with torch.save(network.state_dict(), PATH)" in line


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"settings": {"width": 65_536, "heads": 1}}, "describes a network of"),
        ({"settings": {"encoder_layers": 10**9}}, "encoder_layers"),
        ({"settings": []}, "the description in the weights is damaged"),
        ({"recipe": 5}, "the description in the weights is damaged"),
        (
            {"categories": [{"label": "x", "name": "y"}]},
            "the description in the weights is damaged",
        ),
        ({"categories": [{"label": 1, "name": 3}]}, "the description in the weights is damaged"),
        (None, "the description in the weights is damaged"),
    ],
)
def test_a_description_that_belongs_to_no_network(clips, tmp_path, refused, change, says):
    """It is nobody's word: neither a traceback nor more memory than the file has weights."""
    from safetensors.torch import load_file, save_file

    path = write_idol(tmp_path / "w.safetensors")
    record = json.loads(json.dumps(read_weights(str(path)).about.settings))
    about = {"recipe": "idol", "settings": record, "categories": [{"label": 1, "name": "a"}]}
    if change is not None:
        about |= change
        if isinstance(change.get("settings"), dict):
            about["settings"] = record | change["settings"]
    text = "[" * 100_000 if change is None else json.dumps(about)
    save_file(load_file(path), path, metadata={"reelmask": text})
    given = ("--system", "idol", "--set", f"weights={path}")
    assert says in refused("label", clips, "--out", tmp_path / "out", *given)


# --- linkers --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bare(clips, tmp_path_factory):
    """Predictions with what every instance has, and class scores."""
    out = tmp_path_factory.mktemp("bare") / "out"
    given = ["label", str(clips), "--out", str(out), "--system", "oracle"]
    sets = ["--set", f"truth={clips}/truth.json", "--set", "proposals=false"]
    assert cli.main([*given, *sets]) == errors.EXIT_QUARANTINE  # the oracle links by proposals
    return out


LACKS = {
    "idol": ("`embedding`", "--system idol or oracle (embedding_dim=16)"),
    "minvis": ("`prev_query` or `embedding`", "--system idol or oracle (embedding_dim=16)"),
    "propose_reduce": ("`proposal`", "--system oracle (proposals=true) or propose_reduce"),
    "oracle": ("`proposal`", "--system oracle (proposals=true) or propose_reduce"),
    "instance_flow": ("`center`", "--system oracle (centers=true)"),
}


@pytest.mark.parametrize("what", ["folder", "table"])
@pytest.mark.parametrize("system", LACKS)
def test_a_linker_that_lacks_what_it_reads_is_one_mistake(bare, tmp_path, refused, system, what):
    """Said once, before anything is linked or written, with whose predictions have it."""
    frames = bare if what == "folder" else bare / "frames"
    line = refused("link", frames, "--system", system, "--out", tmp_path / "out")
    column, makers = LACKS[system]
    assert f"{system} links by {column}, which these predictions do not have" in line
    assert makers in line and not (tmp_path / "out").exists()


def test_how_instance_flow_links_decides_what_it_reads(bare, tmp_path, refused):
    given = ("link", bare, "--system", "instance_flow", "--out", tmp_path / "out")
    line = refused(*given, "--set", "flow_mode=affinity")
    assert "`center`" in line


def test_a_column_that_is_not_in_the_table_at_all(bare, tmp_path, refused):
    """Tables of others have the columns they have."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    (file,) = (bare / "frames").glob("*.parquet")
    rows = pq.read_table(file)
    keep = ("score", "label", "box", "mask")
    instances = rows["instances"].combine_chunks()
    fields = [instances.values.field(name) for name in keep]
    struct = pa.StructArray.from_arrays(fields, names=list(keep))
    lists = pa.ListArray.from_arrays(instances.offsets, struct)
    position = rows.schema.get_field_index("instances")
    pq.write_table(rows.set_column(position, "instances", lists), tmp_path / "t.parquet")
    given = ("link", tmp_path / "t.parquet", "--system", "idol", "--out", tmp_path / "out")
    assert "idol links by `embedding`" in refused(*given)
    given = ("link", tmp_path / "t.parquet", "--system", "flow_match", "--out", tmp_path / "out")
    assert cli.main([str(word) for word in given]) == 0


def test_rows_without_any_instance_lack_nothing(clips, tmp_path):
    given = ["label", str(clips), "--out", str(tmp_path / "out"), "--system", "oracle"]
    sets = ["--set", f"truth={clips}/truth.json", "--set", "drop=1"]
    assert cli.main([*given, *sets]) == 0
    words = ["link", str(tmp_path / "out"), "--system", "idol", "--out", str(tmp_path / "linked")]
    assert cli.main(words) == 0
