"""One local Ray session for all of these tests: starting one takes seconds."""

import pytest
import ray

from cluster.connection import connected


@pytest.fixture(scope="session")
def ray_session():
    with connected():
        assert ray.is_initialized()
        yield
