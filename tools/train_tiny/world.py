"""The world of the embedded model: pictures and short videos of coloured shapes and of writing, drawn from a seed.

    clip = picture_of_shapes(np.random.default_rng(7))      # frames as pixels, and what is in them

A `Clip` holds pixels of its native size and the whole truth about them: every thing with its box, which thing owns each
pixel, which character stands there. Questions are made from that truth (`tasks.py`), and so are the dense targets of
visual pre-training (`targets.py`). `fitted` is the clip as the model gets it, resized by the model's own rule.

Not here: forms, screens, tables and charts (`documents.py`). Read next: `tasks.py`.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

Rng = np.random.Generator
Box = tuple[int, int, int, int]                           # x0 y0 x1 y1 in pixels, ends not included

COLOURS = {"red": (222, 40, 40), "green": (40, 165, 60), "blue": (45, 75, 225), "yellow": (242, 218, 45),
           "purple": (140, 55, 185), "orange": (247, 135, 25), "cyan": (45, 205, 222), "pink": (247, 135, 190)}
JITTER, TILT, FINE = 18, 0.25, 3                          # grey levels, radians, how many times finer masks are drawn
FACTOR = 28                                               # pixels of a cell: both sides become multiples of it
MIN_PIXELS, MAX_PIXELS = 4 * FACTOR**2, 64 * FACTOR**2    # as the preprocessor_config.json of the export says
FPS = (1.0, 2.0, 4.0)                                     # frame rates seen in training
FPS_MORE = (1.2, 1.3, 1.7, 1.8, 2.2, 2.5, 2.7, 3.3, 3.5, 4.5, 5.0)   # and, beside these, in `focus.rates_sample`
FPS_UNSEEN = (1.5, 3.0)                                   # kept for the evaluation alone
CHARACTERS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
ARM = 0.34


def _ring(radii: list[float], count: int) -> np.ndarray:
    """`count` corners around the origin, the first on top, at the given radii in turn: count 2."""
    angle = np.arange(count) * 2 * np.pi / count
    radius = np.resize(radii, count)
    return np.stack([radius * np.sin(angle), -radius * np.cos(angle)], axis=1)


OUTLINES = {                                              # corners (x, y) for a radius of one, y downwards
    "circle": _ring([1.0], 60),
    "square": 0.9 * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]),
    "triangle": np.array([(0, -1), (0.95, 0.75), (-0.95, 0.75)]),
    "star": _ring([1.08, 0.45], 10),
    "cross": np.array([(-ARM, -1), (ARM, -1), (ARM, -ARM), (1, -ARM), (1, ARM), (ARM, ARM),
                       (ARM, 1), (-ARM, 1), (-ARM, ARM), (-1, ARM), (-1, -ARM), (-ARM, -ARM)]),
    "ring": _ring([1.0], 60),                             # a circle with a hole of HOLE times its radius
}
HOLE = 0.55
SHAPES, COLOUR_NAMES = list(OUTLINES), list(COLOURS)


@dataclass(frozen=True)
class Thing:
    """One thing in a clip. kind: a shape, "text" or a control of a screen; `label` is what it is called.

    size: the diameter drawn, in pixels; spans: the frames [first, last) in which it is there, None for all.
    """
    kind: str
    label: str
    box: Box
    colour: str = ""
    size: float = 0.0
    spans: tuple[int, int] | None = None

    @property
    def centre(self) -> tuple[float, float]:
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2

    @property
    def area(self) -> int:
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])


def left_to_right(things: tuple[Thing, ...]) -> list[Thing]:
    """The order in which things are named: by their middle, from the left, then from the top."""
    return sorted(things, key=lambda t: t.centre)


@dataclass(frozen=True)
class Clip:
    """A picture (one frame, fps None) or a video, with the truth about every pixel.

    frames: (t, h, w, 3) uint8; owner: (t, h, w) int8, index into `things`, -1 for the background;
    glyphs: (3, h, w) uint8, inside the cell of a character 1 + its index in CHARACTERS (0: another one), 1 + its place
    in its line, and 1 + the index of the thing that this line is or is on, else 0; None where nothing is written;
    before: the picture that this one is compared with.
    """
    frames: np.ndarray
    things: tuple[Thing, ...]
    owner: np.ndarray
    glyphs: np.ndarray | None = None
    fps: float | None = None
    before: Clip | None = None

    @property
    def size(self) -> tuple[int, int]:
        return self.frames.shape[1], self.frames.shape[2]


# ------------------------------------------------------------------------------------------------- sizes

def target(size: tuple[int, int]) -> tuple[int, int]:
    """The size that the model resizes (h, w) to: the rule of `picture.target_size`, as plain integers for speed."""
    h, w = (max(FACTOR, round(n / FACTOR) * FACTOR) for n in size)
    if h * w > MAX_PIXELS:
        scale = math.sqrt(size[0] * size[1] / MAX_PIXELS)
        h, w = (max(FACTOR, math.floor(n / scale / FACTOR) * FACTOR) for n in size)
    elif h * w < MIN_PIXELS:
        scale = math.sqrt(MIN_PIXELS / (size[0] * size[1]))
        h, w = (math.ceil(n * scale / FACTOR) * FACTOR for n in size)
    return h, w


def native_size(rng: Rng, least: int = 2, most: int = 8, cells: int = 30) -> tuple[int, int]:
    """Height and width of a picture: half of them whole cells, the rest ragged; one in six may pass `cells`."""
    while True:
        h, w = (int(n) for n in rng.integers(least, most + 1, 2))
        if h * w <= cells or (h * w <= 64 and rng.random() < 0.17):
            break
    if rng.random() < 0.5:
        return h * FACTOR, w * FACTOR
    kind = rng.random()
    if kind < 0.9:
        jitter = rng.integers(-13, 14, 2)
        return max(30, h * FACTOR + int(jitter[0])), max(30, w * FACTOR + int(jitter[1]))
    if kind < 0.95:                                       # smaller than the model takes: enlarged
        return int(rng.integers(34, 60)), int(rng.integers(34, 60))
    scale = rng.uniform(1.1, 1.6)                         # larger than it takes: reduced
    return int(8 * FACTOR * scale), int(rng.integers(5, 9) * FACTOR * scale)


def fitted(clip: Clip) -> Clip:
    """The clip at the model's own size: pixels by bicubic resampling, truth by the nearest pixel, boxes scaled."""
    h, w = target(clip.size)
    if (h, w) == clip.size:
        return clip
    sy, sx = h / clip.size[0], w / clip.size[1]
    frames = np.stack([np.asarray(Image.fromarray(f).resize((w, h), Image.Resampling.BICUBIC)) for f in clip.frames])
    rows = np.minimum((np.arange(h) + 0.5) / sy, clip.size[0] - 1).astype(int)
    columns = np.minimum((np.arange(w) + 0.5) / sx, clip.size[1] - 1).astype(int)
    things = tuple(replace(t, box=scaled(t.box, sx, sy), size=t.size * math.sqrt(sx * sy)) for t in clip.things)
    glyphs = None if clip.glyphs is None else clip.glyphs[:, rows][:, :, columns]
    return Clip(frames, things, clip.owner[:, rows][:, :, columns], glyphs, clip.fps,
                None if clip.before is None else fitted(clip.before))


