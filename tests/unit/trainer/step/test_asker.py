import pytest

from slipway_trainer.step.asker import asker, credentials_field


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("stages[0].data.train[0].uri", "stages[0].data.train[0].credentials"),
        ("model.from", "model.credentials"),
        ("model.scratch.tokenizer.from", "model.credentials"),
    ],
)
def test_the_field_of_the_secret_is_named(field, expected):
    assert credentials_field(field) == expected
    assert asker(field).credentials == expected
