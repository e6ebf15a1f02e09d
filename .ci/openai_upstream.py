"""A scripted upstream of the OpenAI dialect: what it does is named by the model it is asked for."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ANSWER = {"severity": "low", "score": 3}
USAGE = {"prompt_tokens": 12, "completion_tokens": 7, "total_tokens": 19}
# Longer than the gateway waits for it.
SILENCE_S = 3


class Server(ThreadingHTTPServer):
    def handle_error(self, *_):
        """Says nothing: a gateway that gives up closes its connection."""


class Upstream:
    """Listens on a free port of the loopback address, and keeps the bodies it was sent."""

    def __init__(self):
        self.asked = []
        handler = type("Handler", (Handler,), {"asked": self.asked})
        self.server = Server(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def calls(self, word):
        """Returns how many requests held this word."""
        return sum(word in json.dumps(body) for body in self.asked)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.asked.append(body)
        model = body["model"]
        if model == "busy":
            return self.fail(429, "slow down", None, {"retry-after": "7"})
        if model == "broken":
            return self.fail(500, "down", None)
        if model == "refusing":
            return self.fail(400, "too many", "max_tokens")
        if model == "garbage":
            return self.send(b"<html>", "text/html")
        if model in ("silent", "slow"):
            time.sleep(SILENCE_S if model == "silent" else 0.3)
        message, reason = answer(body)
        if body.get("stream"):
            return self.stream(body, message, reason)
        choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": reason}
        self.send(json.dumps(whole(body, "chat.completion", [choice], USAGE)).encode(), "application/json")

    def send(self, body, kind, status=200, headers=()):
        self.send_response(status)
        for name, value in {"content-type": kind, "content-length": str(len(body)), **dict(headers)}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def fail(self, status, message, param, headers=()):
        error = {"error": {"message": message, "type": "scripted", "param": param, "code": None}}
        self.send(json.dumps(error).encode(), "application/json", status, headers)

    def stream(self, body, message, reason):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        deltas = [{"role": "assistant", "content": ""}, *pieces(message)]
        if body["model"] == "cut":
            deltas = deltas[:3]
        for delta in deltas:
            self.event(whole(body, "chat.completion.chunk", [{"index": 0, "delta": delta, "finish_reason": None}]))
        if body["model"] == "cut":
            # Neither an end nor the mark of one.
            self.close_connection = True
            return
        self.event(whole(body, "chat.completion.chunk", [{"index": 0, "delta": {}, "finish_reason": reason}]))
        if body.get("stream_options", {}).get("include_usage"):
            self.event(whole(body, "chat.completion.chunk", [], USAGE))
        self.event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def event(self, data):
        text = data if isinstance(data, str) else json.dumps(data)
        event = f"data: {text}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
        self.wfile.flush()


def whole(body, kind, choices, usage=None):
    return {"id": "c-1", "object": kind, "created": 1, "model": body["model"], "choices": choices, "usage": usage}


def answer(body):
    """Answers with the result of a tool, a call of the first tool, JSON if that is wanted, or the last message."""
    last = body["messages"][-1]
    if last["role"] == "tool":
        return {"content": f"It is {last['content']}."}, "stop"
    if body.get("tools"):
        names = [tool["function"]["name"] for tool in body["tools"]]
        calls = [
            {"id": f"call-{at}", "type": "function", "function": {"name": name, "arguments": '{"chain": "Base"}'}}
            for at, name in enumerate(names)
        ]
        return {"content": None, "tool_calls": calls}, "tool_calls"
    if (body.get("response_format") or {}).get("type") == "json_schema":
        return {"content": json.dumps(ANSWER)}, "stop"
    content = last["content"]
    texts = [content] if isinstance(content, str) else [part["text"] for part in content]
    return {"content": " ".join(texts)}, "stop"


def pieces(message):
    for word in (message["content"] or "").split(" ") if message.get("content") else []:
        yield {"content": f"{word} "}
    for at, call in enumerate(message.get("tool_calls", [])):
        function = call["function"]
        yield {"tool_calls": [{"index": at, "id": call["id"], "type": "function", "function": {"name": function["name"], "arguments": ""}}]}
        for half in (function["arguments"][:6], function["arguments"][6:]):
            yield {"tool_calls": [{"index": at, "function": {"arguments": half}}]}