def scaled(box: Box, sx: float, sy: float) -> Box:
    return round(box[0] * sx), round(box[1] * sy), round(box[2] * sx), round(box[3] * sy)


# ------------------------------------------------------------------------------------------------- grounds

def ground(rng: Rng, size: tuple[int, int]) -> np.ndarray:
    """A background (h, w, 3), float32: near-grey, so that the colours of things stand out from it."""
    h, w = size
    first, second = _tint(rng), _tint(rng)
    kind = rng.random()
    if kind < 0.3:
        mix = np.zeros((h, w), np.float32)
    elif kind < 0.5:
        mix = _gradient(rng, h, w)
    elif kind < 0.65:
        mix = _stripes(rng, h, w)
        second = first + (second - first) * 0.35
    elif kind < 0.8:
        mix = _blobs(rng, h, w)
    else:
        mix = rng.standard_normal((h, w), dtype=np.float32) * np.float32(rng.uniform(0.05, 0.25))
        second = first + 80
    image = first + mix[:, :, None] * (second - first)
    if rng.random() < 0.2:
        image = image + rng.standard_normal((h, w, 1), dtype=np.float32) * np.float32(rng.uniform(2, 10))
    return np.clip(image, 0, 255).astype(np.float32)


def _tint(rng: Rng) -> np.ndarray:
    return (rng.uniform(10, 245) + rng.uniform(-24, 24, 3)).astype(np.float32)


def _gradient(rng: Rng, h: int, w: int) -> np.ndarray:
    turn = rng.uniform(0, 2 * math.pi)
    x, y = np.arange(w)[None] / w - 0.5, np.arange(h)[:, None] / h - 0.5
    along = x * math.cos(turn) + y * math.sin(turn)
    return (along / (abs(math.cos(turn)) + abs(math.sin(turn))) + 0.5).astype(np.float32)


