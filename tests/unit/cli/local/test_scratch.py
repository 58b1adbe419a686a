"""What a process puts aside goes with it, however it ends, and nobody else's does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from slipway.local.scratch import Scratch

HOLDER = """
import os, subprocess, sys
from slipway.local.scratch import Scratch

scratch = Scratch()
child = subprocess.Popen(
    [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=sys.stdin, pass_fds=(scratch.handle,)
)
print(scratch.path, flush=True)
child.wait()
"""


@pytest.fixture
def place(monkeypatch):
    """The folder of temporary files. Its path is short, as it is everywhere but in tests."""
    with tempfile.TemporaryDirectory(prefix="t") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        monkeypatch.setenv("TMPDIR", folder)
        yield Path(folder)


def test_it_is_where_a_process_puts_its_files_and_goes_with_them(place):
    scratch = Scratch()
    told = {**os.environ, **scratch.variables()}
    code = "import tempfile; print(tempfile.mkdtemp())"
    made = subprocess.run([sys.executable, "-c", code], env=told, capture_output=True, text=True, check=True).stdout
    assert Path(made.strip()).parent == scratch.path
    scratch.remove()
    scratch.remove()
    assert list(place.iterdir()) == []


def test_what_torch_has_compiled_stays_for_the_next_process(place, monkeypatch):
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    code = "from torch._inductor.runtime.cache_dir_utils import default_cache_dir; print(default_cache_dir())"
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    by_itself = asked.stdout.strip()
    scratch = Scratch()
    assert scratch.variables()["TORCHINDUCTOR_CACHE_DIR"] == by_itself
    scratch.remove()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/elsewhere")
    scratch = Scratch()
    assert scratch.variables()["TORCHINDUCTOR_CACHE_DIR"] == "/elsewhere"
    scratch.remove()


def test_the_path_of_a_socket_is_not_made_too_long(place, monkeypatch):
    deep = place / ("d" * 60)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    scratch = Scratch()
    assert scratch.variables() == {}
    scratch.remove()


def test_one_that_a_killed_process_left_goes_when_nothing_of_it_runs_any_more(place):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    left = Path(holder.stdout.readline().strip())
    (left / "file").write_text("x")
    holder.kill()
    holder.wait()
    # Its child lives, and may use it.
    Scratch().remove()
    assert (left / "file").exists()
    os.killpg(holder.pid, signal.SIGKILL)
    holder.stdin.close()
    deadline = time.monotonic() + 30
    while list(place.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.02)
        Scratch().remove()
    assert list(place.iterdir()) == []


def test_what_only_has_such_a_name_stays(place):
    elsewhere = place / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").write_text("x")
    (place / "slipway-tmp-link").symlink_to(elsewhere)
    (place / "slipway-tmp-file").write_text("x")
    Scratch().remove()
    assert (elsewhere / "file").exists()
    assert (place / "slipway-tmp-file").exists()
