"""Streams and answers of exchanges as they were recorded."""

import gzip
import json
from pathlib import Path

REAL = Path(__file__).resolve().parents[2] / ".." / "shared" / "real"


def captured_lines(name):
    with gzip.open(REAL / "captures" / name, "rt") as file:
        return file.read().splitlines()


def captured_frames(name, channel):
    """The payloads of a capture's frames of a channel."""
    texts = (line.split(": ", 1)[1] for line in captured_lines(name) if line[:1].isdigit())
    return [frame for frame in map(json.loads, texts) if channel in json.dumps(frame)]
