"""A command as one types it to reach a state folder from where the shell is."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from slipway.local.state import State
from slipway.options import HERE, WORKDIR_VARIABLE
from slipway.target import bare_command


def typed(state: State, *words: str) -> str:
    """Returns a command of these words, with --workdir where the folder is not the one that it would look into."""
    usual = State.below(Path(os.environ.get(WORKDIR_VARIABLE) or HERE))
    leads = () if usual.root == state.root else ("--workdir", shlex.quote(str(state.root.parent)))
    return bare_command(*words, *leads)
