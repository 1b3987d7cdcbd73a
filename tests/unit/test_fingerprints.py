"""Fingerprints change exactly when rows may change, and are the same tomorrow."""

import dataclasses

from tests.support.fakes import FAKE, FakeLinkConfig, FakePredictConfig
from vis_core.fingerprints import linker_fingerprint, member_fingerprint
from vis_core.systems import get_system

SAMPLING = {"every": 1, "fps": None}


def test_a_golden_fingerprint():
    """If this changes, every archive labelled so far is predicted again: is that meant?"""
    assert member_fingerprint(FAKE, FakePredictConfig(), SAMPLING) == (
        "ebdab48604a9286e63a77b2fc2a1bccb3e386e574c8153687e30283228e975cb"
    )
    assert linker_fingerprint(FAKE, FakeLinkConfig()) == (
        "a74ee07925436a401ed7a1ee055808d9904169da3beb13248e6da8a8fa6ee3a2"
    )


def test_settings_versions_and_sampling_count_and_execution_does_not():
    base = member_fingerprint(FAKE, FakePredictConfig(), SAMPLING)
    bumped = dataclasses.replace(FAKE, predict_version=2)
    others = [
        member_fingerprint(FAKE, FakePredictConfig(variant=1), SAMPLING),
        member_fingerprint(FAKE, FakePredictConfig(), {"every": 2, "fps": None}),
        member_fingerprint(bumped, FakePredictConfig(), SAMPLING),
    ]
    assert len({base, *others}) == 4
    assert member_fingerprint(FAKE, FakePredictConfig(batch_size=3), SAMPLING) == base


def test_a_named_file_counts_by_content_not_by_name(tmp_path):
    oracle = get_system("oracle")
    texts = ['{"videos": []}', '{"videos": []}', '{"videos": [1]}']
    paths = [tmp_path / name for name in ("a.json", "b.json", "c.json")]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text)
    a, b, c = (
        member_fingerprint(oracle, oracle.predict_config(truth=str(path)), SAMPLING)
        for path in paths
    )
    assert a == b != c
