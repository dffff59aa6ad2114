"""Names that published codes give to their results, and what is advised where they are not those of hr."""

import pytest

from spasemsr.evaluation.naming import advice, without

NUMBERS = [f"08{number:02d}" for number in range(12)]
CANON = [f"Canon_{number:03d}" for number in range(1, 13)]


@pytest.mark.parametrize(
    ("keys", "hr", "result", "advised"),
    [
        (NUMBERS, "{}", "{}_out", "--strip _out takes _out off the names of 12 results"),  # Real-ESRGAN
        (NUMBERS, "{}", "{}_0", "--strip _0 takes"),  # SUPIR, DiffBIR
        (NUMBERS, "{}", "{}x4", "--strip x4 takes"),
        (NUMBERS, "{}", "{}-SR", "--strip=-SR takes"),  # else the command line takes it for an option
        (NUMBERS, "{}", "{}_SwinIR_x4", "--strip _SwinIR_x4 takes"),
        (CANON, "{}_HR", "{}", "--strip _HR takes _HR off the names of 12 hr"),
        (CANON, "{}_HR", "{}_LR4", "--strip _HR --strip _LR4 takes"),
        (CANON, "{}_HR", "{}_LR4_out", "--strip _HR --strip _LR4_out takes"),
        (CANON, "{}_x1", "{}_x4", "--strip _x1 --strip _x4 takes"),
        (CANON, "{}", "SR_{}", ""),
        (["b"], "{}", "{}b", ""),
        (["b"], "{}", "{}_out", "--strip _out"),
        (["cat"], "{}1", "{}2", ""),  # two pictures, not two endings
    ],
)
def test_the_ending_that_explains_it_is_advised_and_helps(keys, hr, result, advised):
    truths, results = ([form.format(key) for key in keys] for form in (hr, result))
    said = advice(truths, results)
    assert advised in said if advised else said == ""
    endings = [word.removeprefix("--strip=") for word in said.replace("--strip ", "--strip=").split() if "--" in word]
    if advised:
        assert {without(key, endings) for key in truths} == {without(key, endings) for key in results} == set(keys)


def test_one_key_that_begins_another_is_not_its_ending():
    assert "--strip _out takes _out off the names of 2 results" in advice(["1", "10"], ["1_out", "10_out"])
    assert advice(["1", "2"], ["10", "20"]) == ""


def test_several_results_of_one_picture_are_no_matter_of_an_ending():
    said = advice(NUMBERS, [f"{key}_{seed}" for key in NUMBERS for seed in range(3)])
    assert "several results of one picture, with the endings _0, _1, _2" in said and "--strip _0, then" in said


@pytest.mark.parametrize(
    ("results", "said"),
    [
        ([key.lower() for key in CANON], "upper and lower case alone"),
        ([key.replace("_0", "_") for key in CANON], ""),
        (CANON[:5], ""),
        ([*CANON, "Canon_001_lq"], ""),
        (["Canon_001_lq", *CANON[1:4]], ""),  # one of nine that are missing
    ],
)
def test_other_differences(results, said):
    assert said in advice(CANON, results) and bool(said) == bool(advice(CANON, results))


def test_leading_zeros():
    assert "leading zeros alone" in advice(NUMBERS, [key.lstrip("0") for key in NUMBERS])


def test_names_that_would_become_one_are_no_matter_of_case():
    assert advice(["a", "A"], ["a"]) == ""


def test_each_ending_is_taken_off_once_in_any_order():
    assert without("a_LR4_out", ["_LR4", "_out"]) == without("a_LR4_out", ["_out", "_LR4"]) == "a"
    assert without("a_0_0", ["_0"]) == "a_0" and without("_out", ["_out", ""]) == "_out"
    assert without("a_x4", ["x4", "_x4"]) == "a"
