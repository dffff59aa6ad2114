"""How names of files are shown."""

import os

import pytest

from spasemsr.images.names import shown


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (b"caf\xc3\xa9 1.png", "café 1.png"),
        (b"caf\xe9.png", "caf\\xe9.png"),
        (b"two\nlines\r\t.png", "two\\x0alines\\x0d\\x09.png"),
        (b"\x1b[2Jgone.png", "\\x1b[2Jgone.png"),
        (b"\xc2\x9b31mred.png", "\\x9b31mred.png"),
    ],
)
def test_a_name_is_one_line_and_steers_no_terminal(name, text):
    assert shown(os.fsdecode(name)) == text
