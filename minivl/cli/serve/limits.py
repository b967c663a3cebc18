"""How much of everything one request, and all of them together, may have. Read next: `app.py`."""

from __future__ import annotations

from dataclasses import dataclass

MOST_VALUES = 200_000  # commas, colons and brackets of a body: what its JSON may grow to in memory
MOST_STOPS, LONGEST_STOP = 8, 256                # stop strings of a request, and characters of each
MOST_TOP = 20  # log-probabilities shown beside that of the chosen token
CHARACTERS_A_TOKEN = 64          # a text with more of them for each token allowed is not even encoded
CONNECTIONS = 64                 # sockets that are open at a time; a further one is closed at once
HEADING = 10.0  # seconds that a request's headers, and the next request, may take to come
PARSED = 3  # bodies that are parsed at a time: while that lasts, one takes several times its size
DRAINED = 64 << 20  # bytes of a refused body that are read and thrown away, so that the reply arrives
DRAINING = 10.0                  # seconds that this may take
FRAMES = 200_000                 # of a video file: each is counted before the shown ones are chosen


@dataclass(frozen=True)
class ServerLimits:
    """Of one request, but for the last four, which are of all of them."""
    body: int = 33_554_432               # bytes
    pictures: int = 64                   # frames of a list counted too
    frames: int = 256                    # shown of all its video files
    pixels: int = 33_554_432  # of all pictures together, as they came and as the model sees them
    prompt_tokens: int = 8_192           # pictures included
    new_tokens: int = 1_024
    seconds: float = 300.0               # from the whole request to the whole reply
    reading: float = 30.0                # seconds for the body to arrive
    waiting: int = 8
    together: int = 4                    # are answered at a time
    rows: int = 32_768                   # tokens of those that are answered: memory for their KV cache
    kept: int = 1 << 30                  # bytes of rows of earlier requests
