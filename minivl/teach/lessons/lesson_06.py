"""The checks of lesson 6: rotary positions."""

from __future__ import annotations

import math

import numpy as np

from .filing import array, exercise


@exercise("6.1", "an array (e,)")
def turn(mine):
    row, angles = np.array([1.0, 2, 3, 4]), np.array([math.pi / 2, 0])
    got = array(mine(row, angles), (4,), "a row of 4 and 2 angles")
    wanted = np.array([-3.0, 2, 1, 4])                         # (1, 3) by 90 degrees is (-3, 1); (2, 4) stays
    assert not np.allclose(got, [-2, 1, 3, 4]), (
        "yours turns neighbours, (0, 1) and (2, 3); here pair i is made of numbers i and i + e/2: (0, 2) and (1, 3)")
    assert not np.allclose(got, [3, 2, -1, 4]), "yours turns the other way round: look at the two signs of the sine"
    assert not np.allclose(got, [-3, 2, -1, 4]), "both sines have a minus in yours; only the first may"
    assert not np.allclose(got, [3, 2, 1, 4]), "one of the sines must have a minus, or the length of the pair changes"
    assert np.allclose(got, wanted), f"1 2 3 4 turned by 90 and 0 degrees is -3 2 1 4, yours is {got.round(3).tolist()}"
    row, angles = np.random.default_rng(2).standard_normal(6), np.array([0.3, -1.1, 2.0])
    turned = (row[:3] + 1j * row[3:]) * np.exp(1j * angles)    # a complex number turns by a product
    got = np.asarray(mine(row, angles))
    assert np.isclose((got**2).sum(), (row**2).sum()), "the length of the row has changed; turning keeps it"
    assert np.allclose(got, np.concatenate([turned.real, turned.imag])), (
        "right for 90 degrees, wrong for 0.3, -1.1 and 2 radians; does each pair get its own angle?")


@exercise("6.2", "an array (n, width / 2)")
def angles_2d(mine):
    at, width, base = np.array([[1, 0], [0, 1], [2, 3]]), 8, 10000.0
    got = array(mine(at, width), (3, 4), "three places and a width of 8")
    speed = np.array([1.0, 0.01])                              # base^0 and base^(-2/4): there are width/4 = 2
    wanted = np.concatenate([at[:, :1] * speed, at[:, 1:] * speed], axis=1)
    swapped = np.concatenate([at[:, 1:] * speed, at[:, :1] * speed], axis=1)
    mixed = (at[:, None, :] * speed[:, None]).reshape(3, 4)
    one = base ** (-np.arange(0, 4, 2) / width)
    slow = np.concatenate([at[:, :1] * one, at[:, 1:] * one], axis=1)
    assert not np.allclose(got, swapped), "yours has the columns first; the first half of the angles counts rows"
    assert not np.allclose(got, mixed), "yours mixes them; first all angles of the row, then all of the column"
    assert not np.allclose(got, slow), (
        "the speeds: each axis is a rotary embedding of its own of width / 2, so the exponent is -2i / (width / 2)")
    assert not np.allclose(got[:, :2], got[:, 2:]) or np.allclose(wanted[:, :2], wanted[:, 2:]), (
        "both halves of yours are equal; one counts rows, the other columns")
    bad = np.argwhere(~np.isclose(got, wanted))
    assert not len(bad), (f"place {at[bad[0][0]].tolist()}, angle {bad[0][1]} should be {wanted[tuple(bad[0])]:.4g}, "
                          f"yours is {got[tuple(bad[0])]:.4g}; the speeds of a width of 8 are 1 and 0.01 for each axis")
    got = np.asarray(mine(np.array([[5, 7]]), 16))
    wanted = np.concatenate([n * base ** (-np.arange(4) / 4) for n in (5, 7)])
    assert got.shape == (1, 8) and np.allclose(got[0], wanted), (
        f"right for a width of 8, but place (5, 7) and a width of 16 should give {wanted.round(4).tolist()}, yours is "
        f"{got.round(4).tolist()}")
