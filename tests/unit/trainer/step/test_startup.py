"""The log of a step is the user's own: no library speaks in it of itself."""

from __future__ import annotations

import subprocess
import sys


def test_what_an_adapter_imports_asks_for_no_package() -> None:
    """peft imports bitsandbytes where it is installed, for any adapter. On a CPU with BF16 that wants a package
    installed by which it would fetch code from the hub."""
    code = (
        "from slipway_trainer.step.startup import prepare_process; prepare_process(); import logging, bitsandbytes; "
        "logging.getLogger('bitsandbytes.backends.cpu.ops').warning('pip install kernels')"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "kernels" not in said.stdout + said.stderr
