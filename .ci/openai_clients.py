"""Drives the gateway's OpenAI dialect with the official clients, `openai` and `litellm`, in front of a scripted upstream.

Takes the path of athena. The checks of `openai` run over HTTP/1.1, HTTP/2 with prior knowledge, and TLS with either.
"""

import asyncio
import json
import os
import secrets
import ssl
import sys
import tempfile

# No prices from the network.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm
import openai
import trustme
from pydantic import BaseModel

from gateway import KEY, Gateway, report
from openai_upstream import ANSWER, USAGE, Upstream

# Its own advice on standard output says nothing here.
litellm.suppress_debug_info = True
# The gateway's own, by default.
EMBEDDER = "hashing-512"
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {"chain": {"type": "string"}}}}}
    for name in ("gas_price", "block_time")
]


class Report(BaseModel):
    severity: str
    score: int


class Checks:
    """What must hold of one client over one transport; `ask` fills in what all calls have."""

    def __init__(self, client, upstream, version):
        self.client, self.upstream, self.version = client, upstream, version

    def text(self):
        """Returns a question that nobody asked before."""
        return f"Is gas low now {secrets.token_hex(6)} ?"

    def ask(self, text, model="scripted", **more):
        messages = more.pop("messages", [{"role": "user", "content": text}])
        return self.client.chat.completions.create(model=model, messages=messages, **more)

    def raw(self, text, **more):
        messages = [{"role": "user", "content": text}]
        return self.client.chat.completions.with_raw_response.create(model="scripted", messages=messages, **more)

    def check_answer(self):
        text = self.text()
        raw = self.raw(text)
        answer = raw.parse()
        assert raw.http_response.http_version == self.version, raw.http_response.http_version
        assert answer.object == "chat.completion" and answer.id and answer.created, answer
        assert answer.choices[0].message.role == "assistant", answer
        assert answer.choices[0].message.content == text and answer.choices[0].finish_reason == "stop", answer
        assert answer.model == "scripted" and answer.usage.total_tokens == USAGE["total_tokens"], answer
        assert raw.headers["x-athena-served"] == "upstream", raw.headers

    def check_repeat_is_served_from_the_cache(self):
        text = self.text()
        first, second = self.raw(text), self.raw(text)
        assert second.headers["x-athena-served"] == "exact", second.headers
        assert first.parse().choices == second.parse().choices
        assert self.upstream.calls(text) == 1
        again = self.raw(text, extra_headers={"cache-control": "no-cache"})
        assert again.headers["x-athena-served"] == "upstream" and self.upstream.calls(text) == 2

    def check_stream(self):
        text = self.text()
        for _ in range(2):
            chunks = list(self.ask(text, stream=True, stream_options={"include_usage": True}))
            said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
            assert said.strip() == text, said
            assert chunks[0].choices[0].delta.role == "assistant", chunks[0]
            assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
            assert chunks[-1].usage.total_tokens == USAGE["total_tokens"], chunks[-1]
            assert len({chunk.id for chunk in chunks}) == 1
        assert self.upstream.calls(text) == 1, "a complete stream is replayed"

    def check_stream_helper(self):
        text = self.text()
        messages = [{"role": "user", "content": text}]
        with self.client.chat.completions.stream(model="scripted", messages=messages) as stream:
            assert stream.get_final_completion().choices[0].message.content.strip() == text

    def check_tools(self):
        text = self.text()
        for _ in range(2):
            choice = self.ask(text, tools=TOOLS, tool_choice="auto").choices[0]
            assert choice.finish_reason == "tool_calls" and choice.message.content is None, choice
            calls = choice.message.tool_calls
            assert [call.function.name for call in calls] == ["gas_price", "block_time"], calls
            assert json.loads(calls[0].function.arguments) == {"chain": "Base"}, calls
        assert self.upstream.calls(text) == 1, "a call of a tool is cached"
        turns = [{"role": "user", "content": text}, choice.message.model_dump(exclude_none=True)]
        results = [{"role": "tool", "tool_call_id": call.id, "content": "3 gwei"} for call in calls]
        said = self.ask(None, messages=turns + results, tools=TOOLS).choices[0].message.content
        assert said == "It is 3 gwei.", said

    def check_streamed_tools(self):
        text = self.text()
        for _ in range(2):
            calls, reason = {}, None
            for chunk in self.ask(text, tools=TOOLS, stream=True):
                reason = chunk.choices[0].finish_reason or reason
                for piece in chunk.choices[0].delta.tool_calls or []:
                    call = calls.setdefault(piece.index, {"id": piece.id, "name": piece.function.name, "arguments": ""})
                    call["arguments"] += piece.function.arguments or ""
            assert reason == "tool_calls" and [call["name"] for call in calls.values()] == ["gas_price", "block_time"], calls
            assert [json.loads(call["arguments"]) for call in calls.values()] == [{"chain": "Base"}] * 2, calls
            assert [call["id"] for call in calls.values()] == ["call-0", "call-1"], calls
        assert self.upstream.calls(text) == 1

    def check_schema(self):
        text = self.text()
        messages = [{"role": "user", "content": text}]
        parsed = self.client.chat.completions.parse(model="scripted", messages=messages, response_format=Report)
        assert parsed.choices[0].message.parsed == Report(**ANSWER), parsed
        sent = [body for body in self.upstream.asked if text in json.dumps(body)][0]["response_format"]
        assert sent["json_schema"]["schema"]["properties"].keys() == {"severity", "score"}, sent
        assert self.ask(text).choices[0].message.content == text, "another format is another question"

    def check_parts_and_roles(self):
        text = self.text()
        parts = [{"type": "text", "text": text}, {"type": "text", "text": "Be brief."}]
        messages = [{"role": "developer", "content": "Advise."}, {"role": "user", "content": parts, "name": "ann"}]
        assert self.ask(None, messages=messages).choices[0].message.content == f"{text} Be brief."
        sent = [body for body in self.upstream.asked if text in json.dumps(body)][0]
        assert sent["messages"] == messages, sent

    def check_parameters_are_passed_on(self):
        text = self.text()
        wanted = {"temperature": 0.5, "top_p": 0.9, "max_completion_tokens": 50, "seed": 7, "stop": ["x"], "user": "u"}
        self.ask(text, **wanted, extra_body={"vendor_field": {"z": 1, "a": 2}})
        sent = [body for body in self.upstream.asked if text in json.dumps(body)][0]
        missing = {name: value for name, value in wanted.items() if sent.get(name) != value}
        assert not missing and sent["vendor_field"] == {"z": 1, "a": 2}, (missing, sent)

    def check_models(self):
        names = [model.id for model in self.client.models.list()]
        assert "scripted" in {name.removeprefix("openai/") for name in names}, names
        assert self.client.models.retrieve(names[0]).id == names[0]

    def check_embeddings(self):
        texts = ["gas is low", "gas is high"]
        for more in ({}, {"encoding_format": "float"}, {"encoding_format": "base64"}):
            answer = self.client.embeddings.create(model=EMBEDDER, input=texts, **more)
            assert [item.index for item in answer.data] == [0, 1] and answer.model == EMBEDDER, answer
        plain = self.client.embeddings.create(model=EMBEDDER, input=texts[0], encoding_format="float").data[0].embedding
        assert len(plain) == 512 and plain == self.client.embeddings.create(model=EMBEDDER, input=texts[0]).data[0].embedding

    def check_errors(self):
        self.fails(openai.BadRequestError, 400, param="temperature", temperature=9)
        self.fails(openai.BadRequestError, 400, param="n", n=2)
        self.fails(openai.BadRequestError, 400, param="messages", messages=[])
        self.fails(openai.BadRequestError, 400, model="refusing")
        busy = self.fails(openai.RateLimitError, 429, model="busy")
        assert float(busy.response.headers["retry-after"]) == 7, busy.response.headers
        self.fails(openai.InternalServerError, 503, model="broken")
        self.fails(openai.InternalServerError, 502, model="garbage")
        self.fails(openai.InternalServerError, 503, model="silent")
        self.fails(openai.RateLimitError, 429, model="busy", stream=True)

    def check_a_wrong_key(self):
        self.fails(openai.AuthenticationError, 401, client=self.client.with_options(api_key="wrong"))

    def fails(self, kind, status, param=None, client=None, **more):
        """Returns the error of a call that must fail so, with an error that a client can read."""
        try:
            (Checks(client, self.upstream, self.version) if client else self).ask(self.text(), **more)
        except kind as error:
            assert error.status_code == status, error
            assert error.message and error.body["type"], error.body
            assert param is None or error.param == param, (param, error.body)
            return error
        raise AssertionError(f"{more} did not fail")

    def check_a_cut_stream_is_an_error_and_not_stored(self):
        text = self.text()
        for _ in range(2):
            try:
                said = [chunk.choices[0].delta.content for chunk in self.ask(text, model="cut", stream=True)]
            except openai.APIError:
                continue
            raise AssertionError(f"a cut stream looks whole: {said}")
        assert self.upstream.calls(text) == 2

    def check_a_client_that_gives_up(self):
        try:
            self.client.with_options(timeout=0.2).chat.completions.create(
                model="silent", messages=[{"role": "user", "content": self.text()}])
        except openai.APITimeoutError:
            return self.check_answer()
        raise AssertionError("it did not time out")