def _stripes(rng: Rng, h: int, w: int) -> np.ndarray:
    """Stripes or a checker of random pitch and direction, 0 or 1."""
    turn, pitch = rng.uniform(0, math.pi), rng.uniform(6, 24)
    x, y = np.arange(w)[None], np.arange(h)[:, None]
    a = np.floor((x * math.cos(turn) + y * math.sin(turn)) / pitch)
    b = np.floor((y * math.cos(turn) - x * math.sin(turn)) / pitch) if rng.random() < 0.4 else 0
    return ((a + b) % 2).astype(np.float32)


def _blobs(rng: Rng, h: int, w: int) -> np.ndarray:
    """Soft spots, as of a scene out of focus."""
    coarse = rng.random((max(2, h // 24), max(2, w // 24))) * 255
    return np.asarray(Image.fromarray(coarse.astype(np.uint8)).resize((w, h), Image.Resampling.BICUBIC),
                      np.float32) / 255


# ------------------------------------------------------------------------------------------------- shapes

def mask_of(shape: str, size: float, tilt: float) -> np.ndarray:
    """How much of each pixel a shape covers, cropped to where that is at least half: (h, w) uint8, 0..255."""
    side = math.ceil(size * 1.6)
    turn = np.array([[math.cos(tilt), -math.sin(tilt)], [math.sin(tilt), math.cos(tilt)]])
    corners = (size / 2 * OUTLINES[shape] @ turn.T + side / 2) * FINE
    image = Image.new("L", (side * FINE, side * FINE))
    draw = ImageDraw.Draw(image)
    draw.polygon([tuple(c) for c in corners], fill=255)
    if shape == "ring":
        inner = (corners - side / 2 * FINE) * HOLE + side / 2 * FINE
        draw.polygon([tuple(c) for c in inner], fill=0)
    mask = np.asarray(image.reduce(FINE))
    x0, y0, x1, y1 = box_of(mask)
    return mask[y0:y1, x0:x1]


def box_of(mask: np.ndarray) -> Box:
    """The tight box of what is covered by more than half. Raises ValueError when nothing is."""
    rows, columns = np.flatnonzero(mask.max(axis=1) > 127), np.flatnonzero(mask.max(axis=0) > 127)
    if not len(rows) or not len(columns):
        raise ValueError("the mask is empty: nothing was drawn")
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def shape_at(rng: Rng, shape: str, size: float, picture: tuple[int, int]) -> tuple[np.ndarray, Box] | None:
    """A mask and a random place for it inside the picture; None when it does not fit."""
    mask = mask_of(shape, size, rng.uniform(-TILT, TILT))
    h, w = mask.shape
    if h > picture[0] - 2 or w > picture[1] - 2:
        return None
    x, y = int(rng.integers(1, picture[1] - w)), int(rng.integers(1, picture[0] - h))
    return mask, (x, y, x + w, y + h)


def overlap(a: Box, b: Box, gap: int = 0) -> int:
    """Pixels that two boxes share when each is widened by half a gap."""
    w = min(a[2], b[2]) - max(a[0], b[0]) + gap
    h = min(a[3], b[3]) - max(a[1], b[1]) + gap
    return max(0, w) * max(0, h)


Drawn = tuple[Thing, np.ndarray]                          # a thing and its mask, of the size of its box


def scatter(rng: Rng, size: tuple[int, int], count: int, touching: float = 0.3, least: float = 15,
            most: float = 84, names: list[tuple[str, str]] | None = None) -> list[Drawn]:
    """Up to `count` shapes in a picture of this size. Mostly apart; with chance `touching` they may cover up to a
    quarter of each other, or stand one inside the other. names: (colour, shape) of each."""
    loose, drawn = rng.random() < touching, list[Drawn]()
    distinct = rng.random() < 0.75
    limit = min(most, min(size) * {1: 0.8, 2: 0.62, 3: 0.52}.get(count, 0.44))
    for _ in range(14 * count):
        if len(drawn) == count:
            break
        colour, shape = names[len(drawn)] if names else (str(rng.choice(COLOUR_NAMES)), str(rng.choice(SHAPES)))
        label = f"{colour} {shape}"
        if distinct and not names and any(old.label == label for old, _ in drawn):
            continue
        diameter = rng.uniform(least, max(least + 1, limit))
        if loose and drawn and rng.random() < 0.35:
            placed = _inside(rng, drawn[-1][0], colour, shape)
        else:
            placed = shape_at(rng, shape, diameter, size)
        if placed is not None and _has_room(placed[1], drawn, loose):
            drawn.append((Thing(shape, label, placed[1], colour, max(placed[0].shape)), placed[0]))
    return drawn


def _inside(rng: Rng, outer: Thing, colour: str, shape: str) -> tuple[np.ndarray, Box] | None:
    """A small shape well inside a large square or circle of another colour."""
    x0, y0, x1, y1 = outer.box
    room = min(x1 - x0, y1 - y0) * 0.55
    if outer.kind not in ("square", "circle", "ring") or room < 15 or colour == outer.colour:
        return None
    mask = mask_of(shape, rng.uniform(15, room) if outer.kind != "ring" else 0.8 * room, rng.uniform(-TILT, TILT))
    h, w = mask.shape
    if max(h, w) > room or min(h, w) < 9:
        return None
    cx, cy = (x0 + x1) / 2 + rng.uniform(-2, 2), (y0 + y1) / 2 + rng.uniform(-2, 2)
    x, y = round(cx - w / 2), round(cy - h / 2)
    return mask, (x, y, x + w, y + h)


def within(inner: Box, outer: Box) -> bool:
    return inner[0] >= outer[0] and inner[1] >= outer[1] and inner[2] <= outer[2] and inner[3] <= outer[3]


def _has_room(box: Box, drawn: list[Drawn], loose: bool) -> bool:
    for old, _ in drawn:
        if not loose:
            if overlap(box, old.box, gap=3):
                return False
        elif not within(box, old.box):
            area = min(old.area, (box[2] - box[0]) * (box[3] - box[1]))
            if overlap(box, old.box) > 0.25 * area:
                return False
        elif any(overlap(box, other.box) for other, _ in drawn if other is not old):
            return False
    return True


def paint(image: np.ndarray, owner: np.ndarray, index: int, box: Box, mask: np.ndarray, rgb: np.ndarray) -> None:
    """Lay a mask in one colour on the picture, in place, and note whose pixels these are."""
    x0, y0, x1, y1 = box
    part = mask[:, :, None].astype(np.float32) / 255
    image[y0:y1, x0:x1] += (rgb.astype(np.float32) - image[y0:y1, x0:x1]) * part
    owner[y0:y1, x0:x1][mask > 100] = index


def tone(rng: Rng, colour: str) -> np.ndarray:
    return np.clip(np.array(COLOURS[colour]) + rng.uniform(-JITTER, JITTER, 3), 0, 255)


def to_bytes(image: np.ndarray) -> np.ndarray:
    return np.clip(image + 0.5, 0, 255).astype(np.uint8)


def picture_of_shapes(rng: Rng, most: int = 6, easy: bool = False, size: tuple[int, int] | None = None,
                      names: list[tuple[str, str]] | None = None,
                      change: tuple[int, tuple[str, str] | None] | None = None) -> Clip:
    """1 to `most` shapes on a ground. easy: small pictures with one or two shapes, for the start of training.

    names: (colour, shape) of each thing instead of random ones. change: the same seed gives the same picture but for
    one thing, by its index, that has another (colour, shape) or, with None, is not there.
    """
    size = size or native_size(rng, 2, 4 if easy else 8)
    cells = size[0] * size[1] / FACTOR**2
    limit = 2 if easy else min(most, 2 if cells < 6 else 3 if cells < 9 else 4 if cells < 12 else 6)
    drawn: list[Drawn] = []
    while not drawn:
        wanted = int(rng.integers(1, limit + 1)) if rng.random() < 0.85 else 1
        drawn = scatter(rng, size, wanted) if names is None else scatter(rng, size, len(names), 0, names=names)
    image, owner = ground(rng, size), np.full(size, -1, np.int8)
    tones = [rng.uniform(-JITTER, JITTER, 3) for _ in drawn]
    if change is not None:
        index, new = change
        drawn[index:index + 1] = [] if new is None else [_changed(drawn[index], *new)]
        tones[index:index + 1] = [] if new is None else [tones[index]]
    for index, ((thing, mask), shift) in enumerate(zip(drawn, tones, strict=True)):
        paint(image, owner, index, thing.box, mask, np.clip(np.array(COLOURS[thing.colour]) + shift, 0, 255))
    if names is None and rng.random() < 0.08:             # with and without `change` alike
        image = _blurred(rng, image)
    return Clip(to_bytes(image)[None], tuple(thing for thing, _ in drawn), owner[None])


def _changed(old: Drawn, colour: str, shape: str) -> Drawn:
    """The same thing in another colour, or another shape in its place and of its size."""
    thing, mask = old
    if shape != thing.kind:
        mask = mask_of(shape, 0.9 * min(mask.shape), 0.0)
    x, y = thing.box[:2]
    box = (x, y, x + mask.shape[1], y + mask.shape[0])
    return Thing(shape, f"{colour} {shape}", box, colour, max(mask.shape)), mask


def _blurred(rng: Rng, image: np.ndarray) -> np.ndarray:
    soft = Image.fromarray(to_bytes(image)).filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 1.2)))
    return np.asarray(soft, np.float32)


