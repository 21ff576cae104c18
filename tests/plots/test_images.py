import numpy as np
import pytest
import torch

from coursekit import data, plots


def test_grid_shows_every_image_in_order_with_its_text(device):
    x = data.mnist("test", normalize=True, device=device)[0][:10]
    scores = torch.linspace(0.1, 1, 10, device=device)
    wrong = torch.arange(10, device=device) % 5 == 0
    ax = plots.images.image_grid(x, captions=[f"{k} → 1" for k in range(10)], scores=scores, wrong=wrong, columns=4)
    assert len(ax.images) == 10
    for image, pixels in zip(ax.images, x[:, 0].cpu().numpy(), strict=True):
        np.testing.assert_array_equal(image.get_array(), pixels)
        assert image.get_clim() == (x.min().item(), x.max().item())
    lefts, tops = zip(*((image.get_extent()[0], image.get_extent()[3]) for image in ax.images), strict=True)
    assert list(lefts) == [lefts[k % 4] for k in range(10)] and len(set(tops)) == 3
    assert [t.get_text() for t in ax.texts][:2] == ["0 → 1  0.10", "1 → 1  0.20"]
    assert len(ax.patches) == 2  # frames
    low, high = ax.get_xlim()
    assert low <= min(lefts) and high >= max(lefts) + 28
    top, bottom = sorted(ax.get_ylim())
    assert top <= min(tops) and bottom >= max(tops) + 28


def test_few_images_make_a_short_row_and_limits_are_kept():
    ax = plots.images.image_grid(torch.rand(2, 5, 7), limits=(-1, 2))
    assert len(ax.images) == 2 and ax.images[0].get_clim() == (-1, 2)


def test_what_does_not_fit_is_named():
    x = torch.rand(3, 1, 4, 4)
    with pytest.raises(ValueError, match="captions must have one entry for each of 3"):
        plots.images.image_grid(x, captions=["a"])
    with pytest.raises(ValueError, match="scores"):
        plots.images.image_grid(x, scores=torch.zeros(2))
    with pytest.raises(ValueError, match="wrong"):
        plots.images.image_grid(x, wrong=torch.zeros(4))
    for bad in (torch.rand(3, 3, 4, 4), torch.rand(4, 4), torch.rand(0, 1, 4, 4)):
        with pytest.raises(ValueError, match="grey images"):
            plots.images.image_grid(bad)
