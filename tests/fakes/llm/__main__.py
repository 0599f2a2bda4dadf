"""Runs the stand-in: python -m tests.fakes.llm --port 8000 [--host 127.0.0.1]."""

import argparse

import uvicorn

from tests.fakes.llm.server import create_app

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A stand-in for a language model.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    chosen = parser.parse_args()
    uvicorn.run(create_app(), host=chosen.host, port=chosen.port, log_level="warning")
