import os

import pytest

from nnunet_volf.environment import variable


@pytest.mark.parametrize("before", [None, "", "before"])
def test_a_variable_is_afterwards_what_it_was_even_if_something_fails(
    before: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VOLF_TEST", raising=False)
    if before is not None:
        monkeypatch.setenv("VOLF_TEST", before)
    seen = []

    def fail() -> None:
        with variable("VOLF_TEST", "for a while"):
            seen.append(os.environ["VOLF_TEST"])
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert seen == ["for a while"]
    assert os.environ.get("VOLF_TEST") == before
