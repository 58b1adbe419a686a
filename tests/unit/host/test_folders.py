"""Folders that are there whole or not at all."""

from pathlib import Path

from slipway_host import files


def test_a_folder_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    place, temporary = tmp_path / "model", tmp_path / ".model.tmp-1"
    for folder, name in ((place, "old"), (temporary, "new")):
        (folder / "inside").mkdir(parents=True)
        (folder / "inside" / name).write_text(name)
    files.sync_tree(temporary)
    files.replace_folder(temporary, place)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert [path.name for path in (place / "inside").iterdir()] == ["new"]
