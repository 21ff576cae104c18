import gzip
import hashlib
import struct

import numpy as np
import pytest
import torch

from coursekit import data
from coursekit.data import images, make_subset, remote

SHA256 = {  # printed by make_subset, and stated beside the licence
    "x_train": "ea6aae4b1cb9648af6680f52d25a79cec3334ab2dbfb8b9a44f348cbcace211f",
    "y_train": "c705aaa5a7eb056901939e0029a0da21940207e0e94a35a69aa01bb0bfc9f4f3",
    "x_test": "1b208826a9ae4d8095f67ab339a107eda0a4a2d7ebd7d2038577a17873f73356",
    "y_test": "b78923f3b0d841159da1080eb1afe06c70fb03afa8618f69fca81ac03c84800b",
}
FOLDER = images.files("coursekit.data") / "bundled"


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">{array.ndim + 1}I", 0x800 + array.ndim, *array.shape) + array.tobytes()


def test_the_bundled_file_is_the_one_that_was_made():
    with np.load(FOLDER / "mnist_subset.npz") as arrays:
        assert {name: make_subset.digest(arrays[name]) for name in arrays} == SHA256
    licence = (FOLDER / "MNIST-LICENSE.txt").read_text()
    assert "Attribution-Share Alike 3.0" in licence and all(digest in licence for digest in SHA256.values())
    assert (FOLDER / "mnist_subset.npz").stat().st_size < 3_000_000


@pytest.mark.parametrize(("split", "n"), [("train", 10_000), ("test", 5_000)])
def test_mnist_in_the_box(split, n, device):
    x, y = data.mnist(split, device=device)
    assert x.shape == (n, 1, 28, 28) and x.dtype == torch.float32 and x.device.type == device.type
    assert y.shape == (n,) and y.dtype == torch.int64 and y.device.type == device.type
    assert (float(x.min()), float(x.max())) == (0, 1)
    counts = torch.bincount(y, minlength=10) / n
    assert counts.shape == (10,) and float(counts.min()) > 0.08 and float(counts.max()) < 0.125
    with np.load(FOLDER / "mnist_subset.npz") as arrays:
        assert torch.equal((x[:50, 0].cpu() * 255).round().to(torch.uint8), torch.tensor(arrays[f"x_{split}"][:50]))


def test_normalisation_is_that_of_mnist(device):
    x, _ = data.mnist("train", device=device)
    # the two numbers belong to all 60,000 images; a sixth of them is within a few thousandths
    assert float(x.mean()) == pytest.approx(data.MEAN, abs=2e-3)
    assert float(x.std()) == pytest.approx(data.STD, abs=2e-3)
    normalized, _ = data.mnist("train", normalize=True, device=device)
    torch.testing.assert_close(normalized, (x - 0.1307) / 0.3081)
    torch.testing.assert_close(data.denormalize(normalized), x)
    assert (float(normalized.min()), float(normalized.max())) == pytest.approx(data.NORMALIZED_RANGE, abs=1e-6)


def test_the_maker_keeps_pairs_and_refuses_what_is_not_mnist(monkeypatch):
    arrays = {
        "x_train": np.arange(48, dtype=np.uint8).reshape(24, 2, 1),
        "y_train": np.arange(24, dtype=np.uint8),
        "x_test": np.arange(6, dtype=np.uint8).reshape(6, 1, 1),
        "y_test": np.arange(6, dtype=np.uint8),
    }
    with pytest.raises(ValueError, match="x_train is not that of MNIST"):
        make_subset.subset(arrays)
    known = {name: hashlib.md5(idx(array)).hexdigest() for name, array in arrays.items()}
    monkeypatch.setattr(make_subset, "ORIGINAL_MD5", known)
    small = make_subset.subset(arrays)
    assert small["y_train"].tolist() == [0, 1, 12, 13] and small["y_test"].tolist() == [0, 1, 4, 5]
    assert small["x_train"][2].ravel().tolist() == [24, 25]


@pytest.mark.parametrize("function", [data.mnist, data.kmnist, data.fashion_mnist])
def test_an_unknown_split_is_named(function):
    with pytest.raises(ValueError, match="'validation'"):
        function("validation")


@pytest.fixture
def offline_cache(tmp_path, monkeypatch):
    """An empty cache, and mirrors that answer from a folder of this machine; returns (cache, mirror)."""
    monkeypatch.setattr(remote, "cache_folder", lambda name: tmp_path / "cache" / name)
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    return tmp_path / "cache", mirror


