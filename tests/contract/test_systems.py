"""What holds for every system, whoever wrote it."""

import dataclasses
import itertools
import math
import pickle
import re

import pytest
from ray import cloudpickle

from tests.support.fakes import fake_video
from vis_core import config, schema
from vis_core.association.fusion import FusionConfig
from vis_core.errors import UsageError
from vis_core.fingerprints import linker_fingerprint, member_fingerprint
from vis_core.job_settings import JobSettings
from vis_core.system import LinkConfig, NetworkConfig, PredictConfig
from vis_core.systems import SYSTEMS, get_system
from vis_core.windows import WindowSpec

REQUIRED = {"truth": "formula:2"}  # settings without a default
# What another value of a setting needs beside it.
ALONG = {
    ("flow_match", "detector"): {"weights": "w.safetensors"},
    ("flow_match", "weights"): {"detector": "torchvision:maskrcnn_small"},
    ("oracle", "ref_flow"): {"centers": True},
    ("propose_reduce", "long_side_px"): {"short_side_px": 64},
    ("propose_reduce", "short_side_px"): {"long_side_px": 8192},
    ("propose_reduce", "window_overlap"): {"window_frames": 10_000},
    ("propose_reduce", "sigma"): {"reduce": "soft"},
    ("propose_reduce", "min_soft_score"): {"reduce": "soft"},
    ("propose_reduce", "max_tracks"): {"reduce": "soft"},
}
TOGETHER = {"detector", "weights", "long_side_px", "short_side_px"}  # neither without the other
SAMPLING = {"every": 1, "fps": None}


def kinds():
    """Every config type with the name of its system; of the run and of a fusion, too."""
    found = [("run", JobSettings), ("fusion", FusionConfig)]
    for system in SYSTEMS.values():
        found += [(system.name, system.predict_config), (system.name, system.link_config)]
    return [pytest.param(*each, id=f"{each[0]}-{each[1].__name__}") for each in found]


def settings():
    """Every setting by itself."""
    return [
        pytest.param(*kind.values, field, id=f"{kind.id}-{field.name}")
        for kind in kinds()
        for field in dataclasses.fields(kind.values[1])
    ]


every_system = pytest.mark.parametrize("system", SYSTEMS.values(), ids=lambda system: system.name)
every_kind = pytest.mark.parametrize(("owner", "kind"), kinds())
several_values = pytest.mark.parametrize(
    ("owner", "kind", "field"),
    [each for each in settings() if len(config.choices(*each.values[1:])) != 1],
)
every_setting = pytest.mark.parametrize(("owner", "kind", "field"), settings())


def defaults(kind):
    """The config with everything left out that may be."""
    names = {field.name for field in dataclasses.fields(kind)}
    return config.build(kind, {k: v for k, v in REQUIRED.items() if k in names})


def another(kind, field):
    """A legal value that is not the default."""
    default = getattr(defaults(kind), field.name)
    if listed := config.choices(kind, field):
        return next(value for value in (*reversed(listed), *listed[:1]) if value != default)
    if isinstance(default, bool):
        return not default
    low, high, above, below = config._limits(field)
    ends = [value for value in (low, high) if value is not None and value != default]
    if ends:
        return ends[-1]
    if above is not None or below is not None:
        return next(value for value in (0.25, 0.75) if value != default)
    return "text" if default is None or isinstance(default, str) else default + 1


def outside(field):
    """Values beyond each of its bounds."""
    low, high, above, below = config._limits(field)
    beyond = [low - 1 if low is not None else None, high + 1 if high is not None else None]
    bounded = any(limit is not None for limit in (low, high, above, below))
    return [v for v in (*beyond, above, below, math.nan if bounded else None) if v is not None]


# --- systems --------------------------------------------------------------------------------------


@every_system
def test_a_system_is_found_by_its_name(system):
    assert get_system(system.name) is system and SYSTEMS[system.name] is system
    assert re.fullmatch(r"[a-z][a-z0-9_]*", system.name)
    assert system.link_version >= 1 and system.predict_version >= 0
    assert re.fullmatch(r"[A-Z].+\.", system.says)


@every_system
def test_configs_have_what_every_stage_asks_of_them(system):
    """`batch_size` and the like are fields of a base, never of a name that happens to fit."""
    assert issubclass(system.predict_config, PredictConfig)
    assert issubclass(system.link_config, LinkConfig)
    for kind in (system.predict_config, system.link_config):
        assert kind.__dataclass_params__.frozen and not hasattr(defaults(kind), "__dict__")


