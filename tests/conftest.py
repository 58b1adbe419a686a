"""What every test shares: a quiet environment, hypothesis profiles, and a PATH without compilers."""

import os
import re
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests import programs

# Set before any test imports a library that reads them at import; child processes inherit them.
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
# Tests run tiny models: more threads only fight over the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Processes that tests start import torch again and again: let them keep the bytecode.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A shell that starts the tests in the background has them ignore Ctrl-C, and so would all that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The time of an example depends on the machine and its neighbours, so no profile has a deadline.
hypothesis.settings.register_profile("default", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=2000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "default"))

COMPILER = re.compile(r"(.*-)?(gcc|g\+\+|cc|c\+\+|c89|c99|cpp|clang|clang\+\+|icx|icpx|tcc|nvcc|ninja)(-[\d.]+)?")


_BUILT = {"control_plane", "empty_plane", "helm", "s3"}
"""Fixtures that need a program which a new machine builds first, for minutes."""
_BUILT_LAST = {"quota"}
"""Of these, those that need Kueue."""
_LONGEST = "test_killed_operator.py"
"""Of the other files that wait. It comes beside Kueue's, so that two processes end at about the same time."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Has the tests of those programs come last, and wait: `make test` builds them while the others run."""

    def those_with(fixtures: set[str]) -> set[Path]:
        return {item.path for item in items if fixtures & set(getattr(item, "fixturenames", ()))}

    waits, last = those_with(_BUILT), those_with(_BUILT_LAST)
    items.sort(key=lambda item: (item.path in waits, 2 if item.path.name == _LONGEST else item.path in last))
    if waits and programs.missing("tests"):
        for item in items:
            if item.path in waits:
                item.add_marker(pytest.mark.timeout(1800), append=False)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Gives a worker of pytest-xdist a folder for its temporary files, which goes with the session: a worker that takes
    longer than ten seconds to end is killed, and what libraries remove at the end of a process would stay, such as
    the sockets of a fork server."""
    folder = tempfile.TemporaryDirectory(prefix="slipway-test-", ignore_cleanup_errors=True)
    node.workerinput["temporary"] = folder.name
    node.config.add_cleanup(folder.cleanup)


def pytest_configure(config: pytest.Config) -> None:
    # What a worker starts has those of the environment, as everywhere.
    tempfile.tempdir = getattr(config, "workerinput", {}).get("temporary", tempfile.tempdir)


@pytest.fixture(scope="session")
def no_compiler_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PATH that holds all of the machine's commands but compilers and ninja.

    The commands of the virtual environment are not on it (ninja is one of them): call those by their full path.
    """
    farm = tmp_path_factory.mktemp("no-compiler") / "bin"
    farm.mkdir()
    own = Path(sys.prefix, "bin").resolve()
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        if not os.path.isdir(folder) or Path(folder).resolve() == own:
            continue
        for entry in os.scandir(folder):
            link = farm / entry.name
            if not COMPILER.fullmatch(entry.name) and not link.is_symlink():
                link.symlink_to(os.path.abspath(entry.path))
    return str(farm)


@pytest.fixture
def no_compiler_env(no_compiler_path: str, tmp_path: Path) -> dict[str, str]:
    """This environment on a machine without a compiler, and without what a compiler left in caches before."""
    env = {name: value for name, value in os.environ.items() if name not in ("CC", "CXX", "CUDAHOSTCXX")}
    return env | {
        "PATH": no_compiler_path,
        "TORCH_EXTENSIONS_DIR": str(tmp_path / "torch_extensions"),
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "torchinductor"),
        "TRITON_CACHE_DIR": str(tmp_path / "triton"),
        "VLLM_CACHE_ROOT": str(tmp_path / "vllm"),
    }
