"""An ASGI application that answers with what it was sent, as JSON, so that a test can compare.

`environ` is the same head as a CGI, WSGI or Rack application would see it: names upper-cased and every byte
that is no letter or digit turned into `_`. That is where forged spellings of a header name collide.
"""

import hashlib
import json
import re


def environ_name(name: bytes) -> str:
    return "HTTP_" + re.sub(r"[^A-Z0-9]", "_", name.decode("latin-1").upper())


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    if scope["path"] == "/mirror":
        # Every piece of the body comes back as soon as it is there.
        await send({"type": "http.response.start", "status": 200, "headers": []})
        more = True
        while more:
            message = await receive()
            more = message.get("more_body", False)
            await send({"type": "http.response.body", "body": message.get("body", b""), "more_body": more})
        return
    length, digest, chunks = 0, hashlib.sha256(), 0
    big = scope["path"].startswith("/sink")
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body = message.get("body", b"")
        length += len(body)
        chunks += bool(body)
        if not big:
            digest.update(body)
        if not message.get("more_body"):
            break
    if scope["path"] == "/never":
        while (await receive())["type"] != "http.disconnect":
            pass
        return
    if scope["path"] == "/stall":
        # Half an answer, and then nothing until the other side gives up.
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"10")]})
        await send({"type": "http.response.body", "body": b"half.", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        return
    environ = {}
    for name, value in scope["headers"]:
        environ.setdefault(environ_name(name), []).append(value.decode("latin-1"))
    seen = {
        "method": scope["method"],
        "http_version": scope["http_version"],
        "raw_path": scope["raw_path"].decode("latin-1"),
        "query": scope["query_string"].decode("latin-1"),
        "headers": [[n.decode("latin-1"), v.decode("latin-1")] for n, v in scope["headers"]],
        "environ": environ,
        "body_length": length,
        "body_sha256": None if big else digest.hexdigest(),
        "body_chunks": chunks,
    }
    answer = json.dumps(seen).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(answer)).encode()),
    ]
    if scope["path"] == "/forge":
        # A hostile upstream's attempt to speak in the gateway's name.
        headers += [(b"x-auth-subject", b"forged"), (b"portcullis-request-id", b"forged"), (b"x-kept", b"yes")]
    status = int(scope["path"].removeprefix("/status/")) if scope["path"].startswith("/status/") else 200
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else answer})
