"""Attention in windows against a slow account of it, voxel by voxel, on the volume as it is."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunet_volf.networks import windows
from nnunet_volf.networks.window_attention import TransformerBlock, WindowAttention


def make_attention(window=2, shifted=False, reference=False, features=6, heads=2, dropout=0.0):
    torch.manual_seed(0)
    attention = WindowAttention(features, heads, window, shifted, dropout, reference).double()
    with torch.no_grad():
        attention.bias_table.normal_()
    return attention


def attend_voxel_by_voxel(attention, volume):
    """Return what each voxel of (z, y, x, features) sees, from where the borders of the windows are.

    With shifted windows the borders lie at the shift, the shift plus one side, ...; an axis of one window has none.
    In the published way, what lies behind the end of the volume is zero and is seen, and one axis of one window keeps
    all from shifting.
    """
    size, window = volume.shape[:3], attention.window
    shift = [window // 2 if attention.shifted and side > window else 0 for side in size]
    if attention.reference and min(size) <= window:
        shift = [0, 0, 0]
    ends = size if not attention.reference else [-(-side // window) * window for side in size]
    voxels = {
        place: volume[place]
        if all(p < s for p, s in zip(place, size, strict=True))
        else torch.zeros(volume.shape[3]).double()
        for place in itertools.product(*(range(end) for end in ends))
    }
    cells = {place: tuple((p - s) // window for p, s in zip(place, shift, strict=True)) for place in voxels}
    inputs = {
        place: (attention.qkv.weight @ voxel + attention.qkv.bias).view(3, attention.heads, -1)
        for place, voxel in voxels.items()
    }
    seen = torch.empty_like(volume)
    for place in itertools.product(*(range(side) for side in size)):
        others = [other for other in voxels if cells[other] == cells[place]]
        parts = []
        for head in range(attention.heads):
            query = inputs[place][0, head]
            scores = []
            for other in others:
                z, y, x = (a - b + window - 1 for a, b in zip(place, other, strict=True))
                row = (z * (2 * window - 1) + y) * (2 * window - 1) + x
                scores.append(query @ inputs[other][1, head] / len(query) ** 0.5 + attention.bias_table[row, head])
            weights = torch.softmax(torch.stack(scores), 0)
            parts.append(sum(weight * inputs[other][2, head] for weight, other in zip(weights, others, strict=True)))
        seen[place] = attention.proj.weight @ torch.cat(parts) + attention.proj.bias
    return seen


@settings(max_examples=25, deadline=None)
@given(
    size=st.tuples(*[st.integers(1, 5)] * 3),
    window=st.sampled_from([2, 3]),
    shifted=st.booleans(),
    reference=st.booleans(),
)
def test_what_each_voxel_sees_is_what_the_slow_account_says(size, window, shifted, reference):
    attention = make_attention(window, shifted, reference)
    volumes = torch.randn(2, *size, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        quick = attention(volumes)
        slow = torch.stack([attend_voxel_by_voxel(attention, volume) for volume in volumes])
    torch.testing.assert_close(quick, slow)


@pytest.mark.parametrize("reference", [True, False])
def test_it_holds_at_the_size_of_the_published_windows(reference):
    attention = make_attention(window=6, shifted=True, reference=reference, features=2, heads=1)
    volume = torch.randn(1, 7, 3, 8, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        torch.testing.assert_close(attention(volume)[0], attend_voxel_by_voxel(attention, volume[0]))


def test_padding_changes_nothing_when_it_is_hidden_and_something_when_it_is_not():
    volume = torch.randn(1, 5, 4, 4, 6, dtype=torch.float64)
    hidden, attended = make_attention(4), make_attention(4, reference=True)
    with torch.no_grad():
        first_four = hidden(volume[:, :4])
        assert torch.allclose(hidden(volume)[:, :4], first_four)
        assert torch.allclose(attended(volume)[:, :4], first_four), "a full window has no padding"
        assert not torch.allclose(attended(volume)[:, 4:], hidden(volume)[:, 4:])


@given(window=st.integers(1, 5))
def test_each_way_from_voxel_to_voxel_has_one_row_of_the_table(window):
    index = windows.relative_positions(window).numpy()
    places = list(itertools.product(range(window), repeat=3))
    rows = {}
    for (i, one), (j, other) in itertools.product(enumerate(places), repeat=2):
        rows.setdefault(tuple(np.subtract(one, other)), set()).add(int(index[i, j]))
    assert all(len(found) == 1 for found in rows.values())
    assert sorted(row for found in rows.values() for row in found) == list(range((2 * window - 1) ** 3))


@given(counts=st.tuples(*[st.integers(1, 3)] * 3), window=st.integers(1, 3), batch=st.integers(1, 2))
def test_windows_are_cut_out_and_put_back(counts, window, batch):
    size = [count * window for count in counts]
    volume = torch.arange(batch * int(np.prod(size)) * 2).view(batch, *size, 2)
    cut = windows.to_windows(volume, window)
    number = 0
    for b in range(batch):
        for z, y, x in itertools.product(*(range(0, side, window) for side in size)):
            part = volume[b, z : z + window, y : y + window, x : x + window].reshape(-1, 2)
            assert torch.equal(cut[number], part)
            number += 1
    assert torch.equal(windows.from_windows(cut, window, size), volume)


def test_a_mask_that_was_made_in_prediction_serves_training():
    attention = make_attention(window=3, shifted=True)
    volume = torch.randn(1, 7, 4, 5, 6, dtype=torch.float64)
    windows._kept_mask.cache_clear()
    with torch.inference_mode():
        attention(volume)
    attention(volume).sum().backward()
    assert attention.bias_table.grad.abs().sum() > 0


def test_masks_are_made_once_for_a_size():
    attention = make_attention(window=3, shifted=True)
    windows._kept_mask.cache_clear()
    for _ in range(3):
        attention(torch.randn(2, 4, 5, 7, 6, dtype=torch.float64))
    assert windows._kept_mask.cache_info().misses == 1
    assert windows._kept_mask.cache_info().hits == 2


def test_the_fused_kernel_takes_bias_and_mask():
    """torch refuses a backend that cannot do what is asked, instead of falling back to another one."""
    kernels = pytest.importorskip("torch.nn.attention", reason="torch before 2.3 cannot ask for a kernel")
    attention = make_attention(window=3, shifted=True).float().eval()
    volume = torch.randn(2, 7, 4, 5, 6)
    with torch.no_grad():
        chosen_by_torch = attention(volume)
        with kernels.sdpa_kernel(kernels.SDPBackend.FLASH_ATTENTION):
            torch.testing.assert_close(attention(volume), chosen_by_torch)


def test_gradients_in_half_precision_are_nearly_those_in_full():
    attention = make_attention(window=3, shifted=True).float()
    volume = torch.randn(1, 7, 4, 5, 6)
    (attention(volume) ** 2).sum().backward()
    full = {name: parameter.grad.clone() for name, parameter in attention.named_parameters()}
    attention.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        seen = attention(volume)
    (seen.float() ** 2).sum().backward()
    for name, parameter in attention.named_parameters():
        assert (parameter.grad - full[name]).norm() < 0.05 * full[name].norm(), name


def test_dropout_leaves_out_attention_and_output_in_training_only():
    attention = make_attention(dropout=0.5)
    volume = torch.randn(1, 2, 2, 2, 6, dtype=torch.float64)
    assert not torch.equal(attention(volume), attention(volume))
    attention.eval()
    assert torch.equal(attention(volume), attention(volume))


def test_a_transformer_block_is_two_paths_that_are_added():
    torch.manual_seed(0)
    block = TransformerBlock(make_attention().float(), features=6, dropout=0.1, drop_path=0.2).eval()
    volume = torch.randn(1, 3, 4, 5, 6)
    with torch.no_grad():
        middle = volume + block.attention(block.norm1(volume))
        hidden = torch.nn.functional.gelu(block.norm2(middle) @ block.mlp.fc1.weight.T + block.mlp.fc1.bias)
        torch.testing.assert_close(block(volume), middle + hidden @ block.mlp.fc2.weight.T + block.mlp.fc2.bias)


def test_all_paths_of_a_block_can_be_dropped():
    block = TransformerBlock(make_attention().float(), features=6, dropout=0.0, drop_path=1.0)
    volume = torch.randn(2, 3, 4, 5, 6)
    assert torch.equal(block(volume), volume)