# ------------------------------------------------------------------------------------------------- writing

FACES = ("", "DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSans-Oblique.ttf", "DejaVuSerif.ttf",
         "DejaVuSerif-Bold.ttf", "DejaVuSansMono.ttf", "STIXGeneral.ttf", "STIXGeneralBol.ttf", "cmr10.ttf",
         "cmss10.ttf", "cmtt10.ttf")                       # "" is Pillow's own; the rest come with matplotlib


@functools.lru_cache(maxsize=1024)
def font(face: str, size: int) -> ImageFont.FreeTypeFont:
    """A face at a size in pixels, the same on every system: no font of the machine is used."""
    if not face:
        return ImageFont.load_default(size)               # type: ignore[return-value]
    import matplotlib
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / face, size)


def any_font(rng: Rng, least: int, most: int) -> ImageFont.FreeTypeFont:
    return font(FACES[rng.integers(len(FACES))], int(rng.integers(least, most + 1)))


def write(image: np.ndarray, owner: np.ndarray, glyphs: np.ndarray, index: int, text: str,
          face: ImageFont.FreeTypeFont, corner: tuple[int, int], rgb: np.ndarray) -> Box:
    """Write text whose ink starts at corner (x, y), in place; the box of the ink."""
    left, top, right, bottom = (math.floor(v) for v in face.getbbox(text))
    x = corner[0] - left
    ink = Image.new("L", (right - left + 4, bottom - top + 4))
    ImageDraw.Draw(ink).text((-left, -top), text, font=face, fill=255)
    mask = np.asarray(ink)[: image.shape[0] - corner[1], : image.shape[1] - corner[0]]
    box = (corner[0], corner[1], corner[0] + mask.shape[1], corner[1] + mask.shape[0])
    paint(image, owner, index, box, mask, rgb)
    tight = box_of(mask)
    tight = (tight[0] + corner[0], tight[1] + corner[1], tight[2] + corner[0], tight[3] + corner[1])
    for i, character in enumerate(text):
        start, stop = (round(x + face.getlength(text[:n])) for n in (i, i + 1))
        glyphs[0, tight[1]:tight[3], max(0, start):stop] = CHARACTERS.find(character) + 1
        glyphs[1, tight[1]:tight[3], max(0, start):stop] = i + 1
        glyphs[2, tight[1]:tight[3], max(0, start):stop] = index + 1
    return tight


