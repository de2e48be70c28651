"""Lists of problems: each kind once, with its count, examples and remedy, in bounded memory."""

from efficientps.data.problems import MAX_EXAMPLES, MAX_KINDS, Problem, Problems


def test_text_of_two_kinds():
    """Oracle: hand-worked; two kinds, one of which occurs five times."""
    problems = Problems(f"Panoptic map 'a/{n}.png' is {n}x9 pixels where its annotation says 8x{n}." for n in range(5))
    problems.add(Problem("polygon of two points", "annotations[7] of image '5'", "use --skip-invalid"))
    assert len(problems) == 6 and problems
    assert problems.lines("error: ") == [
        "error: Panoptic map 'a/0.png' is 0x9 pixels where its annotation says 8x0.",
        "       5 of this kind; others:",
        "       Panoptic map 'a/1.png' is 1x9 pixels where its annotation says 8x1.",
        "       Panoptic map 'a/2.png' is 2x9 pixels where its annotation says 8x2.",
        "error: annotations[7] of image '5': polygon of two points.",
        "       What to do: use --skip-invalid.",
    ]
    assert problems.table()[1] == "1  polygon of two points" and problems.table()[0].startswith(
        "5  Panoptic map '…' is"
    )
    assert problems.as_dict()[1] == {
        "kind": "polygon of two points",
        "count": 1,
        "examples": ["annotations[7] of image '5': polygon of two points."],
        "remedy": "use --skip-invalid",
    }


def test_none_is_no_line():
    assert not Problems() and Problems().lines("error: ") == [] and Problems().table() == []


def test_what_differs_and_what_makes_a_kind():
    """Names, numbers and places do not tell kinds apart; keys of a JSON file do."""

    def kind(sentence):
        return Problem.of(sentence).kind

    assert kind("Image 'a' does not exist.") == kind('Image "it\'s" does not exist.').replace('"', "'")
    assert kind("It has -3 as 'images[3].id'.") == kind("It has 4.5 as 'images[12].id'.")
    assert kind("It has 3 as 'images[3].id'.") != kind("It has 3 as 'images[3].width'.")
    assert kind("Image 'a' does not exist.") != kind("Map 'a' does not exist.")


def test_memory_is_bounded_and_counts_are_exact():
    problems = Problems()
    for number in range(2_000):
        problems.add(Problem(f"kind {number % 150}", "x" * 10_000))
    problems.extend(f"Image '{number}' is bad." for number in range(10_000))
    assert len(problems) == 12_000 == sum(problems.counts.values())
    assert len(problems.counts) == MAX_KINDS + 1 and len(list(problems)) <= (MAX_KINDS + 1) * MAX_EXAMPLES
    assert sum(map(len, problems)) < 2_000 * 1_001 + 10_000 * 20
