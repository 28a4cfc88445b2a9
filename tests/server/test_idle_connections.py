"""What a connection that does nothing keeps. What that weighs is measured by `scripts/load.py`."""

from support.peer import connected
from support.serving import serving

TOKEN = "a token of thirty-two characters"


async def test_headers_are_forgotten_once_a_client_is_in() -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", "X-Long": "x" * 5000}
    async with serving(token=TOKEN) as running, connected(f"{running.url}/path", additional_headers=headers) as peer:
        await peer.say("get_providers")
        await peer.hear_types("get_providers_done")
        (socket,) = (connection._socket for connection in running.server._connections)
        assert socket.request is not None
        assert list(socket.request.headers.raw_items()) == []
        assert (socket.request.path, socket.response) == ("", None)
