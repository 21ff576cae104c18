import pytest
import torch

from coursekit import data
from coursekit.data.glyphs import LETTERS


def test_glyphs_are_the_same_each_time_and_follow_the_generator(device):
    x, y = data.glyphs(300, device=device)
    again, labels = data.glyphs(300, device=device)
    assert torch.equal(x, again) and torch.equal(y, labels)
    assert x.device.type == y.device.type == device.type
    other, _ = data.glyphs(300, generator=torch.Generator().manual_seed(1))
    assert not torch.equal(x.cpu(), other)


def test_glyphs_look_like_mnist():
    x, y = data.glyphs(2000)
    digits, _ = data.mnist("test")
    assert x.shape == (2000, 1, 28, 28) and x.dtype == torch.float32 and y.dtype == torch.int64
    assert float(x.min()) == 0 and 0.9 < float(x.max()) <= 1
    assert set(y.tolist()) == set(range(len(LETTERS)))
    ink = x.flatten(1).mean(1)
    assert float(ink.quantile(0.05)) > 0.05 and float(ink.quantile(0.95)) < 0.4
    assert abs(float(ink.mean()) - float(digits.mean())) < 0.1
    # centred by mass up to the small random shift, as the digits are
    place = torch.arange(28) + 0.5
    for axis in (1, 2):
        centre = (x[:, 0].sum(axis) @ place) / x.flatten(1).sum(1)
        assert float((centre - 14).abs().quantile(0.95)) < 3.5
    # the frame of a digit: hardly any ink on the border
    assert float(torch.cat([x[:, 0, 0], x[:, 0, -1], x[:, 0, :, 0], x[:, 0, :, -1]], 1).mean()) < 0.03


def test_a_letter_is_recognised_by_its_label():
    """Letters of one label resemble each other more than other letters."""
    x, y = data.glyphs(1500, letters="AEHX")
    means = torch.stack([x[y == c].mean(0) for c in range(4)]).flatten(1)
    nearest = torch.cdist(x.flatten(1), means).argmin(1)
    assert float((nearest == y).float().mean()) > 0.8


def test_normalized_glyphs():
    x, _ = data.glyphs(5)
    torch.testing.assert_close(data.glyphs(5, normalize=True)[0], data.normalize(x))


def test_bad_requests_are_named():
    with pytest.raises(ValueError, match="n=0"):
        data.glyphs(0)
    with pytest.raises(ValueError, match="at least one letter"):
        data.glyphs(1, letters="")
    with pytest.raises(ValueError, match="no ink"):
        data.glyphs(1, letters="A ")
