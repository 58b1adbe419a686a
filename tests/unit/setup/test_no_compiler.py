"""The machine without a compiler that other tests run on has none, and still has the rest."""

import shutil
import subprocess

import pytest


@pytest.mark.parametrize("command", ["g++", "gcc", "cc", "c++", "clang", "clang++", "ninja", "x86_64-linux-gnu-g++"])
def test_compilers_are_off_the_path(no_compiler_path: str, command: str) -> None:
    assert shutil.which(command, path=no_compiler_path) is None


def test_versioned_compilers_are_off_the_path(no_compiler_path: str) -> None:
    listed = subprocess.run(
        ["sh", "-c", "ls $PATH"], env={"PATH": no_compiler_path}, capture_output=True, text=True, check=True
    ).stdout.split()
    assert not [
        name
        for name in listed
        if name.startswith(("gcc-", "g++-", "clang-", "clang++-")) and name.split("-", 1)[1].split(".")[0].isdigit()
    ]


@pytest.mark.parametrize("command", ["sh", "python3", "make", "git", "tar"])
def test_other_commands_work(no_compiler_path: str, command: str) -> None:
    assert shutil.which(command, path=no_compiler_path)


def test_caches_of_compiled_code_are_empty(
    no_compiler_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    base = str(tmp_path_factory.getbasetemp())
    for name in ("TORCH_EXTENSIONS_DIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "VLLM_CACHE_ROOT"):
        assert no_compiler_env[name].startswith(base)
    assert "CXX" not in no_compiler_env
