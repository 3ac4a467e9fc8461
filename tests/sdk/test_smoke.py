"""The walk through the recording schemes that comes with the contract, where that lies beside the repository."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from appliance import REPOSITORY
from conftest import SECRET_ID, SECRET_KEY

SMOKE = Path(os.environ.get("CAPSTAN_SDK_SMOKE", REPOSITORY.parent / "shared" / "api" / "sdk_smoke.py"))


@pytest.mark.skipif(not SMOKE.exists(), reason=f"{SMOKE} is not there")
def test_smoke(signed):
    command = [sys.executable, SMOKE, "--endpoint", signed.endpoint, "--secret-id", SECRET_ID, "--secret-key", SECRET_KEY]
    run = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=480)
    print(run.stdout, run.stderr)
    steps = re.findall(r"^(PASS|FAIL) (.+?) \[\w+\]", run.stdout, re.MULTILINE)
    assert len(steps) > 30, run.stdout + run.stderr
    failed = {step for outcome, step in steps if outcome == "FAIL"}
    assert not failed, run.stdout
