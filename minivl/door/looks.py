"""What bytes are, by their first ones: a word for whoever finds them where something else should be.

Nothing is decided by this; it is asked once reading has failed. The words say what to do too.
"""

from __future__ import annotations

import re
from pathlib import Path

AHEAD = 512  # bytes that are looked at

# what a file begins with -> what it is, and what to do
BEGINNINGS = (
    (rb"version https://git-lfs", "a Git LFS pointer, not the file itself: run `git lfs pull`"),
    (rb"%PDF-", "a PDF document: make a picture of its page first (pdftoppm -png)"),
    (
        rb"(?i)(\xef\xbb\xbf)?\s*(<!--.*?-->\s*)?<(!doctype html|html|head|body)\b",
        "a web page (HTML), as a failed download leaves it: download the file itself",
    ),
    (
        rb"(?i)(\xef\xbb\xbf)?\s*(<\?xml.*?>\s*)?(<!--.*?-->\s*)?(<!doctype svg.*?>\s*)?<svg\b",
        "SVG, a drawing and no pixels: make a PNG of it first",
    ),
    (rb"(?i)(\xef\xbb\xbf)?\s*<\?xml", "XML, as a failed download leaves it: download the file itself"),
    (rb"....ftyp(hei[cxms]|hev[cxm])", "HEIC, a telephone's picture: convert it to JPEG or PNG first"),
    (
        rb"....ftyp(mif1|msf1|heif)",
        "HEIF (as HEIC is), a telephone's picture: convert it to JPEG or PNG first",
    ),
    (rb"....ftypavi[fs]", "AVIF: convert it to PNG first"),
    (rb"....ftyp(crx )", "a camera's raw file: convert it to PNG first"),
    (
        rb"....ftyp|\x1a\x45\xdf\xa3|RIFF....AVI |\x00\x00\x01[\xb3\xba]|FLV\x01",
        "a video: give it as one (an item of type video; minivl ask takes it as it is)",
    ),
    (rb"RIFF....WAVE|ID3|OggS|fLaC", "sound, no picture"),
    (rb"\xff\x0a|\x00\x00\x00\x0cJXL ", "JPEG XL: convert it to PNG first"),
    (rb"II\x2a\x00....CR|FUJIFILM|IIRO|IIU\x00", "a camera's raw file: convert it to PNG first"),
    (rb"8BPS", "a Photoshop document: convert it to PNG first"),
    (rb"\x93NUMPY", "a NumPy array: open it with np.load and give the array"),
    (rb"\x89HDF", "an HDF5 file"),
    (rb"GGUF", "a GGUF file, of llama.cpp: give it a name that ends in .gguf"),
    (rb"ggjt|ggml|lmgg", "a file of an early llama.cpp: take the model as GGUF or in safetensors"),
    (
        rb"PK\x03\x04.{26}[^/]*/(data\.pkl|version|byteorder)|\x80[\x02-\x05]",
        "a pickle, which can run any code when it is read: save it again as safetensors",
    ),
    (
        rb"PK\x03\x04|PK\x05\x06",
        "a ZIP archive (documents of Word and PowerPoint are ones too): unpack it first",
    ),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|Rar!|\x28\xb5\x2f\xfd", "a packed file: unpack it first"),
    (rb"(?i)\s*data:(image|video)/", "a data URL as text: give the text itself instead of the file"),
    (
        rb"\s*(/9j/|iVBORw0KGgo|R0lGOD|UklGR|Qk0)[A-Za-z0-9+/\s]*",
        "base64 text: decode it first, or give it as data:image/...;base64,",
    ),
    (
        rb"\s*[{\[][\s\"{\[]",
        "JSON text, perhaps a server's message of an error: download the file itself",
    ),
)
KINDS = [(re.compile(pattern, re.DOTALL), words) for pattern, words in BEGINNINGS]


def kind_of(data: bytes) -> str | None:
    """What these bytes are, and what to do; None when nothing is recognised."""
    if not data:
        return "empty (0 bytes): fetch or save it again"
    if not data[:AHEAD].strip(b"\0"):
        return "nothing but zeros, as an interrupted download leaves it: fetch it again"
    return next((words for pattern, words in KINDS if pattern.match(data[:AHEAD])), None)


def kind_of_file(path: Path) -> str | None:
    """The same of a file; None when it cannot be read either."""
    try:
        with path.open("rb") as file:
            return kind_of(file.read(AHEAD))
    except OSError:
        return None


def shortened(text: str, limit: int = 80) -> str:
    """Text from elsewhere as a message may hold it: a payload never stands in one."""
    return text if len(text) <= limit else f"{text[: limit // 2]}... ({len(text):,} characters)"
