"""A cache of its own for each test, a web server on this machine, a quick stand-in for the cochlea."""

import http.server
import threading
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache folder, and no recordings to be found elsewhere."""
    monkeypatch.setenv("SNNKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SNNKIT_DATA", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def server():
    """A web server on this machine: `server.files[path] = bytes`; `server.url(path)`; `server.asked`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            owner.asked.append(self.path)
            body = owner.files.get(self.path)
            if body is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(body) + owner.missing))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    class Owner:
        def __init__(self):
            self.files, self.asked, self.missing = {}, [], 0
            self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
            self.thread = threading.Thread(target=self.http.serve_forever, daemon=True)
            self.thread.start()

        def url(self, path):
            return f"http://127.0.0.1:{self.http.server_port}{path}"

    owner = Owner()
    yield owner
    owner.http.shutdown()
    owner.thread.join()
    owner.http.server_close()


@pytest.fixture
def no_network(monkeypatch):
    """Every connection is refused."""
    import urllib.request
    from urllib.error import URLError

    def refuse(*_, **__):
        raise URLError("Network is unreachable")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


@pytest.fixture
def quick_cochlea(monkeypatch):
    """In place of the cochlea: a spike every 40 samples, the channel from the sample. Counts its clips."""
    from snnkit.datasets import cochlea

    encoded = []

    def encode_many(clips, rate, seed=0, workers=None, progress=True, **_):
        encoded.append(len(clips))
        return [
            (np.arange(0, len(c), 40) / rate, (np.abs(c[::40].astype(np.int32)) + seed) % 700) for c in clips
        ]

    monkeypatch.setattr(cochlea, "encode_many", encode_many)
    return encoded
