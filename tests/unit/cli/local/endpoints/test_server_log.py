import pytest

from slipway.local.endpoints import server_log

VLLM = """\
INFO 11-25 01:02:03 [core.py:101] Initializing a V1 LLM engine
(EngineCore pid=12) ERROR 11-25 01:02:04 [core.py:700] Traceback (most recent call last):
(EngineCore pid=12) ERROR 11-25 01:02:04 [core.py:700]   File "core.py", line 12, in load
(EngineCore pid=12) ERROR 11-25 01:02:04 [core.py:700] ValueError: the head size 7 is not supported
Traceback (most recent call last):
  File "main.py", line 1, in <module>
RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
"""

PYDANTIC = """\
(APIServer pid=1) pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig
(APIServer pid=1)   Value error, max_model_len (100000) is greater than 256 [type=value_error, input_value={}]
(APIServer pid=1)     For further information visit https://errors.pydantic.dev/2.12/v/value_error
"""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (VLLM, "ValueError: the head size 7 is not supported"),
        ("loading\nslipway-server: /m: damaged\nbye\n", "/m: damaged"),
        ("torch.cuda.OutOfMemoryError: 2 GiB\n\n", "torch.cuda.OutOfMemoryError: 2 GiB"),
        ("\x1b[31mKilled here\x1b[0m\n   \n", "Killed here"),
        ("RuntimeError: Engine core initialization failed. x\n", "RuntimeError: Engine core initialization failed. x"),
        (PYDANTIC, "max_model_len (100000) is greater than 256"),
        ("", None),
    ],
    ids=["root cause", "its own error", "dotted", "last line", "only second hand", "the line after", "silent"],
)
def test_the_last_words_say_why(tmp_path, text, words):
    log = tmp_path / "server.log"
    log.write_text(text)
    assert server_log.last_words(log) == words


def test_what_an_earlier_server_said_is_not_repeated(tmp_path):
    log = tmp_path / "server.log"
    log.write_text("ValueError: of the one before\n")
    start = log.stat().st_size
    assert server_log.last_words(log, start) is None
    with log.open("a") as file:
        file.write("ended\n")
    assert server_log.last_words(log, start) == "ended"


def test_a_log_that_was_never_written_has_no_words(tmp_path):
    assert server_log.last_words(tmp_path / "server.log") is None


def test_a_log_is_bounded_while_its_writer_goes_on(tmp_path):
    log = tmp_path / "server.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"old\n" * 100)
        server_log.bound(log, limit=1000)
        assert log.stat().st_size == 400
        server_log.bound(log, limit=100)
        writer.write(b"new\n")
    assert log.read_bytes() == b"new\n"
    assert (tmp_path / "server.log.1").read_bytes() == b"old\n" * 100
    assert server_log.last_words(log, start=400) == "new", "the start of a bounded log is its beginning"
