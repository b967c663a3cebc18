"""A comparison as a build server reads tests: JUnit's XML, one test for each array, failed where it is
worse than the baseline allows, or where nothing says which stage it is.

Read next: `sarif.py`, the same for a code host.
"""

from __future__ import annotations

from collections.abc import Container
from xml.etree import ElementTree

from .compare import Comparison
from .report import number, times, unplaced_says

SUITE = "minivl diff"
# XML has no other control characters, and neither may an array's name bring them in
ALLOWED = {"\t", "\n", "\r"}


def junit(found: Comparison, bad: Container[str]) -> str:
    """The document. bad: names of arrays that are worse than the baseline allows."""
    lost = [one for one in found.unplaced if not one.known]
    failed = sum(row.name in bad for row in found.judged) + len(lost)
    suite = ElementTree.Element("testsuite", name=SUITE,
                                tests=str(len(found.judged) + len(found.unplaced)),
                                failures=str(failed), errors="0", skipped="0")
    facts = ElementTree.SubElement(suite, "properties")
    for name in ("golden", "candidate", "precision", "first_bad"):
        value = getattr(found, name)
        ElementTree.SubElement(facts, "property", name=name, value=clean(str(value or "")))
    for row in found.judged:
        case = ElementTree.SubElement(suite, "testcase", classname=clean(row.key), name=clean(row.name))
        if row.name in bad:
            said = f"{row.word}: error {number(row.measure.error)}, {times(row)}"
            failure = ElementTree.SubElement(case, "failure", type=row.word, message=said)
            failure.text = clean("\n".join([said, f"rounding alone {number(row.yard.error)}",
                                            *row.notes]))
    for one in found.unplaced:
        case = ElementTree.SubElement(suite, "testcase", classname="no label", name=clean(one.name))
        if one in lost:
            said = clean(f"no label{unplaced_says(one)}")
            ElementTree.SubElement(case, "failure", type="unplaced", message=said).text = said
    root = ElementTree.Element("testsuites", tests=suite.get("tests", ""), failures=str(failed))
    root.append(suite)
    ElementTree.indent(root, " ")
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def clean(said: str) -> str:
    """A text without characters that XML does not have."""
    return "".join(c if c in ALLOWED or (c >= " " and c not in "\ufffe\uffff"
                                         and not "\ud800" <= c <= "\udfff") else "?" for c in said)
