"""The whole forward pass. Axis letters are in contract.py; every line is a stage, a view or the cache."""

from .kernels.definition import wide_type
from .passes.block import add_attended, add_mlp, attend_backwards, attend_inside, normalise
from .passes.block import project_qkv, rotate
from .passes.decoder import embed_tokens, logits, place_features, select_rows
from .passes.positions import cos_sin, mrope_angles, window_angles
from .passes.vision import embed_patches, merge_2x2
from .passes.windows import order_by_window, restore_order, schedule, window_order
from .door.stage import stage


@stage("vision", "p x, i 3, _ -> m o", composite=True)
def vision(patches, grids, w):
    order = window_order(grids, w.config)                               # c: cells, window after window
    segments = schedule(grids, w.config)                                # g 4 for each block: who sees whom
    turn = cos_sin(window_angles(grids, order, w.config), wide_type(w.dtype))  # w f, w f
    x = embed_patches(patches, w.patch_embed, w.dtype)                  # p x -> p d
    x = order_by_window(x, order)                                       # p d -> w d
    for i, block in enumerate(w.blocks):
        x = vision_block(i, x, turn, segments[i], block)                # w d -> w d
    return restore_order(merge_2x2(x, w.merger), order)                 # w d -> c o -> m o


@stage("blocks.{0}", "_, w d -> w d", composite=True)
def vision_block(i, x, turn, segments, w):
    q, k, v = project_qkv(normalise(x, w.norm1), w.qkv, w.config)       # w d -> w a e, w a e, w a e
    q, k = rotate(q, k, *turn)
    x = add_attended(x, attend_inside(q, k, v, segments), w.out)        # w a e -> w d
    return add_mlp(x, w.norm2, w.mlp)


@stage("decoder", "s, 3 s, m, m d, n, _, _ -> n v", composite=True)
def decoder(ids, positions, placeholders, features, asked, cache, w):
    turn = cos_sin(mrope_angles(positions, w.config), w.dtype)          # s f, s f
    x = place_features(embed_tokens(ids, w.embed, w.dtype), placeholders, features)           # s -> s d
    for i, layer in enumerate(w.layers):
        x = decoder_layer(i, x, turn, cache, layer)                     # s d -> s d
    return logits(normalise(select_rows(x, asked), w.norm), w.head)     # s d -> n d -> n v


@stage("layers.{0}", "_, s d -> s d", composite=True)
def decoder_layer(i, x, turn, cache, w):
    q, k, v = project_qkv(normalise(x, w.norm1), w.qkv, w.config)       # s d -> s a e, s k e, s k e
    q, k = rotate(q, k, *turn)
    k, v = cache.append(i, k, v)                                        # s k e -> r k e: all rows so far
    x = add_attended(x, attend_backwards(q, k, v, cache.segments), w.out)
    return add_mlp(x, w.norm2, w.mlp)


def prefill(batch, cache, w, chunk=None):
    features = vision(batch.patches, batch.grids, w.vision) if len(batch.grids) else batch.no_features
    return [step(part, features[part.seen], cache, w) for part in batch.parts(chunk)]    # n v of each


def step(batch, features, cache, w):
    cache.admit(batch.lengths)                                          # rows for new tokens; who sees whom
    return decoder(batch.ids, batch.positions, batch.placeholders, features, batch.asked, cache, w.decoder)
