"""What is no picture is told for what it is, from a file and from bytes; no message carries a payload."""

from __future__ import annotations

import base64
import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from minivl.door.looks import kind_of, shortened
from minivl.passes.picture import PictureError
from minivl.run.open_picture import load_picture


def archive() -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        file.writestr("word/document.xml", "x")
    return data.getvalue()


def array() -> bytes:
    data = io.BytesIO()
    np.save(data, np.zeros(3))
    return data.getvalue()


def picture(size: int) -> bytes:
    data = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)).save(
        data, "PNG"
    )
    return data.getvalue()


def ftyp(brand: bytes) -> bytes:
    return b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0" + brand + bytes(200)


KINDS = {
    "HEIC": ftyp(b"heic"),
    "HEI[CF]": ftyp(b"mif1"),
    "video": ftyp(b"isom"),
    "a video: give it as one": ftyp(b"qt  "),
    "PDF": b"%PDF-1.7\n%\xe2\xe3",
    "LFS": b"version https://git-lfs.github.com/spec/v1\n",
    "empty": b"",
    "zeros": bytes(900),
    "web page": b"\xef\xbb\xbf \n<!DOCTYPE HTML PUBLIC>\n<html>",
    "web page .HTML": b"<html lang='en'>",
    "SVG": b"<?xml version='1.0'?>\n<svg/>",
    "XML": b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
    "JSON": json.dumps({"error": "no"}).encode(),
    "ZIP": archive(),
    "NumPy": array(),
    "JPEG XL": b"\xff\x0a\x00\x00",
    "pickle": b"\x80\x04\x95",
    "Photoshop|not a picture": b"8BPS\0\1bad",
    "base64": base64.b64encode(picture(3)),
    "data URL": b"data:image/png;base64," + base64.b64encode(picture(3)),
}


@pytest.mark.parametrize("words", KINDS)
def test_what_is_no_picture_is_told_for_what_it_is(words, tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(KINDS[words])
    for source in (path, str(path), KINDS[words]):
        with pytest.raises(PictureError, match=words):
            load_picture(source)


@pytest.mark.parametrize("size", [1, 3, 60])
def test_damaged_base64_as_a_path_is_named_and_never_repeated(size):
    text = base64.b64encode(picture(size)).decode()
    assert load_picture(text).shape == (size, size, 3)                       # whole, it is the picture
    for given in (text[8:] * 40, text[: len(text) // 2] + "!" * 300):
        with pytest.raises(PictureError) as error:
            load_picture(given)
        assert len(str(error.value)) < 400 and text[20:60] not in str(error.value)
    with pytest.raises(PictureError, match="base64"):
        load_picture(text[8:-8].replace("=", "") * 40)


@pytest.mark.parametrize(
    "source",
    [
        "https://host/a.png?token=" + "s" * 5000,
        "x\0" * 900,
        "no/such/" + "y" * 3000 + "?",
        "data:image/png;base64," + "!" * 4000,
        "data:" + "z" * 4000,
    ],
)
def test_no_message_carries_a_payload(source):
    with pytest.raises(PictureError) as error:
        load_picture(source)
    assert len(str(error.value)) < 400


def test_what_nobody_knows_has_no_name():
    assert kind_of(b"\x12\x34 what is this") is None and kind_of(picture(3)) is None
    assert shortened("a" * 80) == "a" * 80 and len(shortened("a" * 9999)) < 70