@every_system
def test_a_setting_belongs_to_one_stage(system):
    """One name in two of them would reach both: to link anew would be to predict anew."""
    stages = (JobSettings, FusionConfig, system.predict_config, system.link_config)
    names = [{field.name for field in dataclasses.fields(stage)} for stage in stages]
    for one, other in itertools.combinations(names, 2):
        assert not (one & other)


@every_system
def test_the_window_is_a_function_of_the_settings(system):
    spec = system.window(defaults(system.predict_config))
    assert isinstance(spec, WindowSpec)
    assert spec == system.window(defaults(system.predict_config))


@every_system
def test_categories_are_numbered_from_1(system):
    """They are known before a frame is seen; a system that only links has none of its own."""
    found = system.categories(_with_files(defaults(system.predict_config)))
    assert [category.label for category in found] == list(range(1, len(found) + 1))
    assert all(category.name for category in found)
    assert len({category.name for category in found}) == len(found)
    assert bool(found) == (system.predict_version > 0)


def _with_files(settings):
    files = config.file_fields(settings)
    return dataclasses.replace(settings, **files) if files else settings


@every_system
def test_its_linker_reads_columns_that_there_are(system):
    columns = {field.name for field in schema.FRAMES.field("instances").type.value_type}
    for alternatives in system.reads(system.link_config()):
        assert alternatives and set(alternatives) <= columns
    assert set(system.writes) <= columns


@every_system
def test_a_video_without_frames_has_no_tracks(system):
    linker = system.make_linker(system.link_config())
    for name in ("first", "second"):  # state lives inside one video
        linker.start(fake_video(name, 3))
        assert linker.finish() == []


@every_system
def test_it_can_be_sent_to_another_process(system):
    again = pickle.loads(cloudpickle.dumps(system))  # noqa: S301 - our own
    assert again.name == system.name
    for kind in (system.predict_config, system.link_config):
        values = defaults(kind)
        assert pickle.loads(cloudpickle.dumps(values)) == values  # noqa: S301 - our own


# --- settings -------------------------------------------------------------------------------------


@every_setting
def test_a_setting_says_what_it_does(owner, kind, field):
    says = field.metadata["says"]
    assert re.match(r"[A-Z`0-9]", says) and says.endswith(".") and 8 < len(says) < 350
    assert config.allowed(kind, field)


@every_kind
def test_defaults_are_legal(owner, kind):
    values = defaults(kind)
    config.check(values)
    assert config.build(kind, config.as_values(values)) == values


@every_setting
def test_a_value_out_of_bounds_is_refused(owner, kind, field):
    """The message names the setting, what is expected and what came."""
    for value in outside(field):
        with pytest.raises(ValueError, match=f"^{field.name}: expected .*, got {value}"):
            dataclasses.replace(defaults(kind), **{field.name: value})
    if config.choices(kind, field):
        with pytest.raises(UsageError, match=f"^{field.name}: expected (one of )?.*, got 'none of"):
            config.build(kind, {**required_of(kind), field.name: "none of these"})


def required_of(kind):
    names = {field.name for field in dataclasses.fields(kind)}
    return {key: value for key, value in REQUIRED.items() if key in names}


@several_values
def test_a_setting_round_trips_and_counts(owner, kind, field):
    """As YAML and as text; in the fingerprint, but where it changes speed or memory alone."""
    value = another(kind, field)
    given = {**required_of(kind), **ALONG.get((owner, field.name), {}), field.name: value}
    built = config.build(kind, given)
    assert getattr(built, field.name) == value
    assert config.build(kind, config.as_values(built)) == built
    assert config.build(kind, {key: str(each) for key, each in given.items()}) == built
    if owner in SYSTEMS:
        base = defaults(kind)
        if field.name not in TOGETHER:
            base = dataclasses.replace(built, **{field.name: getattr(base, field.name)})
        same = _fingerprint(owner, built) == _fingerprint(owner, base)
        assert same == field.metadata["execution_only"]


def _fingerprint(owner, settings):
    if isinstance(settings, PredictConfig):
        return member_fingerprint(SYSTEMS[owner], settings, SAMPLING, {})
    return linker_fingerprint(SYSTEMS[owner], settings)


@every_system
def test_what_moves_the_last_digits_of_a_network_counts(system):
    if issubclass(system.predict_config, NetworkConfig):
        fields = {field.name: field for field in dataclasses.fields(system.predict_config)}
        assert not fields["batch_size"].metadata["execution_only"]
        assert not fields["cpu_threads"].metadata["execution_only"]
        assert fields["weights"].metadata["file"]
