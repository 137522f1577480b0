"""Scripts as people type them, each in a process of its own: what they see is what their comments say.

How a script is read, and what is wrong with any message, is in `person`.
"""

from __future__ import annotations

import person
import pytest


@pytest.mark.parametrize("script", person.scripts("student"))
def test_a_students_mistakes(script, folder):
    person.compare(person.expectations(script), person.play(script, folder))


@pytest.mark.parametrize("script", person.scripts("pytorch"))
def test_habits_of_pytorch(script, folder):
    person.compare(person.expectations(script), person.play(script, folder))


@pytest.mark.parametrize("script", person.scripts("keras"))
def test_habits_of_keras(script, folder):
    person.compare(person.expectations(script), person.play(script, folder))


@pytest.mark.parametrize("script", person.scripts("files"))
def test_odd_files(script, folder):
    person.compare(person.expectations(script), person.play(script, folder))


@pytest.mark.parametrize("script", person.scripts("interrupted"))
def test_several_at_a_time(script, folder):
    person.compare(person.expectations(script), person.play(script, folder))


@pytest.mark.parametrize(
    "said,right",
    [
        ({"out": "a 1\nb 2", "warnings": ["UserWarning: w x"], "error": ["ValueError", "bad thing"]}, True),
        ({"out": "b 2\na 1", "warnings": ["UserWarning: w x"], "error": ["ValueError", "bad thing"]}, False),
        ({"out": "a 1\nb 2", "warnings": [], "error": ["ValueError", "bad thing"]}, False),
        ({"out": "a 1\nb 2", "warnings": ["W: w x", "W: w x"], "error": ["ValueError", "bad thing"]}, False),
        ({"out": "a 1\nb 2", "warnings": ["UserWarning: w x"], "error": ["TypeError", "bad thing"]}, False),
        (
            {"out": "a 1\nb 2", "warnings": ["UserWarning: w x"], "error": ["ValueError", "a\nbad thing"]},
            False,
        ),
        ({"out": "a 1\nb 2", "warnings": ["UserWarning: w x"], "error": None}, False),
        ({"out": "a 1\nb 2\nTraceback (most", "warnings": ["W: w x"], "error": ["ValueError", "bad"]}, False),
    ],
)
def test_the_comparison_itself(said, right):
    cell = "# %%\nf()\n# prints: a ...\n#   b\n# warns: w x\n# raises: ValueError: bad\n#   thing"
    ((line, text),) = person.split(cell)
    assert (not person.differences(person.expected(line, text), said)) == right
    assert person.differences(person.expected(1, "f()"), said)


def test_an_answer_is_a_whole_line():
    expected = person.expected(1, "# prints: True")
    for out, right in (
        ("True\n", True),
        ("a\nTrue\n", True),
        ("False True\n", False),
        ("True True\n", False),
    ):
        said = {"out": out, "warnings": [], "error": None}
        assert (not person.differences(expected, said)) == right


def test_there_are_enough_and_each_expects_something():
    everything = sorted(person.SCRIPTS.glob("*/*.py"))
    assert len(everything) >= 36
    for script in everything:
        if script.parent.name != "alone":
            told = [e for e in person.expectations(script) if e.prints or e.warns or e.raises]
            assert told, script