async def concurrent(url, upstream):
    """Twenty clients at once that ask the same."""
    text = f"What is low {secrets.token_hex(6)} ?"
    async with openai.AsyncOpenAI(base_url=url, api_key=KEY, max_retries=0) as client:
        ask = lambda: client.chat.completions.create(model="slow", messages=[{"role": "user", "content": text}])
        answers = await asyncio.gather(*(ask() for _ in range(20)))
    assert {answer.choices[0].message.content for answer in answers} == {text}
    assert upstream.calls(text) == 1, upstream.calls(text)


class LiteLlm:
    """The same of LiteLLM's library, which brings its own parser of answers and streams."""

    def __init__(self, url):
        self.more = {"api_base": url, "api_key": KEY, "num_retries": 0, "max_retries": 0}

    def ask(self, text, model="scripted", **more):
        messages = [{"role": "user", "content": text}]
        return litellm.completion(model=f"openai/{model}", messages=messages, **{**self.more, **more})

    def check_answer(self):
        answer = self.ask("Is gas low?")
        assert answer.choices[0].message.content == "Is gas low?" and answer.usage.total_tokens == USAGE["total_tokens"], answer

    def check_stream(self):
        chunks = list(self.ask("Is gas high now?", stream=True))
        rebuilt = litellm.stream_chunk_builder(chunks)
        assert rebuilt.choices[0].message.content.strip() == "Is gas high now?", rebuilt
        assert rebuilt.choices[0].finish_reason == "stop", rebuilt

    def check_tools(self):
        for stream in (False, True):
            answer = self.ask(f"Which? {stream}", tools=TOOLS, stream=stream)
            answer = litellm.stream_chunk_builder(list(answer)) if stream else answer
            calls = answer.choices[0].message.tool_calls
            assert [call.function.name for call in calls] == ["gas_price", "block_time"], calls
            assert json.loads(calls[0].function.arguments) == {"chain": "Base"}, calls

    def check_schema(self):
        answer = self.ask("Report.", response_format=Report)
        assert Report.model_validate_json(answer.choices[0].message.content) == Report(**ANSWER)

    def check_embeddings(self):
        answer = litellm.embedding(model=f"openai/{EMBEDDER}", input=["gas is low"], **self.more)
        assert len(answer.data[0]["embedding"]) == 512, answer

    def check_errors(self):
        for kind, more in (
            (litellm.BadRequestError, {"model": "refusing"}),
            (litellm.RateLimitError, {"model": "busy"}),
            (litellm.ServiceUnavailableError, {"model": "broken"}),
            (litellm.AuthenticationError, {"api_key": "wrong"}),
        ):
            try:
                self.ask(f"Fail {more}", **more)
            except kind:
                continue
            raise AssertionError(f"{more} did not fail")