def make_source(mirror, *, mirrors) -> remote.RemoteImages:
    md5 = {}
    for prefix, n in (("train", 6), ("t10k", 4)):
        pixels = (np.arange(n * 784) % 256).astype(np.uint8).reshape(n, 28, 28)
        for name, array in (
            (f"{prefix}-images-idx3-ubyte.gz", pixels),
            (f"{prefix}-labels-idx1-ubyte.gz", np.arange(n, dtype=np.uint8)),
        ):
            (mirror / name).write_bytes(gzip.compress(idx(array)))
            md5[name] = hashlib.md5((mirror / name).read_bytes()).hexdigest()
    return remote.RemoteImages("small", "none", mirrors, md5)


def test_the_second_mirror_serves_when_the_first_is_gone(offline_cache, monkeypatch):
    cache, mirror = offline_cache
    served = serve(mirror, monkeypatch)
    source = make_source(mirror, mirrors=("http://gone.invalid/", "http://here.invalid/"))
    pixels, labels = remote.fetch(source, "test")
    assert pixels.shape == (4, 28, 28) and labels.tolist() == [0, 1, 2, 3]
    assert pixels.reshape(-1)[:3].tolist() == [0, 1, 2]
    assert served == ["http://gone.invalid/", "http://here.invalid/"] * 2
    served.clear()
    remote.fetch(source, "test")  # from the cache now
    assert served == []
    monkeypatch.setattr(remote, "MNIST", source)
    x, y = data.mnist("test", full=True, normalize=True)
    assert x.shape == (4, 1, 28, 28) and y.tolist() == [0, 1, 2, 3]
    assert float(x[0, 0, 0, 1]) == pytest.approx((1 / 255 - 0.1307) / 0.3081)


def test_a_file_with_another_checksum_is_refused(offline_cache, monkeypatch):
    cache, mirror = offline_cache
    serve(mirror, monkeypatch)
    source = make_source(mirror, mirrors=("http://here.invalid/",))
    (mirror / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.ones(4, dtype=np.uint8))))
    with pytest.raises(ConnectionError, match="ValueError"):
        remote.fetch(source, "test")
    assert not (cache / "small" / "t10k-labels-idx1-ubyte.gz").exists()


def test_offline_the_message_says_what_was_tried_and_what_to_do(offline_cache, monkeypatch):
    _, mirror = offline_cache
    serve(mirror, monkeypatch)
    for name, function, source in (
        ("mnist", lambda: data.mnist(full=True), remote.MNIST),
        ("kmnist", data.kmnist, remote.KMNIST),
        ("fashion_mnist", data.fashion_mnist, remote.FASHION_MNIST),
    ):
        assert len(source.mirrors) >= 2
        with pytest.raises(ConnectionError) as failure:
            function()
        message = str(failure.value)
        assert message.startswith(name) and "data.glyphs()" in message
        assert all(address in message for address in source.mirrors)


def serve(mirror, monkeypatch) -> list[str]:
    """Let pooch take files from ``mirror`` for the host here.invalid, and fail for every other."""
    import pooch
    import requests

    asked = []

    class Local:
        def __call__(self, url, output_file, pooch):
            host, name = url.rsplit("/", 1)
            asked.append(f"{host}/")
            if "here.invalid" not in host:
                raise requests.exceptions.ConnectionError(url)
            with open(output_file, "wb") as file:
                file.write((mirror / name).read_bytes())

    monkeypatch.setattr(pooch.core, "choose_downloader", lambda url, progressbar=False: Local())
    return asked


def test_checksums_have_the_form_of_md5_and_do_not_repeat():
    sums = [s for source in (remote.MNIST, remote.KMNIST, remote.FASHION_MNIST) for s in source.md5.values()]
    assert len(set(sums)) == 12 and all(len(s) == 32 and int(s, 16) for s in sums)


def test_idx_files_are_checked(tmp_path):
    path = tmp_path / "file.gz"
    for content, message in ((b"<html>", "no IDX file"), (idx(np.zeros((2, 2), np.uint8))[:-1], "announces")):
        path.write_bytes(gzip.compress(content))
        with pytest.raises(ValueError, match=message):
            remote.read_idx(path)
