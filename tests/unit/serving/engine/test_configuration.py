"""What vLLM says against its configuration, in one line."""

from pydantic import BaseModel, model_validator

from slipway_serving.engine import configuration


class Checked(BaseModel):
    @model_validator(mode="after")
    def check(self):
        raise ValueError("max_model_len (100000) is greater than 256")


def test_why_vllm_does_not_take_its_configuration_is_told_without_the_words_of_the_library_around_it():
    try:
        Checked()
    except ValueError as error:
        told = configuration.refusal(error)
    assert told.startswith("vLLM does not take this configuration: max_model_len (100000) is greater than 256.")
    assert "pydantic" not in told
    assert "[type" not in told


def test_an_error_of_its_own_is_told_as_it_is():
    assert "no such thing" in configuration.refusal(ValueError("no such thing"))