def ink(rng: Rng, under: np.ndarray) -> np.ndarray:
    """A colour that stands out from the pixels under it."""
    while True:
        rgb = rng.uniform(0, 255, 3)
        if abs(rgb.mean() - under.mean()) > 75:
            return rgb


def number(rng: Rng, digits: int) -> str:
    return str(rng.integers(0 if digits == 1 else 10 ** (digits - 1), 10**digits))


CONSONANTS, VOWELS = "bcdfghjklmnprstvwz", "aeiou"


def word(rng: Rng, least: int = 2, most: int = 6) -> str:
    """A made-up word that can be said: no list of words could be learned instead of reading."""
    letters = "".join(str(rng.choice(list(VOWELS if (i + offset) % 2 else CONSONANTS)))
                      for offset in [rng.integers(2)] for i in range(int(rng.integers(least, most + 1))))
    style = rng.random()
    return letters if style < 0.5 else letters.capitalize() if style < 0.8 else letters.upper()


def picture_of_text(rng: Rng, text: str, easy: bool = False) -> Clip:
    """One line of writing somewhere on a ground, 13 to 52 pixels high."""
    size = native_size(rng, 2, 4) if easy else native_size(rng, 2, 7, 24)
    pixels = int(rng.integers(22 if easy else 13, 53))
    face_name = FACES[rng.integers(len(FACES))]
    while True:
        face = font(face_name, pixels)
        left, top, right, bottom = face.getbbox(text)
        if right - left < size[1] - 6 and bottom - top < size[0] - 6:
            break
        pixels = int(pixels * 0.85)
        if pixels < 12:                                   # too long for so small a picture
            size, pixels = (size[0], size[1] + 2 * FACTOR), 20
    x = int(rng.integers(2, size[1] - (right - left) - 3))
    y = int(rng.integers(2, size[0] - (bottom - top) - 3))
    image, owner, glyphs = ground(rng, size), np.full(size, -1, np.int8), np.zeros((3, *size), np.uint8)
    under = image[y:y + int(bottom - top), x:x + int(right - left)]
    box = write(image, owner, glyphs, 0, text, face, (x, y), ink(rng, under))
    return Clip(to_bytes(image)[None], (Thing("text", text, box),), owner[None], glyphs)


