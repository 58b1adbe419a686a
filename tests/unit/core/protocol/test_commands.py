from slipway_core.protocol.commands import serve_command
from slipway_core.resources.model_endpoint import EndpointTemplate


def command(**more):
    return serve_command(EndpointTemplate(), model="/model", digest="sha256:0", name="chat", host="::", port=1, **more)


def test_a_server_lingers_only_where_it_is_told_to():
    assert "--linger-seconds" not in command()
    lingering = command(linger=5)
    assert lingering[lingering.index("--linger-seconds") + 1] == "5"
