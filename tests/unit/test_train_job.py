"""What a training job may say, and what is said of its mistakes; schedules, groups, tables."""

from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from tests.support.training import job_values
from vis_core.errors import UsageError
from vis_core.models.about import About, read_about
from vis_core.models.weights import load_into, read_weights, to_bytes
from vis_core.store.folder import open_folder
from vis_core.training.config import GroupRule, OptimizerConfig, ScheduleConfig
from vis_core.training.ema import Ema
from vis_core.training.groups import freeze, make_optimizer, parameter_groups, set_rates
from vis_core.training.job import make_train_job
from vis_core.training.record import Table
from vis_core.training.schedule import lr_factor
from vis_core.types import Category

CLIPS, OUT = Path("clips"), Path("out")


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        ({"optimizer": {"rate": 1}}, "optimizer: unknown setting 'rate'"),
        ({"optimizer": {"lr": -1}}, "optimizer: lr: expected 0 to"),
        ({"schedule": {"kind": "step"}}, "schedule: milestones: expected one or more steps"),
        ({"schedule": {"steps": 0}}, "schedule: steps: expected 1"),
        ({"schedule": {"kind": "step", "milestones": [5, 2]}}, "milestones: expected ascending"),
        ({"loop": {"batch_size": 0}}, "loop: batch_size: expected 1"),
        ({"loop": {"batch_size": 3, "workers": 2}}, "batch_size: expected a multiple of workers"),
        ({"network": {"blocks": [1]}}, "network: blocks: expected four numbers"),
        ({"network": {"width": 12}}, "network: width and pyramid: expected multiples of 8"),
        ({"evaluation": {"every": 0, "inputs": ["a"], "truth": "b"}}, "evaluation: every"),
        ({"evaluation": {"every": 5}}, "evaluation: setting 'inputs' is missing"),
        ({"sampling": {"others": "all"}}, "sampling: others: expected one of near"),
    ],
)
def test_mistakes_are_named_with_their_section(sections, says):
    with pytest.raises(UsageError, match=says):
        make_train_job(job_values(CLIPS, OUT, **sections))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"recipe": "flow_match"}, "unknown recipe 'flow_match'; did you mean 'flow_match_det"),
        ({"recipe": 3}, "recipe: expected a name, got 3"),
        ({"data": []}, "data: expected a list of one or more"),
        ({"data": ["clips"]}, "data: expected `key: value` lines"),
        ({"datas": []}, "unknown key 'datas'; did you mean 'data'"),
        ({"out": ""}, "out: expected a path"),
        ({"schedule": None}, "schedule: setting 'steps' is missing"),
        ({"loop": 7}, "loop: expected `key: value` lines"),
    ],
)
def test_mistakes_in_the_keys(change, says):
    with pytest.raises(UsageError, match=says):
        make_train_job({**job_values(CLIPS, OUT), **change})


def test_the_job_says_everything_and_reads_back():
    """What is written beside the weights is a job file of its own."""
    job = make_train_job(job_values(CLIPS, OUT, loop={"ema": 0.99}))
    record = job.record()
    assert make_train_job(record).key() == job.key()
    assert record["optimizer"]["clip_norm"] == 5.0, "the recipe's default"


def test_only_what_decides_the_weights_is_in_the_key():
    """More workers or loaders, another cadence of checkpoints or evaluations: the same training."""
    plain = make_train_job(job_values(CLIPS, OUT)).key()
    held_out = {"inputs": ["a"], "truth": "b", "every": 5}
    for sections in (
        {"loop": {"workers": 2, "loader_workers": 3, "checkpoint_every": 9, "max_failures": 0}},
        {"evaluation": held_out},
    ):
        assert make_train_job(job_values(CLIPS, OUT, **sections)).key() == plain
    for sections in (
        {"loop": {"seed": 1}},
        {"loop": {"batch_size": 4}},
        {"transforms": {"flip": 0.1}},
        {"optimizer": {"lr": 0.5}},
        {"network": {"width": 16}},
    ):
        assert make_train_job(job_values(CLIPS, OUT, **sections)).key() != plain


# --- schedules ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "factors"),
    [
        ({"kind": "constant"}, {0: 1, 50: 1, 99: 1}),
        ({"kind": "poly", "power": 0.9}, {0: 1, 50: 0.5**0.9, 99: 0.01**0.9}),
        ({"kind": "cosine", "final": 0.2}, {0: 1, 50: 0.6, 100: 0.2}),
        ({"kind": "step", "milestones": (30, 60)}, {29: 1, 30: 0.1, 59: 0.1, 60: 0.01}),
        (
            {"kind": "constant", "warmup_steps": 10, "warmup_from": 0.1},
            {0: 0.1, 5: 0.55, 10: 1},
        ),
        ({"kind": "poly", "power": 1, "warmup_steps": 10, "warmup_from": 0}, {5: 0.95 / 2}),
    ],
)
def test_learning_rates_by_definition(config, factors):
    schedule = ScheduleConfig(steps=100, **config)
    for step, factor in factors.items():
        assert lr_factor(step, schedule) == pytest.approx(factor)


# --- parameters -----------------------------------------------------------------------------------


def network() -> nn.Module:
    return nn.ModuleDict({"backbone": nn.Linear(2, 2), "head": nn.Linear(2, 1)})


