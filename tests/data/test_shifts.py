import math

import pytest
import torch

from coursekit import data


@pytest.fixture
def digits(device) -> torch.Tensor:
    return data.mnist("test", device=device)[0][:40]


@pytest.mark.parametrize("kind", list(data.SHIFTS))
def test_shifts_give_images_and_leave_the_input(kind, digits):
    before = digits.clone()
    for severity in range(6):
        x = data.shift(digits, kind, severity, generator=torch.Generator().manual_seed(0))
        assert x.shape == digits.shape and x.dtype == digits.dtype and x.device == digits.device
        assert float(x.min()) >= 0 and float(x.max()) <= 1
        assert torch.equal(digits, before) and x.data_ptr() != digits.data_ptr()


@pytest.mark.parametrize("kind", list(data.SHIFTS))
def test_shifts_are_graded(kind, digits):
    distance = [
        float((data.shift(digits, kind, s, generator=torch.Generator().manual_seed(0)) - digits).square().mean())
        for s in range(6)
    ]
    assert distance[0] == 0
    assert all(far > 1.02 * near for near, far in zip(distance[:-1], distance[1:], strict=True)), distance


def test_permutation_is_one_for_all_images_and_the_same_each_time(digits):
    x = data.permute(digits)
    assert torch.equal(data.permute(digits), x)
    # pixel k of every image goes to the same place: a batch of one-pixel images shows where
    places = torch.eye(784, device=digits.device).view(784, 1, 28, 28)
    order = data.permute(places).flatten(1)
    assert torch.equal(order.sum(0), torch.ones(784, device=digits.device))
    torch.testing.assert_close(digits.flatten(1) @ order, x.flatten(1))
    assert not torch.equal(data.permute(digits, generator=torch.Generator().manual_seed(5)), x)
    half = data.permute(places, 0.5).flatten(1)
    assert 784 / 2 <= int(half.diagonal().sum()) <= 784 / 2 + 12  # half stay; of the others one or so by chance
    assert torch.equal(data.permute(digits, 0.0), digits)


def test_rotation_by_quarter_turns_and_back(digits):
    torch.testing.assert_close(data.rotate(digits, 90), torch.rot90(digits, 1, (2, 3)), atol=1e-4, rtol=0)
    torch.testing.assert_close(data.rotate(digits, -90), torch.rot90(digits, -1, (2, 3)), atol=1e-4, rtol=0)
    torch.testing.assert_close(data.rotate(digits, 360), digits, atol=1e-4, rtol=0)
    wide = torch.zeros(1, 1, 11, 21, dtype=torch.float64)
    wide[..., 5, 14] = 1  # four pixels to the right of the centre goes four pixels up
    turned = data.rotate(wide, 90)
    assert float(turned[..., 1, 10]) == pytest.approx(1, abs=1e-9)


def test_blur_is_a_gaussian():
    x = torch.zeros(1, 1, 41, 41, dtype=torch.float64)
    x[..., 20, 20] = 1
    sigma = 2.0
    rows = torch.arange(41, dtype=torch.float64) - 20
    expected = torch.exp(-0.5 * (rows[:, None] ** 2 + rows**2) / sigma**2) / (2 * math.pi * sigma**2)
    torch.testing.assert_close(data.blur(x, sigma)[0, 0], expected, atol=2e-5, rtol=0)
    torch.testing.assert_close(data.blur(torch.ones_like(x), 2.0)[..., 20, 20], x[..., 20, 20])  # no loss inside
    two = torch.rand(2, 3, 9, 9)
    torch.testing.assert_close(data.blur(two)[1, 2], data.blur(two[1:, 2:])[0, 0])


def test_noise_is_gaussian_and_follows_the_generator(device):
    x = torch.full((1, 1, 300, 300), 0.5, device=device)
    y = data.noise(x, 0.1, generator=torch.Generator().manual_seed(0))
    assert torch.equal(y, data.noise(x, 0.1, generator=torch.Generator().manual_seed(0)))
    assert float((y - x).mean()) == pytest.approx(0, abs=4 * 0.1 / 300)
    assert float((y - x).std()) == pytest.approx(0.1, rel=0.01)


def test_inversion(digits):
    assert torch.equal(data.invert(digits), 1 - digits)
    torch.testing.assert_close(data.invert(data.invert(digits, 0.2), 1.0), 1 - data.invert(digits, 0.2))


def test_bad_requests_are_named(digits):
    with pytest.raises(ValueError, match="shift first, then normalize"):
        data.shift(data.normalize(digits), "noisy", 1)
    with pytest.raises(ValueError, match="blurred"):
        data.shift(digits, "foggy", 1)
    for severity in (-1, 6, 1.5):
        with pytest.raises(ValueError, match="severity"):
            data.shift(digits, "noisy", severity)
    with pytest.raises(TypeError, match="float"):
        data.rotate((digits * 255).to(torch.uint8), 3)
    with pytest.raises(ValueError, match="N, C, H, W"):
        data.blur(digits[0])
    with pytest.raises(ValueError, match="values from"):
        data.noise(digits * math.nan)
    for call in (lambda: data.permute(digits, 1.5), lambda: data.invert(digits, -1), lambda: data.noise(digits, -1)):
        with pytest.raises(ValueError, match="expected a number from"):
            call()
