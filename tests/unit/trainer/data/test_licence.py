"""A licence is what a card or a configuration says, and never a guess."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway_trainer.data import licence


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ("---\nlicense: apache-2.0\ntags: [a]\n---\n# Base\n", {"license": "apache-2.0"}),
        (
            "---\nlicense: other\nlicense_name: sea\nlicense_link: LICENSE\n---\n",
            {"license": "other", "license_name": "sea", "license_link": "LICENSE"},
        ),
        ("---\nlicense: [mit, cc-by-4.0]\n---\n", {"license": "mit, cc-by-4.0"}),
        ("---\nlicense_link: LICENSE\n---\n", {}),
        ("---\nlicense: {a: b}\n---\n", {}),
        ("# Base\n\nlicense: mit\n", {}),
        ("---\na: [\n---\n", {}),
        ("---\nlicense: !!python/object:os.system x\n---\n", {}),
    ],
)
def test_a_card_says_it_in_front(tmp_path: Path, card: str, expected: dict[str, str]) -> None:
    (tmp_path / "README.md").write_text(card)
    assert licence.of_model(tmp_path) == expected


def test_where_no_card_does_the_configuration_may(tmp_path: Path) -> None:
    assert licence.of_model(tmp_path) == {}
    (tmp_path / "config.json").write_text('{"license": "mit"}')
    assert licence.of_model(tmp_path) == {"license": "mit"}
    (tmp_path / "README.md").write_bytes(b"---\nlicense: \xff\n---\n")
    assert licence.of_model(tmp_path) == {"license": "mit"}


def test_it_is_said_in_words() -> None:
    assert licence.named({}) == ""
    assert licence.named({"license": "mit"}) == "mit"
    other = {"license": "other", "license_name": "sea", "license_link": "LICENSE"}
    assert licence.named(other) == "sea (LICENSE)"