def test_the_first_rule_that_fits_counts():
    rules = [
        GroupRule(match="backbone.*", lr_factor=0.1),
        GroupRule(match="*.bias", weight_decay=0),
    ]
    groups = parameter_groups(network(), OptimizerConfig(weight_decay=0.5), rules)
    assert [group["names"] for group in groups] == [
        ["backbone.weight", "backbone.bias"],
        ["head.bias"],
        ["head.weight"],
    ]
    assert [(group["factor"], group["weight_decay"]) for group in groups] == [
        (0.1, 0.5),
        (1.0, 0.0),
        (1.0, 0.5),
    ]
    optimizer = make_optimizer(groups, OptimizerConfig(kind="sgd"))
    set_rates(optimizer, groups, 2.0)
    assert [share["lr"] for share in optimizer.param_groups] == [0.2, 2.0, 2.0]


def test_frozen_parameters_are_in_no_group():
    net = network()
    assert freeze(net, ["backbone.*"]) == ["backbone.weight", "backbone.bias"]
    (group,) = parameter_groups(net, OptimizerConfig(), [])
    assert group["names"] == ["head.weight", "head.bias"]


@pytest.mark.parametrize("patterns", [["nothing*"], ["*"]])
def test_freezing_nothing_or_everything_is_a_mistake(patterns):
    with pytest.raises(UsageError, match="freeze"):
        freeze(network(), patterns)


def test_the_average_follows():
    """Quickly at first; by its decay later."""
    net = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(net.weight)
    ema = Ema(net, 0.9)
    nn.init.ones_(net.weight)
    ema.update(net, 0)
    assert ema.network.weight.item() == pytest.approx(0.9)  # 1 - 1/10
    ema.update(net, 1000)
    assert ema.network.weight.item() == pytest.approx(0.91)


# --- weights --------------------------------------------------------------------------------------

ABOUT = About(recipe="r", settings={"a": 1}, categories=[Category(label=1, name="ö")], step=3)


def test_weights_say_what_they_are_for(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(to_bytes(network(), ABOUT))
    assert read_about(str(path)) == ABOUT
    read = read_weights(str(path))
    assert read.about == ABOUT and set(read.tensors) == set(network().state_dict())


@pytest.mark.parametrize("wrapped", [{}, {"state_dict": 0}, {"model": 0}])
def test_checkpoints_of_others(tmp_path, wrapped):
    """Whatever key they hide the tensors under, and whoever wrote `module.` before the names."""
    state = {f"module.{name}": tensor for name, tensor in network().state_dict().items()}
    path = tmp_path / "w.pth"
    torch.save(dict.fromkeys(wrapped, state) or state, path)
    assert set(read_weights(str(path)).tensors) == set(network().state_dict())


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    class Hostile:
        def __reduce__(self):
            return print, ("executed",)

    path = tmp_path / "w.pth"
    torch.save({"state_dict": Hostile()}, path)
    with pytest.raises(UsageError, match="read safely"):
        read_weights(str(path))


def test_every_tensor_is_accounted_for():
    tensors = {**network().state_dict(), "extra": torch.zeros(1)}
    loaded = load_into(network(), tensors, ["head.*"])
    assert loaded.kept == ["backbone.weight", "backbone.bias"]
    assert loaded.reset == ["head.weight", "head.bias"] and loaded.unused == ["extra"]


def test_tensors_that_do_not_fit_are_named():
    tensors = network().state_dict()
    tensors["head.weight"] = torch.zeros(3, 2)
    del tensors["backbone.bias"]
    with pytest.raises(UsageError, match="2 tensors do not fit") as refused:
        load_into(network(), tensors, [])
    assert "head.weight ((3, 2) in the file, (1, 2) in the network)" in str(refused.value)
    assert "backbone.bias (not in the file)" in str(refused.value)
    with pytest.raises(UsageError, match="no tensor is called like 'heads"):
        load_into(network(), network().state_dict(), ["heads.*"])


# --- tables ---------------------------------------------------------------------------------------


def test_rows_that_will_come_again_are_forgotten(tmp_path):
    folder = open_folder(str(tmp_path))
    table = Table(folder, "t.csv", before=1)
    for step in (1, 2, 3):
        table.add(step, {"loss": 0.1 * step, **({"late": 1.0} if step > 1 else {})})
    table.write()
    again = Table(folder, "t.csv", before=3)
    assert again.rows == [{"step": 1, "loss": 0.1}, {"step": 2, "loss": 0.2, "late": 1.0}]


def test_a_damaged_table_is_named(tmp_path):
    (tmp_path / "t.csv").write_text("step,loss\n1,much\n")
    with pytest.raises(UsageError, match=r"t\.csv is damaged"):
        Table(open_folder(str(tmp_path)), "t.csv", before=9)


JOBS = sorted((Path(__file__).parents[2] / "docs" / "jobs").glob("*.yaml"))


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_the_jobs_of_the_documentation_are_jobs(path):
    """And what they freeze is there."""
    job = make_train_job(yaml.safe_load(path.read_text()))
    with torch.device("meta"):
        module = job.recipe.module(job.network, job.learning, [Category(label=1, name="a")])
    network = module.get_submodule("network")
    freeze(network, job.loop.freeze)
    assert parameter_groups(network, job.optimizer, job.groups)