def checks(name, of):
    """Lists the checks of an object, as (name, check)."""
    return [(f"{name}: {word[6:].replace('_', ' ')}", getattr(of, word)) for word in dir(of) if word.startswith("check_")]


def main(athena):
    upstream, folder = Upstream(), tempfile.mkdtemp()
    authority, certificate = trustme.CA(), f"{folder}/cert.pem"
    issued = authority.issue_cert("127.0.0.1", "localhost")
    authority.cert_pem.write_to_path(f"{folder}/ca.pem")
    issued.private_key_pem.write_to_path(f"{folder}/key.pem")
    for pem in issued.cert_chain_pems:
        pem.write_to_path(certificate, append=True)
    plain = Gateway(athena, upstream.url)
    secure = Gateway(athena, upstream.url, f"tls_cert={certificate}", f"tls_key={folder}/key.pem")
    # LiteLLM makes its own connections, and believes whom the environment names.
    os.environ["SSL_CERT_FILE"] = f"{folder}/ca.pem"
    trust = ssl.create_default_context(cafile=f"{folder}/ca.pem")
    listed = []
    for name, gateway, version, options in (
        ("openai, HTTP/1.1", plain, "HTTP/1.1", {}),
        ("openai, HTTP/2 prior knowledge", plain, "HTTP/2", {"http1": False, "http2": True}),
        ("openai, TLS with HTTP/2", secure, "HTTP/2", {"http2": True, "verify": trust}),
        ("openai, TLS with HTTP/1.1", secure, "HTTP/1.1", {"verify": trust}),
    ):
        http = openai.DefaultHttpxClient(**options)
        client = openai.OpenAI(base_url=gateway.url, api_key=KEY, max_retries=0, http_client=http)
        listed += checks(name, Checks(client, upstream, version))
    once = lambda: asyncio.run(concurrent(plain.url, upstream))
    listed.append(("openai, asynchronous: one call upstream for twenty", once))
    listed += checks("litellm, HTTP/1.1", LiteLlm(plain.url))
    listed += checks("litellm, TLS", LiteLlm(secure.url))
    code = report(listed)
    for gateway in (plain, secure):
        gateway.process.terminate()
        gateway.process.wait()
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
