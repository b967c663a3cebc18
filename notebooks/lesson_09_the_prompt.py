# %% [markdown]
# # Lesson 9: the prompt
#
# **The question.** The decoder reads one row of numbers for each token. Where do these rows come from: how is
# a text cut into tokens, who puts the marks around it, and how does a picture get into a row of words?
#
# **You need** from lesson 0: *token*, *id*, *vocabulary*, *chat template*, *placeholder*; from lesson 1:
# *embedding*; from lesson 8: *visual token*. Reading takes about 40 minutes, the two exercises another 35.
#
# ```
# picture.target_size   patches.patchify                       lessons 2 and 3
# prompt.render                                                <== you are here: section 5
# prompt.encode                                                <== sections 1 to 4
# prompt.expand                                                <== sections 6 and 8
# positions.mrope                                              lesson 10
# vision.merge_2x2   vision.restore_order                      lesson 8
# decoder.embed_tokens   decoder.place_features                <== section 7
# decoder.layers.0.attend   decoder.logits   sampling.most_likely
# ```

# %%
import re
import unicodedata
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw

import minivl
from minivl.text import bpe
from minivl.show import plot
from minivl.passes import decoder, prompt

np.set_printoptions(precision=3, suppress=True, linewidth=110)
vlm = minivl.load()
tokenizer, config = vlm.tokenizer, vlm.config


def disc(colour, height=84, width=112):
    image = Image.new("RGB", (width, height), (200, 200, 205))
    ImageDraw.Draw(image).ellipse([20, 18, 68, 66], fill=colour)
    return image


RED, BLUE = (222, 40, 40), (45, 75, 225)
image, question = disc(RED), "Describe the image."

# %% [markdown]
# ## 1. A text is bytes
#
# A computer keeps a text as numbers from 0 to 255, **bytes**. The usual rule, **UTF-8**, gives a letter of
# English one byte, and any other character two to four. So 256 tokens, one for each byte, are enough to write
# every text of every language. They are the first 256 of the vocabulary, here as in the official models, and
# the reason why no text is ever "unknown".

# %%
for text in ("e", "\u00e9", "\u4f60", "\U0001f642"):
    print(f"{unicodedata.name(text):45s} {list(text.encode('utf-8'))}")

two_ways = ["caf\u00e9", "cafe\u0301"]  # the accent as part of the letter, or as a character of its own
print("look the same:", *two_ways, "  bytes:", [list(text.encode()[3:]) for text in two_ways])
composed = [unicodedata.normalize("NFC", text) for text in two_ways]
print("after composing (NFC) they are the same:", composed[0] == composed[1])

# %% [markdown]
# The last lines are the first step of encoding: characters that are written in two pieces are composed, or the
# same word would have two lists of ids.
#
# ## 2. First into words
#
# A token never reaches over the border of a word. So the text is cut first, by a fixed rule: one after the
# other, at each place the first line below that matches. Notice three things. The space *before* a word
# belongs to it. Digits stand alone, so numbers are read digit by digit. Nothing is thrown away.

# %%
WORD = re.compile(r"""  '(?:[sdmt]|ll|ve|re)               # endings: 's 't 'll
                      | (?:[^\r\n\w]|_)? [^\W\d_]+         # letters, with one space or sign before them
                      | \d                                 # one digit
                      | [ ]? (?:[^\s\w]|_)+ [\r\n]*        # signs, with one space before, line ends behind
                      | \s* [\r\n]+                        # line ends, with white space before
                      | \s+ (?!\S) | \s+                   # other white space; the last belongs to a word
                      """, re.VERBOSE | re.IGNORECASE)
lines = ["Describe the image.", "It's 3.14, isn't it?", "  two  spaces", '[{"bbox_2d": [56, 112]}]']
for text in lines:
    assert WORD.findall(text) == list(bpe.words(text))  # the package's own, without a pattern
figure = plot.board(1, 1, (9, 2.4))
plot.pieces([WORD.findall(text) for text in lines], figure.axes[0])
figure.axes[0].set_title("texts cut into words", size=9)
figure

