import httpx
import pytest
from tests.unit.cli.chat_server import ChatServer, running

from slipway.talk.chat_client import Answer, ChatClient, ChatError, read_events
from slipway.talk.conversation import Conversation, printable
from slipway_serving.http.refusal import Refusal


@pytest.fixture
def talk():
    """Returns a function that starts a conversation with a server and gives what is written."""
    open_ = []

    def start(server, **settings):
        http = httpx.Client(base_url=server.url + "/", trust_env=False)
        open_.append(http)
        written = []
        return Conversation(ChatClient(http), written.append, settings), written

    yield start
    for http in open_:
        http.close()


def test_an_answer_is_written_as_it_comes_and_remembered(talk):
    with running(ChatServer(pieces=("床前", "看月光"))) as server:
        conversation, written = talk(server)
        assert conversation.hear("背诵《夜思》\n")
        assert conversation.hear("再来")
    assert written[:3] == ["床前", "看月光", "\n"]
    first, second = server.requests
    assert (first.message, first.history) == ("背诵《夜思》", [])
    assert [(turn.role, turn.content) for turn in second.history] == [
        ("user", "背诵《夜思》"),
        ("assistant", "床前看月光"),
    ]


def test_what_a_model_thinks_is_written_apart_and_not_remembered(talk):
    with running(ChatServer(pieces=("床前",), thoughts=("so ", "it is"))) as server:
        conversation, written = talk(server)
        conversation.hear("背诵")
        assert written == ["床前", "\n"]
        thoughts = []
        conversation.write_thought = thoughts.append
        conversation.hear("再来")
    assert thoughts == ["so ", "it is", "\n\n"]
    assert {turn["content"] for turn in conversation.history} == {"背诵", "再来", "床前"}


def test_an_answer_that_was_cut_before_it_began_says_so(talk):
    with running(ChatServer(pieces=(), thoughts=("so",), finish_reason="length")) as server:
        conversation, written = talk(server)
        conversation.hear("hi")
    assert "while it was still thinking; --max-length" in written[-1]
    assert conversation.history == []


def test_settings_that_were_not_given_are_the_servers(talk):
    with running(ChatServer()) as server:
        talk(server, max_length=None, temperature=0.0, top_p=None)[0].hear("hi")
    assert server.requests[0].temperature == 0
    assert server.requests[0].model_fields_set == {"message", "history", "stream", "temperature"}


def test_clear_forgets_all_but_the_instructions(talk):
    with running(ChatServer()) as server:
        conversation, _ = talk(server)
        conversation.history.append({"role": "system", "content": "be brief"})
        conversation.hear("one")
        conversation.hear("/clear")
        conversation.hear("two")
    assert [turn.role for turn in server.requests[1].history] == ["system"]


@pytest.mark.parametrize("word", ["exit", "quit", "退出", " QUIT ", "/exit"])
def test_words_that_leave(talk, word):
    with running(ChatServer()) as server:
        assert not talk(server)[0].hear(word)
    assert server.requests == []


def test_an_empty_line_asks_nothing(talk):
    with running(ChatServer()) as server:
        assert talk(server)[0].hear("  \n")
    assert server.requests == []


def test_an_answer_that_was_cut_at_its_limit_says_so(talk):
    with running(ChatServer(finish_reason="length")) as server:
        conversation, written = talk(server)
        conversation.hear("hi")
    assert "cut at 2 tokens; --max-length" in written[-1]


def test_ctrl_c_stops_an_answer_and_keeps_what_was_heard(talk):
    with running(ChatServer(pieces=("one ", "two ", "three"))) as server:
        conversation, written = talk(server)

        def write(text):
            written.append(text)
            if text == "two ":
                raise KeyboardInterrupt

        conversation.write = write
        assert conversation.hear("count")
    assert written[-1] == "\n(stopped)\n"
    assert conversation.history[-1]["content"] == "one two "


def test_a_full_server_says_when_to_come_back_and_the_turn_is_not_remembered(talk):
    refusal = Refusal(429, "queue_full", "The queue is full.", headers={"retry-after": "3"})
    with running(ChatServer(refusal=refusal)) as server:
        conversation, written = talk(server)
        assert conversation.hear("hi")
    assert written == ["\n! 429: The queue is full. Try again in 3 s.\n"]
    assert conversation.history == []


def test_a_conversation_that_grew_too_long_is_told_how_to_go_on(talk):
    with running(ChatServer()) as server:
        conversation, written = talk(server)
        conversation.hear("hi")
        server.refusal = Refusal(422, "too_long", "max_length: 100 and the prompt's 400 are above 256.")
        conversation.hear("more")
    assert "/clear" in written[-1]


def test_a_missing_key_is_named(talk):
    with running(ChatServer(refusal=Refusal(401, "no_key", "A key is needed."))) as server:
        conversation, written = talk(server)
        conversation.hear("hi")
    assert "SLIPWAY_API_KEY" in written[-1]


def test_an_answer_that_breaks_off_is_an_error(talk):
    with running(ChatServer(cut=True)) as server:
        conversation, _ = talk(server)
        with pytest.raises(ChatError, match="cut off"):
            conversation.say("hi")


def test_an_error_in_the_middle_of_an_answer_is_an_error():
    lines = ['data: {"delta": "a"}', 'data: {"error": {"message": "engine died"}}', "data: [DONE]"]
    answer = Answer(iter(()))
    with pytest.raises(ChatError, match="engine died"):
        list(read_events(lines, answer))
    assert answer.text == "a"


def test_a_server_that_is_not_there_is_named():
    with httpx.Client(base_url="http://127.0.0.1:9/", trust_env=False) as http:
        conversation = Conversation(ChatClient(http), print, {})
        with pytest.raises(ChatError, match=r"nothing answers at http://127\.0\.0\.1:9/"):
            conversation.say("hi")


def test_what_a_model_says_cannot_steer_the_terminal():
    assert printable("a\x1b[2J\x07b\r\n\t床\x9b") == "a[2Jb\n\t床"
