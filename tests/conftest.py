"""What several test files need."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 2)  # so that lanes are spread, whatever the machine


@pytest.fixture
def float64() -> Iterator[None]:
    """jax computes in float64 for the length of a test."""
    with jax.enable_x64(True):
        yield