# %% [markdown]
# ## 3. Join bytes, the best pair first
#
# Now one word. Start from its bytes. The tokenizer's file has a list of *pairs* that may be joined, and the
# place of a pair in that list is its **rank**. Look at all neighbours, join the pair with the lowest rank
# (of equals the leftmost), look again, until no pair of neighbours is in the list. What is left are tokens.
# This is **BPE**, byte pair encoding (Gage, 1994; for words Sennrich et al., 2016), here on bytes and not on
# letters, and so called byte-level. By hand on two words:

# %%
file = bpe.read(vlm.folder / "tokenizer.json")
rank = bpe.ranks_of(file)  # (bytes, bytes) -> 0, 1, 2, ...
number = file.ids  # bytes of a token -> its id
print(len(rank), "pairs; the first five:", [a.decode() + "+" + b.decode() for a, b in list(rank)[:5]])


def joined(word):
    """All steps from the bytes of a word to its tokens: a list of lists of bytes."""
    parts = [bytes([byte]) for byte in word.encode("utf-8")]
    steps = [parts]
    while True:
        known = [(rank[pair], n) for n, pair in enumerate(pairwise(parts)) if pair in rank]
        if not known:
            return steps
        _, n = min(known)  # lowest rank, then leftmost
        parts = [*parts[:n], parts[n] + parts[n + 1], *parts[n + 2 :]]
        steps.append(parts)


figure = plot.board(1, 2, (12, 3.6))
for axis, word in zip(figure.axes, (" triangle", " strawberry"), strict=True):
    steps = [[part.decode("latin-1") for part in parts] for parts in joined(word)]
    plot.pieces(steps, axis, ["bytes", *(f"step {n}" for n in range(1, len(steps)))])
    axis.set_title(f"{word!r}: what is left is {len(steps[-1])} piece{'s' * (len(steps[-1]) > 1)}", size=9)
figure

# %% [markdown]
# Words that were frequent when the list was made become one token, others stay in pieces. (How the list is
# made is exercise 9.1.) So the model does not see letters: of a word that is one token it knows the spelling
# only if it has learned it. "How many r are in strawberry?" is a hard question for that reason.
#
# In the official models 256 bytes and 151,387 pairs make 151,643 tokens. How many pairs ours has is printed
# above.
#
# Is our encoder the tokenizer? Cut, join, look up:

# %%
def encode_plain(text):
    """Text without marks (section 4) -> ids."""
    text = unicodedata.normalize("NFC", text)
    return [number[part] for word in WORD.findall(text) for part in joined(word)[-1]]


tests = [*lines, *two_ways, "\u4f60\u597d, \U0001f642!", "def f(x):\n    return x**2\r\n\r\n", "A1b2 C_d\t."]
print("equal to the tokenizer:", all(encode_plain(text) == tokenizer.encode(text) for text in tests))

# %% [markdown]
# ### The way back, and half a character
#
# Decoding is simple: put the bytes of all tokens together, *then* read them as UTF-8. Not one token after
# the other: a token may hold a part of a character, and the part alone is no text. Programs that show an
# answer while it is written must wait for the rest.

# %%
ids = tokenizer.encode("ok \U0001f642")
print("all together:    ", tokenizer.decode(ids))
print("one after another:", "".join(tokenizer.decode([token]) for token in ids))
stream = minivl.text.tokenizer.Stream(tokenizer)
print("as pieces come:  ", [stream.push(token) for token in ids], "and at the end", repr(stream.flush()))

# %% [markdown]
# ## 4. Special tokens
#
# Some tokens are not made of bytes of a text. They are added at the end of the vocabulary, with ids of their
# own, and stand for *marks*: a **special token**. A text is cut at these first, before anything else.

# %%
for added in file.added:
    print(added.id, added.content + " " * (22 - len(added.content)), "special" if added.special else "")

# %%
special = {added.content: added.id for added in sorted(file.added, key=lambda a: -len(a.content))}
MARK = re.compile("(" + "|".join(map(re.escape, special)) + ")")


