"""The environments of peers, which ask for other versions than ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TRL = "trl==1.16.0"
LLAMA_FACTORY = "llamafactory==0.9.5"
TORCH = "torch==2.13.0"


def python(peer: str) -> str:
    """Returns the Python of a peer's environment, which is made on the first call."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    home = cache / "slipway-bench" / peer.replace("==", "-")
    found = home / "bin" / "python"
    if not (home / ".complete").exists():
        uv = str(Path(sys.executable).parent / "uv")
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(home)], check=True)
        install = [uv, "pip", "install", "--quiet", "--python", str(found), peer, TORCH, "accelerate"]
        subprocess.run(install, check=True)
        (home / ".complete").touch()
    return str(found)
