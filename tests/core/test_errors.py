"""A user's error stays one line, also out of a loader's worker process."""

import pytest
from torch.utils.data import DataLoader

from clrernetlm.core.errors import UserError


class Broken:
    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise UserError("a.jpg: no such image; restore the file")


@pytest.mark.parametrize("workers", [0, 1])
def test_the_message_survives_a_worker(workers):
    with pytest.raises(UserError) as caught:
        list(DataLoader(Broken(), num_workers=workers))
    assert str(caught.value) == "a.jpg: no such image; restore the file"


def test_a_name_out_of_a_file_cannot_reach_the_terminal() -> None:
    assert str(UserError("a\x1b[31m\udcff.jpg: broken\nsecond\tline")) == r"a\x1b[31m\udcff.jpg: broken second line"
