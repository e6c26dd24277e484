"""One environment variable scales every time limit of the tests."""

import pytest
from deadlines import scaled


@pytest.mark.parametrize(("scale", "limit"), [(None, 10), ("", 10), ("1", 10), ("2.5", 25)])
def test_the_environment_scales_a_time_limit(monkeypatch: pytest.MonkeyPatch, scale: str | None, limit: float) -> None:
    monkeypatch.delenv("YOLOTHREADS_DEADLINE_SCALE", raising=False)
    if scale is not None:
        monkeypatch.setenv("YOLOTHREADS_DEADLINE_SCALE", scale)
    assert scaled(10) == limit


@pytest.mark.timeout(77)
def test_the_limit_of_a_test_is_scaled(request: pytest.FixtureRequest) -> None:
    assert request.node.get_closest_marker("timeout").args == (scaled(77),)


def test_the_default_limit_is_scaled(request: pytest.FixtureRequest) -> None:
    assert request.node.get_closest_marker("timeout").args == (scaled(float(request.config.getini("timeout"))),)
