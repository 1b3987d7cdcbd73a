"""What holds for the settings of every system."""

import dataclasses
import itertools

import pytest

from vis_core.job import JobSettings
from vis_core.systems import SYSTEMS


@pytest.mark.parametrize("system", SYSTEMS.values(), ids=lambda system: system.name)
def test_a_setting_belongs_to_one_stage(system):
    """One name in two of them would reach both: to link anew would be to predict anew."""
    stages = (JobSettings, system.predict_config, system.link_config)
    names = [{field.name for field in dataclasses.fields(stage)} for stage in stages]
    for one, other in itertools.combinations(names, 2):
        assert not one & other
