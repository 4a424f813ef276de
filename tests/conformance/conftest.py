"""A shop between a pair of engines."""

from collections.abc import Callable

import pytest

from tests.system.shop import Shop


@pytest.fixture
def pair(request: pytest.FixtureRequest) -> tuple[str, str]:
    found: tuple[str, str] = request.param
    return found


@pytest.fixture
def shop(pair: tuple[str, str], make_shop: Callable[..., Shop]) -> Shop:
    """Nothing runs yet."""
    return make_shop(*pair)
