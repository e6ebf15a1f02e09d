"""Drives the gateway in front of LiteLLM's proxy with mock responses: a real upstream that somebody else wrote.

Takes the paths of athena and of litellm.
"""

import json
import os
import secrets
import subprocess
import sys
import tempfile

import openai

from gateway import KEY, Gateway, free_port, report, until_listening

ANSWER = "Gas is low now, wait for nothing."
CALL = {"id": "call-1", "type": "function", "function": {"name": "gas_price", "arguments": '{"chain": "Base"}'}}
MODELS = {
    "plain": {"mock_response": ANSWER},
    "calling": {"mock_response": "", "mock_tool_calls": [CALL]},
    "busy": {"mock_response": "litellm.RateLimitError"},
    "broken": {"mock_response": "litellm.InternalServerError"},
    "long": {"mock_response": "litellm.ContextWindowExceededError"},
    # Longer than the gateway waits.
    "silent": {"mock_response": ANSWER, "mock_delay": 5},
}


def start(litellm):
    folder, port, key = tempfile.mkdtemp(), free_port(), f"sk-{secrets.token_hex(16)}"
    models = [
        {"model_name": name, "litellm_params": {"model": f"openai/{name}", "api_key": "none", **params}}
        for name, params in MODELS.items()
    ]
    # A model that fails is not set aside: every check asks by itself.
    settings = {"router_settings": {"disable_cooldowns": True, "num_retries": 0}, "litellm_settings": {"num_retries": 0}}
    with open(f"{folder}/config.yaml", "w") as config:
        json.dump({"model_list": models, **settings}, config)
    env = {
        **os.environ, "LITELLM_MASTER_KEY": key, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False",
    }
    command = [litellm, "--config", f"{folder}/config.yaml", "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    log = open(f"{folder}/log", "w")
    process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    until_listening(process, port)
    return process, f"http://127.0.0.1:{port}/v1", key


class Checks:
    def __init__(self, client):
        self.client = client

    def ask(self, model, **more):
        messages = [{"role": "user", "content": f"Is gas low {secrets.token_hex(6)} ?"}]
        return self.client.chat.completions.create(model=model, messages=messages, **more)

    def fails(self, model, kind, statuses):
        for stream in (False, True):
            try:
                list(self.ask(model, stream=stream))
            except kind as error:
                assert error.status_code in statuses, error
            else:
                raise AssertionError(f"{model} did not fail")

    def generate(self):
        answer = self.ask("plain")
        assert answer.choices[0].message.content == ANSWER and answer.choices[0].finish_reason == "stop", answer
        assert answer.usage.total_tokens > 0, answer

    def stream(self):
        chunks = list(self.ask("plain", stream=True, stream_options={"include_usage": True}))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == ANSWER, chunks
        assert chunks[-1].usage.total_tokens > 0, chunks[-1]

    def tool_call(self):
        choice = self.ask("calling").choices[0]
        assert json.loads(choice.message.tool_calls[0].function.arguments) == {"chain": "Base"}, choice

    def throttled(self):
        self.fails("busy", openai.RateLimitError, {429})

    def failed(self):
        self.fails("broken", openai.InternalServerError, {502, 503})

    def refused(self):
        self.fails("long", openai.BadRequestError, {400})

    def timed_out(self):
        self.fails("silent", openai.InternalServerError, {503, 504})

    def well_afterwards(self):
        self.generate()


def main(athena, litellm):
    process, url, key = start(litellm)
    gateway = Gateway(athena, url, f"llm_api_key={key}")
    checks = Checks(openai.OpenAI(base_url=gateway.url, api_key=KEY, max_retries=0))
    order = ["generate", "stream", "tool_call", "throttled", "failed", "refused", "timed_out", "well_afterwards"]
    code = report([(f"LiteLLM's proxy: {name.replace('_', ' ')}", getattr(checks, name)) for name in order])
    for running in (gateway.process, process):
        running.terminate()
        running.wait()
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
