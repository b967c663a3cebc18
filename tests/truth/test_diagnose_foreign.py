"""`minivl diagnose` on a port that it has never seen: relatives of the museum's faults are named with their parameters,
healthy arithmetic and what no catalogue has are not."""

import pytest

from minivl.truth.diagnose.report import headline
from tools.truth.diagnosis import USUAL, outcomes
from tools.truth.foreign.variants import VARIANTS, variant


def said_of(name, way, folder):
    (found,) = outcomes([variant(name)], [way], folder)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("foreign")


@pytest.mark.parametrize(("name", "way", "says"), [
    ("windows-twice-as-large", "partial", "windows of 4 x 4 cells"),
    ("tower-axes-swapped", "names", "in the tower's rotary"),
    ("patch-transposed", "partial", "values by colour, frame, column, row"),
    ("patch-transposed", "padded", "values by colour, frame, column, row"),
    ("order-by-sorting", "names", None)])
def test_a_relative_is_named_with_its_parameters(name, way, says, folder):
    found = said_of(name, way, folder)
    assert found.is_right and found.found.known, found.cells()
    first = headline(found.found)[0]
    assert first.startswith("looks like: ") and (says is None or first.endswith(f"here: {says}"))
    assert found.found.known[0].explained > 0.9


@pytest.mark.parametrize("way", ["padded", "channels-first"])
def test_healthy_rounding_over_several_blocks_leans_no_way(way, folder):
    found = said_of("bf16", way, folder)
    assert found.found.healthy and not found.found.known, found.cells()


@pytest.mark.parametrize("way", ["names", "channels-first"])
def test_weights_of_eight_bits_are_no_fault(way, folder):
    found = said_of("int8", way, folder)
    assert found.found.healthy and found.found.cost and not found.found.known
    assert headline(found.found)[0].startswith("quantised, and no fault beyond it: weights of 8 bits")


def test_a_fault_that_no_catalogue_has_is_pinned_and_the_nearest_is_named(folder):
    found = said_of("gate-and-up-swapped", "names", folder)
    assert not found.found.known and not found.found.healthy
    words = headline(found.found)
    assert words[0].startswith("none of the known: the first bad tap is vision.blocks.4.add_mlp")
    assert words[1] == "pinned to 1 pass: vision.blocks.4.add_mlp"


@pytest.mark.full
@pytest.mark.parametrize("way", USUAL)
def test_most_are_right_and_none_is_wrong(way, folder):
    found = list(outcomes(VARIANTS, [way], folder))
    assert not [one.cells() for one in found if one.is_wrong]
    assert sum(one.is_right for one in found) >= 0.85 * len(found), [one.cells() for one in found if not one.is_right]


@pytest.mark.full
def test_where_a_fault_hides_nothing_is_said(folder):
    hiding = [one for one in VARIANTS if one.hides]
    assert not [one.cells() for one in outcomes(hiding, ["partial"], folder, hidden=True) if not one.found.healthy]