def any_text(rng: Rng) -> str:
    """A number, a word, characters of any kind, or a date or an amount as forms have them."""
    kind = rng.random()
    if kind < 0.3:
        return number(rng, int(rng.integers(1, 6)))
    if kind < 0.65:
        return word(rng)
    if kind < 0.85:
        return "".join(rng.choice(list(CHARACTERS), int(rng.integers(1, 5))))
    return date(rng) if kind < 0.92 else amount(rng)


def date(rng: Rng) -> str:
    return f"20{rng.integers(10, 30)}-{rng.integers(1, 13):02d}-{rng.integers(1, 29):02d}"


def amount(rng: Rng) -> str:
    return f"{rng.integers(1, 10 ** int(rng.integers(1, 4)))}.{rng.integers(0, 100):02d}"


def picture_of_lines(rng: Rng, most: int = 40) -> Clip:
    """A picture full of writing: line under line, each in its own face, size and ink; up to `most` texts."""
    size = native_size(rng, 3, 7, 24)
    image, owner, glyphs = ground(rng, size), np.full(size, -1, np.int8), np.zeros((3, *size), np.uint8)
    things: list[Thing] = []
    y = int(rng.integers(1, 10))
    while len(things) < most:
        face, x = any_font(rng, 12, 34 if rng.random() < 0.25 else 19), int(rng.integers(1, 16))
        height, rgb = int(face.getbbox("Ag")[3] - face.getbbox("Ag")[1]) + 2, None
        if y + height >= size[0]:
            break
        while len(things) < most:
            text = any_text(rng)
            left, _, right, _ = face.getbbox(text)
            if x + right - left + 3 >= size[1]:
                break
            if rgb is None:
                rgb = ink(rng, image[y:y + height])
            box = write(image, owner, glyphs, len(things), text, face, (x, y), rgb)
            things.append(Thing("text", text, box))
            x = box[2] + int(rng.integers(5, 24))
        y += height + int(rng.integers(1, 9))
    return Clip(to_bytes(image)[None], tuple(things), owner[None], glyphs) if things else picture_of_lines(rng, most)


# ------------------------------------------------------------------------------------------------- videos

def video_of_shapes(rng: Rng, easy: bool = False, fps: float | None = None) -> Clip:
    """4 to 10 frames in which the first shape appears or leaves once; others stay, appear or leave."""
    size = native_size(rng, 2, 3 if easy else 5, 12)
    frames = int(rng.integers(4, 11))
    fps = fps or float(rng.choice(FPS))
    drawn: list[Drawn] = []
    while not drawn:
        drawn = scatter(rng, size, int(rng.integers(1, 4)) if not easy else 1, touching=0, most=56)
    things = [(replace(t, spans=_span(rng, frames, i == 0)), m, tone(rng, t.colour)) for i, (t, m) in enumerate(drawn)]
    back = ground(rng, size)
    images, owners = [], np.full((frames, *size), -1, np.int8)
    for t in range(frames):
        image = back.copy()
        for index, (thing, mask, rgb) in enumerate(things):
            if thing.spans is None or thing.spans[0] <= t < thing.spans[1]:
                paint(image, owners[t], index, thing.box, mask, rgb)
        images.append(to_bytes(image))
    return Clip(np.stack(images), tuple(t for t, _, _ in things), owners, fps=fps)


def _span(rng: Rng, frames: int, event: bool) -> tuple[int, int] | None:
    """Frames in which a thing is there: from a moment on, or up to a moment; None for the whole video."""
    kind = rng.integers(2) if event else rng.integers(3)
    moment = int(rng.integers(1, frames))
    return ((moment, frames), (0, moment), None)[kind]
