"""A file is the old one or the whole new one."""

import pytest

from clrernetlm.errors import UserError
from clrernetlm.files import replacing, write_text_atomically


def test_a_write_that_fails_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "a.txt"
    write_text_atomically(path, "old")

    def fail_halfway():
        with replacing(path) as temporary:
            temporary.write_text("ne")
            raise ValueError("halfway")

    with pytest.raises(ValueError, match="halfway"):
        fail_halfway()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_folders_are_made_and_refusals_named(tmp_path):
    write_text_atomically(tmp_path / "new/folder/a.txt", "x")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"b\.txt: cannot be written"):
        write_text_atomically(tmp_path / "file/b.txt", "x")
