"""A UserError stays one line, also when raised in a loader's worker process."""

import pytest
from torch.utils.data import DataLoader

from clrernetlm.core.errors import UserError


class Broken:
    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise UserError("a.jpg: no such image; restore the file")


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_message_survives_pickling_by_a_worker_process(workers):
    with pytest.raises(UserError) as caught:
        list(DataLoader(Broken(), num_workers=workers))
    assert str(caught.value) == "a.jpg: no such image; restore the file"


def test_control_characters_in_a_message_are_escaped() -> None:
    assert str(UserError("a\x1b[31m\udcff.jpg: broken\nsecond\tline")) == r"a\x1b[31m\udcff.jpg: broken second line"
