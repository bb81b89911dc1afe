"""Uploading, against a server on this machine that speaks as the Hugging Face Hub does."""

import base64
import json
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from medsegdiff_auto.cli import export
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.handover.hub import push_to_hub

TOKEN = "hf_standin"


class StandIn(ThreadingHTTPServer):
    """Keeps what it is told: repositories, and files by their path."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: list[dict] = []
        self.files: dict[str, bytes] = {}
        self.card = ""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: StandIn

    def log_message(self, *args) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.answer(401, {"error": "Invalid credentials"})
        if self.path == "/api/repos/create":
            self.server.repositories.append(json.loads(body))
            return self.answer(200, {"url": f"{self.server.address}/somebody/organs"})
        if self.path == "/api/validate-yaml":
            self.server.card = json.loads(body)["content"]
            return self.answer(200, {"errors": [], "warnings": []})
        if self.path.endswith("/preupload/main"):
            files = [file | {"uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]]
            return self.answer(200, {"files": files})
        assert self.path.endswith("/commit/main"), self.path
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        return self.answer(200, {"commitUrl": f"{self.server.address}/somebody/organs/commit/1", "commitOid": 40 * "1"})

    def answer(self, code: int, content: dict) -> None:
        text = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


@pytest.fixture
def server(monkeypatch) -> Iterator[StandIn]:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    server = StandIn()
    Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_the_file_and_its_card_lie_in_a_private_repository(exported, server):
    assert push_to_hub(exported, "somebody/organs", server.address) == f"{server.address}/somebody/organs"
    assert server.repositories[0]["name"] == "organs" and "private" in str(server.repositories[0])
    assert server.files["model.zip"] == exported.read_bytes()
    assert server.card == server.files["README.md"].decode(), "the Hub looks at the front matter before it takes it"
    assert server.files["README.md"].startswith(b"---\nlicense: cc-by-4.0\n") and len(server.files) == 2


def test_a_token_that_is_refused_comes_in_four_lines_with_the_way_to_go_on(exported, server, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(UserError) as refused:
        push_to_hub(exported, "somebody/organs", server.address)
    assert "401" in refused.value.found and f"hf upload somebody/organs {exported} model.zip" in refused.value.fix
    assert len(str(refused.value).splitlines()) == 4 and not server.files


def test_without_the_library_nothing_is_exported(model_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert export.main(["-m", str(model_folder), "-o", str(tmp_path / "a.zip"), "--push_to_hub", "a/b"]) == 2
    assert 'pip install "medsegdiff-auto[hub]"' in capsys.readouterr().err and not list(tmp_path.iterdir())
