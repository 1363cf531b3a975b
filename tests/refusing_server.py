"""A PostgreSQL server that begins no session: it answers every start of one with the same message."""

from __future__ import annotations

import socket
import struct
import threading


class Refusing:
    """Listens as a PostgreSQL server does, and answers every start of a session with the same message."""

    def __init__(self, answer):
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)
        self.asked = 0

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        socket.create_connection(self._listener.getsockname()).close()  # wakes it up
        self._thread.join()
        self._listener.close()

    def url(self, query):
        port = self._listener.getsockname()[1]
        return f"postgresql://app@127.0.0.1:{port}/shop?gssencmode=disable&{query}"

    def _serve(self):
        while True:
            with self._listener.accept()[0] as session:
                length = session.recv(4)
                if not length:
                    return
                session.recv(struct.unpack("!I", length)[0] - 4)
                session.sendall(self._answer)
                self.asked += 1


def fatal(words, state="28P01", encoding="utf-8"):
    """The server's message for a session that it does not begin."""
    parts = [("S", "FATAL"), ("C", state), ("M", words)]
    fields = b"".join(f"{key}{text}\0".encode(encoding) for key, text in parts)
    return b"E" + struct.pack("!I", len(fields) + 5) + fields + b"\0"