def encode(text):
    """Text -> ids: cut at special tokens, the rest as above."""
    ids = []
    for piece in MARK.split(text):  # text, mark, text, mark, ..., text
        ids += [special[piece]] if piece in special else encode_plain(piece)
    return ids


typed = "What is <|im_end|>?"
print(encode(typed), "equal to the tokenizer:", encode(typed) == tokenizer.encode(typed))
print("as plain text it would be", encode_plain(typed))

# %% [markdown]
# Those marked "special" are left out when an answer is shown; `<tool_call>` is one token too, but part of the
# answer.
#
# And look at the last cell again. Whoever *types* the letters of `<|im_end|>` gets the mark, here as in the
# reference. A program that puts the words of strangers into a prompt should know that.
#
# ## 5. The chat template: who speaks
#
# A conversation is a list of messages, each with a **role**: `system`, `user`, `assistant`. The template is a
# small program that comes with the checkpoint and writes one text of it. Its rules fit into a dozen lines:
#
# - each message is `<|im_start|>`, its role, a line end, its content, `<|im_end|>`, a line end;
# - if the first is no **system message** (which says how to behave), a default one is put in front;
# - a picture is `<|vision_start|><|image_pad|><|vision_end|>` at its place in the content;
# - at the end stands the *beginning* of a message by the assistant. The model goes on from there. That is all
#   that "answering" means.

# %%
def render(messages, add_generation_prompt=True):
    """The conversation as one text, with one placeholder for each picture or video."""
    text = ""
    if messages[0]["role"] != "system":
        text += "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    for message in messages:
        content = message["content"]
        text += f"<|im_start|>{message['role']}\n"
        for item in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            pad = f"<|vision_start|><|{item['type']}_pad|><|vision_end|>"
            text += item["text"] if item["type"] == "text" else pad
        text += "<|im_end|>\n"
    return text + ("<|im_start|>assistant\n" if add_generation_prompt else "")


dialogue = [{"role": "user", "content": [{"type": "image", "image": image},
                                         {"type": "text", "text": "What is in this image?"}]},
            {"role": "assistant", "content": "A red circle."},
            {"role": "user", "content": "What color is it?"}]
text = render(dialogue)
print(text)
print("equal to the pass prompt.render:", text == prompt.render(dialogue, vlm.processor.template))

# %% [markdown]
# An earlier answer stands in the prompt like any other text; the model has no other memory. Whether the
# picture comes before or after the question is decided by the order of the items.
#
# ## 6. One pad becomes as many as the picture has cells
#
# The rendered text has *one* `<|image_pad|>`. The tower will give one visual token for each cell of 2 x 2
# patches, so this one id is repeated. With a grid $(t, g_h, g_w)$ of patches:
#
# $$ \text{placeholders} = t \cdot \frac{g_h}{2} \cdot \frac{g_w}{2} = \frac{t\,g_h\,g_w}{4} $$

