"""`kill -9` at a random instant; more seeds by `tests/crash/run`."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "crash"))

import harness  # noqa: E402


@pytest.mark.parametrize("seed", range(8))
def test_nothing_that_was_read_is_lost(tmp_path, seed):
    harness.run_seed(seed, tmp_path)
