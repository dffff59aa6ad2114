"""What is made of the answers of a language model: captions and tags."""

import pytest

from spasemsr.backends.networks.answers import CaptionPolicy, content_words, tags_of
from spasemsr.errors import UserError

# What is made of answers.


def cleaned(answer: str, **rules: int) -> tuple[str, dict[str, int]]:
    policy = CaptionPolicy(**{"max_words": 60, "max_content_words": 2} | rules)
    return policy.clean(answer), dict(policy.counts)


def test_a_caption_is_one_line_without_control_characters():
    text, counts = cleaned(" The image is\n blurry,\t with\x00 strong noise. ")
    assert text == "The image is blurry, with strong noise."
    assert counts["control characters"] == 1


def test_a_caption_is_capped():
    text, counts = cleaned("noise " * 500)
    assert len(text.split()) == 60 and counts["too long"] == 1
    endless, _ = cleaned("n" * 100_000)
    assert len(endless) == 1000


def test_clauses_beyond_the_allowance_of_content_words_are_left_out():
    answer = "The photo of a dog is blurry, a cat sits on a sofa near a window, and the colors are muted."
    text, counts = cleaned(answer)
    assert text == "The photo of a dog is blurry, and the colors are muted."
    assert counts["content left out"] == 1
    assert cleaned("blurry, strong noise, low contrast")[1] == {"captions": 1, "changed": 0}


def test_a_caption_of_content_alone_is_kept_and_counted():
    text, counts = cleaned("A dog and a cat on a sofa near a window with a vase.")
    assert text == "A dog and a cat on a sofa near a window with a vase."
    assert counts["content only"] == 1


@pytest.mark.parametrize("answer", ["", " \n\t", "...", "\x00\x01", "123 !"])
def test_an_empty_caption_is_an_error(answer):
    with pytest.raises(UserError, match="said nothing") as error:
        cleaned(answer)
    assert "never stored" in error.value.remedy


def test_words_of_quality_are_not_content():
    said = "image photo noise blur sharp grain contrast color light edges artifacts compression pepper orange field can"
    assert not set(said.split()) & content_words()
    assert {"dog", "dogs", "window", "boxes"} <= content_words()


@pytest.mark.parametrize(
    ("answer", "tags"),
    [
        ("A dog, two cats and the window.", ["dog", "cats", "window"]),
        ("1. Tree\n2. Brick wall\n- a person", ["tree", "brick wall", "person"]),
        ("dog, Dog, DOG", ["dog"]),
        ("I see a very large number of different things here, sky", ["sky"]),
        ("", []),
        ("<script>, 42, \x07bell", ["bell"]),
    ],
)
def test_tags_of_an_answer(answer, tags):
    assert tags_of(answer, 20) == tags
    assert tags_of(answer, 1) == tags[:1]