# %%
short = np.array(encode(text))
inputs = vlm.prepare(dialogue)
t, gh, gw = inputs.image_grid_thw[0]
times = np.where(short == config.image_token_id, t * gh * gw // 4, 1)  # 1 1 1 .. 12 .. 1 1
ids = np.repeat(short, times)
print("ids", short.shape, "->", ids.shape, f"   grid ({t}, {gh}, {gw})    pads {t * gh * gw // 4}")
print("equal to the inputs of the model:", np.array_equal(ids, inputs.input_ids))

figure = plot.board(1, 1, (12, 4.2))
plot.tokens(ids, tokenizer, [config.image_token_id], figure.axes[0])
figure

# %% [markdown]
# The two marks around the placeholders stay. They are ordinary tokens with rows of their own, and say where a
# picture begins and ends.
#
# What does a picture cost, then? As many tokens as it has cells, plus two. `minivl tokens FILE` says it for
# your picture.
#
# ## 7. Visual tokens take the rows of the placeholders
#
# Every id becomes its learned row (lesson 1). All placeholders have the same id, so they get the same row.
# Then the visual tokens are written over these rows, the first over the first, and so on:

# %%
with minivl.session(record="*") as session:
    scores = vlm.logits(inputs)
trace = session.trace
table = vlm.weights.decoder.embed.dense(np.float32)  # v d
words = table[ids]  # s d
here = np.flatnonzero(ids == config.image_token_id)  # m: rows of the placeholders
visual = trace["vision.restore_order"]  # m d
placed = words.copy()
placed[here] = visual
print("embedded, equal to the pass:", np.array_equal(words, trace["decoder.embed_tokens"]))
print("placed, equal to the pass:  ", np.array_equal(placed, trace["decoder.place_features"]))
print("rms of a word", np.sqrt((np.delete(placed, here, axis=0)**2).mean()).round(3),
      "  rms of a visual token", np.sqrt((visual**2).mean()).round(3))

figure = plot.board(1, 2, (11, 4.6))
for axis, rows, title in zip(figure.axes, (words, placed), ("before", "after"), strict=True):
    plot.similarity(rows, ax=axis)
    axis.set_title(f"{title}: how alike the rows of the sequence are", size=9)
figure

# %% [markdown]
# Before, the placeholders are a red square: all alike. After, rows are alike where the picture is: a row of
# background is like the next one. Dots and lines elsewhere are tokens that come more than once, such as line
# ends.
#
# So the learned row of `<|image_pad|>` is never used. We fill it with nonsense, and not one bit changes:

# %%
def nonsense(ids, table, dtype):
    rows = decoder.embed_tokens.definition(ids, table, dtype)
    return np.where((ids == config.image_token_id)[:, None], dtype.type(1e6), rows)


with minivl.using({"decoder.embed_tokens": nonsense}):
    print("scores, equal to those before:", np.array_equal(vlm.logits(inputs), scores))

# %% [markdown]
# ## 8. Several pictures
#
# Each picture has its own run of placeholders, of its own length. The tower gives the visual tokens of all
# pictures in one table, in the order of the prompt. *Nothing but this order* says which row belongs to which
# picture.

# %%
content = [{"type": "text", "text": "Is this"}, {"type": "image", "image": disc(RED, 56, 84)},
           {"type": "text", "text": "like this?"}, {"type": "image", "image": disc(BLUE, 84, 84)}]
two = vlm.prepare([{"role": "user", "content": content}])
grids = two.image_grid_thw  # i 3
counts = grids.prod(axis=1) // 4  # i: placeholders of each picture
short = np.array(encode(render([{"role": "user", "content": content}])))
times = np.ones(len(short), int)
times[short == config.image_token_id] = counts  # the j-th pad, counts[j] times
print("grids", grids.tolist(), "-> placeholders", counts.tolist())
print("equal to the inputs:", np.array_equal(np.repeat(short, times), two.input_ids))
starts = np.flatnonzero(two.input_ids == config.image_token_id)[np.cumsum(counts) - counts]
print("they begin at rows", starts.tolist(), "of the sequence;",
      "visual tokens are cut at", np.cumsum(counts).tolist())

figure = plot.board(1, 1, (12, 4.2))
plot.tokens(two.input_ids, tokenizer, [config.image_token_id], figure.axes[0])
figure

# %% [markdown]
# "The second picture" means something only because of the order. The template can help by writing `Picture
# 1:` and so on before each:

# %%
print(prompt.render([{"role": "user", "content": content}], vlm.processor.template, add_vision_id=True))

# %% [markdown]
# If counts and rows do not belong together, the run must not go on: a wrong order of pictures, or a literal
# `<|image_pad|>` in somebody's text. The reference reads that as the token, and says *"Image features and image
# tokens do not match"*. Here what somebody types stays text, unless the caller asks for the reference's rule; and
# both counts and the likely cause are said:

# %%
try:
    typed = [{"type": "image", "image": image}, {"type": "text", "text": "What does <|image_pad|> mean?"}]
    vlm.chat([{"role": "user", "content": typed}], special_tokens=True)
except ValueError as error:
    print("a pad in the text: ", error)
try:
    minivl.Inputs.from_ids(two.input_ids, config, two.pixel_values, grids[::-1])
except ValueError as error:
    print("grids exchanged:   ", error)

# %% [markdown]
# (Two pictures of the *same* number of cells can be exchanged and no count will tell.)
#
# ### When a prompt is too long, or the counts do not fit
#
# A limit of so many tokens cuts a prompt somewhere, and then the counts do not fit. Two repairs make the error go away
# and the rows wrong, whatever the answer says: cut the placeholders *and* the visual tokens to the same number, or
# fill up the visual tokens until the number fits. A picture with a disc at its lower border shows the first. The last
# line is a repair that works: fewer pixels. (So does leaving out whole messages together with their pictures. Text
# alone may be cut.)

# %%
tall = Image.new("RGB", (112, 168), (200, 200, 205))
ImageDraw.Draw(tall).ellipse([32, 116, 80, 164], fill=RED)


def asked(picture, **options):
    item = {"type": "image", "image": picture, **options}
    return vlm.prepare([{"role": "user", "content": [item, {"type": "text", "text": question}]}])


whole = asked(tall)
all_cells = vlm.vision(whole)  # 24 d
upper = asked(tall.crop((0, 0, 112, 84)))  # half of the placeholders, and positions for these
smaller = asked(tall, max_pixels=84 * 56)
cuts = {"whole": (whole, {}),
        "placeholders and visual tokens cut": (upper, {"vision.restore_order": lambda cells, order: all_cells[:12]}),
        "fewer pixels": (smaller, {})}
colour = np.asarray(tall)[..., 1].reshape(6, 28, 4, 28) < 100  # True on the disc
on_disc = np.flatnonzero(colour.any(axis=(1, 3)).ravel())  # cells with a piece of it
print(f"the disc lies in cells {on_disc.tolist()}; the truth: A red circle.")
for name, (given, change) in cuts.items():
    with minivl.using(change):
        said = vlm.tokenizer.decode(vlm.generate(given, max_new_tokens=16))
    here = (given.input_ids == config.image_token_id).sum()
    kept = on_disc[on_disc < here] if change else on_disc
    print(f"{name:36s} {len(given.input_ids):3d} tokens, {here:2d} cells,",
          f"{len(kept)} of {len(on_disc)} of the disc reach the decoder: {said}")

# %% [markdown]
# The second comes about when the *model* has written a placeholder in an earlier answer (lesson 11 shows how to
# prevent that). The answer stands before the next picture, so its placeholder takes the first visual token of that
# picture, and all others come one cell late. Filling up at the end hides it:

# %%
first, second = disc(RED, 56, 56), disc(BLUE, 84, 84)
talk = [{"role": "user", "content": [{"type": "image", "image": first}, {"type": "text", "text": "What is this?"}]},
        {"role": "assistant", "content": "A PAD circle."},
        {"role": "user", "content": [{"type": "image", "image": second}, {"type": "text", "text": question}]}]
inputs = vlm.prepare(talk)
PAD = config.image_token_id
rows = np.array(encode(render(talk).replace("PAD", "<|image_pad|>")))  # three placeholders now, before they grow
times = np.ones(len(rows), int)
times[rows == PAD] = [4, 1, 9]  # the written one stays a single one
rows = np.repeat(rows, times)
visual = np.arange(4 + 9)  # which visual token: 0..3 of the first, 4..12 of the second
patched = np.append(visual, visual[-1])  # filled up until the number fits
got = dict(zip(np.flatnonzero(rows == PAD).tolist(), patched.tolist(), strict=True))
wanted = np.concatenate([visual[:4], [-1], visual[4:]])  # -1: nothing belongs there
wrong = np.array(list(got.values())) != wanted
print("placeholders", len(got), "for", len(visual), "visual tokens; filled up, none is missing")
print("what each placeholder gets:  ", list(got.values()))
print("what should be there:        ", wanted.tolist())
print(f"{wrong.sum()} of {len(wrong)} hold what is not theirs: the second picture is moved by one cell")

# %% [markdown]
# ## 9. Now break it
#
# Each line below changes the prompt or its rows, and all of them run. **Predict**: which is fatal, and which
# does the model not even notice?

# %%
def text_with(change):
    """A `prompt.render` whose text is changed before it is encoded."""
    right = prompt.render_bytes.definition

    def render_bytes(*arguments):
        return np.frombuffer(change(right(*arguments).tobytes().decode()).encode(), np.uint8)
    return {"prompt.render": render_bytes}


def only_pads(text, tokenizer):
    """Marks spelt out as ordinary text; only the placeholder stays one token."""
    head, tail = text.split("<|image_pad|>")
    return np.array([*encode_plain(head), config.image_token_id, *encode_plain(tail)])


def placed_as(arrange):
    """A `place_features` that arranges the visual tokens first."""
    right = decoder.place_features.definition
    return {"decoder.place_features": lambda x, here, rows: right(x, here, arrange(rows))}


SYSTEM = re.compile(r"<\|im_start\|>system.*?<\|im_end\|>\n", re.DOTALL)
PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"
faults = {"no system message": text_with(lambda text: SYSTEM.sub("", text)),
          "another system message": text_with(lambda text: text.replace("a helpful", "an evil")),
          "no line end after the role": text_with(lambda text: text.replace("user\n", "user")),
          "nobody is to answer": text_with(lambda text: text.removesuffix("<|im_start|>assistant\n")),
          "a space after 'assistant'": text_with(lambda text: text[:-1] + " \n"),
          "question before the picture": text_with(
              lambda text: text.replace(PICTURE + question, question + PICTURE)),
          "no marks around the picture": text_with(lambda text: text.replace(PICTURE, "<|image_pad|>")),
          "marks as ordinary text": {"prompt.encode": only_pads},
          "visual tokens not placed": {"decoder.place_features": lambda x, here, rows: x},
          "visual tokens backwards": placed_as(lambda rows: rows[::-1]),
          "one row too late": placed_as(lambda rows: np.roll(rows, 1, axis=0))}
asked = [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": question}]}]
wanted = vlm.logits(vlm.prepare(asked))[-1]
print(f"{'':30s} tokens   scores move by   answer")
print(f"{'(the truth)':30s} {'':23s}   A red circle.")
print(f"{'no fault':30s} {len(vlm.prepare(asked).input_ids):6d} {0:16.1%}   {vlm.ask(image, question)}")
for name, fault in faults.items():
    with minivl.using(fault), minivl.session(verify=True):
        broken = vlm.prepare(asked)
        off = np.linalg.norm(vlm.logits(broken)[-1] - wanted) / np.linalg.norm(wanted)
        said = vlm.ask(image, question, max_new_tokens=12)
    print(f"{name:30s} {len(broken.input_ids):6d} {off:16.1%}   {said!r}")

# %% [markdown]
# Nothing here is a wrong shape. The last two have every visual token, only at wrong places: asked *what* is
# there, a model may be right for years; asked *where*, it cannot be. And the template is as much a part of
# the model as its weights: it was trained with exactly these marks. A port that writes the prompt a little
# otherwise answers a little otherwise, and looks like a model that is "somehow worse". So compare *ids* first
# when two programs disagree.
#
# ## Exercise 9.1: where the pairs come from (about 25 minutes)
#
# Write `learn_pairs(words, steps)`: the list of pairs that BPE learns. `words` is a dict from a word (bytes)
# to how often it comes, `steps` is how many pairs are wanted. Begin with every word cut into single bytes.
# Then, `steps` times: count all pairs of neighbours in all words, each as often as its word comes; take the
# most frequent pair, of equals the one that Python's `min` calls the smaller; join it everywhere (from the
# left); write it down. Stop early when no pair is left. On paper first: `{b"aab": 2, b"ab": 1}`, two steps.
# (a a: 2, a b: 3. So (a, b); then the words are a ab and ab, and the next is (a, ab).)
#
# <details><summary>Hint 1</summary>Keep for each word the list of its parts, and write one function that
# joins a pair in such a list. Section 3 joins one place; here all places are joined.</details>
# <details><summary>Hint 2</summary>Counting: a Counter over pairwise(parts), adding the word's number. Most
# frequent, then smallest: min(count, key=lambda pair: (-count[pair], pair)).</details>
# <details><summary>Hint 3</summary>To join: walk with an index n; if (parts[n], parts[n + 1]) is the pair,
# append both as one and go two on, else append parts[n] and go one on.</details>

# %%
def learn_pairs(words, steps):
    """dict of bytes -> number, int -> list of (bytes, bytes), first learned first."""
    ### BEGIN SOLUTION
    cut = {word: [bytes([byte]) for byte in word] for word in words}
    learned = []
    for _ in range(steps):
        count = {}
        for word, parts in cut.items():
            for pair in pairwise(parts):
                count[pair] = count.get(pair, 0) + words[word]
        if not count:
            break
        best = min(count, key=lambda pair: (-count[pair], pair))
        learned.append(best)
        for word, parts in cut.items():
            whole, n = [], 0
            while n < len(parts):
                step = 2 if tuple(parts[n : n + 2]) == best else 1
                whole.append(b"".join(parts[n : n + step]))
                n += step
            cut[word] = whole
    return learned
    ### END SOLUTION


# %% tags=["check"]
minivl.check("9.1", learn_pairs)

# %% [markdown]
# ## Exercise 9.2: make room for the pictures (about 10 minutes)
#
# Write `make_room(ids, grids, pad)`: `ids` (s,) of a prompt with one `pad` for each picture, `grids` (i, 3)
# the patches of each picture as (t, rows, columns), in the order of the prompt. Out comes the longer array of
# ids.
#
# <details><summary>Hint 1</summary>Four patches are one visual token, so a grid (1, 4, 6) needs 6 pads. For
# every id you need the number of times that it is to stand there.</details>
# <details><summary>Hint 2</summary>np.repeat takes an array of times as long as ids. It is 1 for everything
# that is no pad.</details>
# <details><summary>Hint 3</summary>times = np.ones(len(ids), int); times[ids == pad] = grids.prod(axis=1) //
# 4; return np.repeat(ids, times)</details>

# %%
def make_room(ids, grids, pad):
    """s, i 3, one id -> longer s."""
    ### BEGIN SOLUTION
    times = np.ones(len(ids), int)
    times[ids == pad] = grids.prod(axis=1) // 4  # the j-th pad, as often as picture j has cells
    return np.repeat(ids, times)
    ### END SOLUTION


# %% tags=["check"]
minivl.check("9.2", make_room)

# %% [markdown]
# ## What the reference calls these things
#
# | here | there (`transformers`) |
# |---|---|
# | `prompt.render` | `processor.apply_chat_template(..., tokenize=False)` |
# | the last line of the template | `add_generation_prompt=True` |
# | `Picture 1:` | `add_vision_id=True` |
# | cutting into words | the pretokenizer, a `Split` by one regular expression |
# | bytes as letters in `tokenizer.json` (a space is `Ġ`) | `ByteLevel` |
# | rank of a pair | its place in `merges` |
# | `prompt.encode` | `tokenizer(...)`: `Qwen2Tokenizer` |
# | `prompt.expand` | `replace_image_token` of `Qwen2_5_VLProcessor`, which repeats the placeholder in the *text* |
# | which rows are pictures | `mm_token_type_ids`: 0 text, 1 picture, 2 video |
# | `decoder.place_features` | `masked_scatter` with `get_placeholder_mask` |
#
# ## Read next
#
# - `minivl/text/bpe.py`: the same with a heap, so that a long word does not take minutes.
# - `minivl/text/template.py`: the template as it comes with a checkpoint, and why it runs in a sandbox.
# - Lesson 10: the rows of the sequence are there. Where does each of them *stand*?
