import pytest
import torch

from coursekit.data import toy


def fresh():
    return torch.Generator().manual_seed(5)


def test_line_and_hole_follow_the_true_line():
    for x, t in (toy.line(30, noise_std=0.0, generator=fresh()), toy.hole(20, noise_std=0.0, generator=fresh())):
        torch.testing.assert_close(t, -0.3 + 0.5 * x, rtol=0, atol=0)
    x, _ = toy.hole(21, generator=fresh())
    assert bool(((x.abs() >= 1) & (x.abs() <= 3)).all())
    assert int((x < 0).sum()) == 10


def test_noise_has_the_stated_standard_deviation():
    x, t = toy.sinus(100_000, noise_std=0.2, generator=fresh())
    assert float((t - toy.sinus_truth(x)).std()) == pytest.approx(0.2, rel=0.01)
    assert float(x.min()) >= 0
    assert float(x.max()) <= 1


@pytest.mark.parametrize("make", [toy.line, toy.hole, toy.sinus, toy.blobs, toy.moons, toy.rings])
def test_the_same_generator_gives_the_same_points(make):
    first, second = make(17, generator=fresh()), make(17, generator=fresh())
    assert len(first[0]) == len(first[1]) == 17
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert first[0].dtype == torch.float64


def test_blobs_have_their_centres_and_spread():
    x, y = toy.blobs(40_000, generator=fresh())
    for k, centre in enumerate([(-2.0, -2.0), (2.0, 2.0)]):
        cloud = x[y == k]
        torch.testing.assert_close(cloud.mean(0), torch.tensor(centre).double(), rtol=0, atol=0.03)
        torch.testing.assert_close(cloud.std(0), torch.full((2,), 0.8).double(), rtol=0.02, atol=0)


def test_moons_are_two_half_circles():
    x, y = toy.moons(500, noise_std=0.0, generator=fresh())
    centre = torch.where(y[:, None] == 1, torch.tensor([1.0, 0.5]).double(), torch.zeros(2).double())
    torch.testing.assert_close((x - centre).norm(dim=1), torch.ones(500).double())
    assert bool((x[y == 0][:, 1] >= 0).all())
    assert bool((x[y == 1][:, 1] <= 0.5).all())


def test_rings_have_their_radii():
    x, y = toy.rings(100, generator=fresh())
    torch.testing.assert_close(x.norm(dim=1), torch.tensor([1.0, 2.5]).double()[y])


def test_classes_are_balanced_and_shuffled():
    _, y = toy.blobs(101, generator=fresh())
    assert y.bincount().tolist() == [51, 50]
    assert y.tolist() != sorted(y.tolist())
    assert y[:20].tolist() != [0, 1] * 10


def test_bad_input_says_so():
    with pytest.raises(ValueError, match="n=-1"):
        toy.line(-1, generator=fresh())
    with pytest.raises(ValueError, match="standard deviation"):
        toy.moons(4, noise_std=-0.1, generator=fresh())
