"""What a hint tells a person to type leads to the folder that the command was about."""

from slipway.local.state import State
from slipway.local.typed_command import typed


def test_a_folder_that_is_not_the_usual_one_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SLIPWAY_WORKDIR", raising=False)
    assert typed(State.below(tmp_path), "chat", "chat") == "slipway chat chat"
    other = tmp_path / "a folder"
    assert typed(State.below(other), "stop", "chat") == f"slipway stop chat --workdir '{other}'"
    monkeypatch.setenv("SLIPWAY_WORKDIR", str(other))
    assert typed(State.below(other), "stop", "chat") == "slipway stop chat"
    assert typed(State.below(tmp_path), "stop", "chat") == f"slipway stop chat --workdir {tmp_path}"
