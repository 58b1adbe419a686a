import pytest

from slipway_trainer.step.requester import credentials_field, requester


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
    assert requester(field).credentials == expected


def test_an_error_begins_with_the_field_and_ends_with_what_a_run_can_do():
    who = requester("model.from")
    assert who.named("s3://models/base") == "model.from: s3://models/base"
    assert who.more_room == "Free space there, or give the run a workspace on a larger disk"
