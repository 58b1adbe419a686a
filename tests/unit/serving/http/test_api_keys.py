from __future__ import annotations

import os
from pathlib import Path

import pytest

from slipway_serving.http.api_keys import ApiKeys, ApiKeysError


class Clock:
    now = 0.0

    def __call__(self) -> float:
        self.now += 10
        return self.now


def accepts(keys: ApiKeys, *names: str) -> list[bool]:
    return [keys.owner(name) is not None for name in names]


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# two\nold \n\n  ключ\n", encoding="utf-8")
    keys = ApiKeys(file, Clock())
    assert accepts(keys, "old", "ключ", "new", "", "# two") == [True, True, False, False, False]
    file.write_text("new\n", encoding="utf-8")
    assert accepts(keys, "old", "new") == [False, True]


def test_a_secret_swapped_by_a_link_is_noticed(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text(f"key-{name}\n", encoding="utf-8")
        os.utime(tmp_path / name, (1, 1))
    link = tmp_path / "keys"
    link.symlink_to("one")
    keys = ApiKeys(link, Clock())
    link.unlink()
    link.symlink_to("two")
    assert accepts(keys, "key-one", "key-two") == [False, True]


@pytest.mark.parametrize("change", ["empty", "gone", "binary"])
def test_a_broken_rotation_leaves_the_last_good_keys(tmp_path: Path, change: str) -> None:
    file = tmp_path / "keys"
    file.write_text("good\n", encoding="utf-8")
    keys = ApiKeys(file, Clock())
    match change:
        case "empty":
            file.write_text("# nothing\n", encoding="utf-8")
        case "gone":
            file.unlink()
        case _:
            file.write_bytes(b"\xff\xfe")
    assert accepts(keys, "good", "", "# nothing") == [True, False, False]
    file.write_text("better\n", encoding="utf-8")
    assert accepts(keys, "good", "better") == [False, True]


@pytest.mark.parametrize(("content", "words"), [(None, "No such file"), (b"#\n\n", "no key"), (b"\xff", "UTF-8")])
def test_a_start_without_a_key_is_refused(tmp_path: Path, content: bytes | None, words: str) -> None:
    file = tmp_path / "keys"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ApiKeysError, match=words) as caught:
        ApiKeys(file)
    assert str(file) in str(caught.value)


def test_the_keys_themselves_are_not_kept(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("sk-secret\n", encoding="utf-8")
    assert "sk-secret" not in repr(vars(ApiKeys(file)))
