"""What to run where a model has pickles alone: they can run code when they are loaded, so nobody here loads one."""

from __future__ import annotations

import shlex


def command(source: str) -> str:
    """Returns the command that writes a model as safetensors into the folder `converted`, for people who trust it.

    Args:
        source: a folder, or a repository of the hub.
    """
    code = (
        "from transformers import AutoModelForCausalLM as M, AutoTokenizer as T; "
        f"s, f = {source!r}, 'converted'; "
        "M.from_pretrained(s).save_pretrained(f); T.from_pretrained(s).save_pretrained(f)"
    )
    return f"python -c {shlex.quote(code)}"
