"""The keys of trackers on their way from the environment, and out of what is said."""

import pytest

from slipway_trainer.tracking import choose


def test_keys_are_taken_out_of_the_environment_without_the_line_end_of_their_file() -> None:
    environment = {"MLFLOW_TRACKING_TOKEN": "s3cret\n", "WANDB_API_KEY": "key", "HOME": "/home"}
    assert choose.take_keys(environment) == {"MLFLOW_TRACKING_TOKEN": "s3cret", "WANDB_API_KEY": "key"}
    assert environment == {"HOME": "/home"}


def test_a_step_that_keeps_its_keys_has_them_without_one() -> None:
    environment = {"MLFLOW_TRACKING_TOKEN": "s3cret\n", "HOME": "/home"}
    choose.trim_keys(environment)
    assert environment == {"MLFLOW_TRACKING_TOKEN": "s3cret", "HOME": "/home"}


@pytest.mark.parametrize("said", ["the key s3cret is wrong", "in header value: 'Bearer s3cret\\n'"])
def test_H_what_is_said_has_no_key_in_it_however_it_is_quoted(said: str) -> None:
    told = choose.without_secrets(said, {"MLFLOW_TRACKING_TOKEN": "s3cret\n", "HF_TOKEN": "\n"})
    assert told == said.replace("s3cret", "***")
