"""Data sets fetched on demand: every file against a published checksum, from the first mirror that answers."""

import gzip
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class RemoteImages:
    """Where the four files of an MNIST-like set lie, their MD5 checksums, and what the licence asks."""

    name: str
    licence: str
    mirrors: tuple[str, ...]
    md5: dict[str, str]


# The checksums are those that torchvision.datasets.mnist publishes for the same files.
MNIST = RemoteImages(
    name="mnist",
    licence="CC BY-SA 3.0, Yann LeCun and Corinna Cortes",
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "https://raw.githubusercontent.com/fgnt/mnist/master/",
    ),
    md5={
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    },
)
KMNIST = RemoteImages(
    name="kmnist",
    licence="CC BY-SA 4.0, KMNIST Dataset, Center for Open Data in the Humanities",
    mirrors=(
        "https://codh.rois.ac.jp/kmnist/dataset/kmnist/",
        "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
        "https://huggingface.co/datasets/tanganke/kmnist/resolve/756d43e894032ce8838db8b32e7500c9c3b5d050/raw/",
    ),
    md5={
        "train-images-idx3-ubyte.gz": "bdb82020997e1d708af4cf47b453dcf7",
        "train-labels-idx1-ubyte.gz": "e144d726b3acfaa3e44228e80efcd344",
        "t10k-images-idx3-ubyte.gz": "5c965bf0a639b31b8f53240b1b52f4d7",
        "t10k-labels-idx1-ubyte.gz": "7320c461ea6c1c855c0b718fb2a4b134",
    },
)
FASHION_MNIST = RemoteImages(
    name="fashion_mnist",
    licence="MIT, Zalando SE",
    mirrors=(
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ),
    md5={
        "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
    },
)


def fetch(source: RemoteImages, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 28, 28) and labels (N,) of one split, as uint8; from the local cache once they are there.

    Raises:
        ConnectionError: no mirror gave the file with the right checksum; the message lists what was tried.
    """
    prefix = {"train": "train", "test": "t10k"}[split]
    images = read_idx(_download(source, f"{prefix}-images-idx3-ubyte.gz"))
    labels = read_idx(_download(source, f"{prefix}-labels-idx1-ubyte.gz"))
    return images, labels


def cache_folder(name: str) -> Path:
    """Where the files of a data set are kept: a folder of the user's cache that belongs to the kit."""
    import pooch

    return Path(pooch.os_cache("coursekit")) / name


def read_idx(path: str | Path) -> np.ndarray:
    """The array of bytes in a gzipped IDX file: two zero bytes, type 8, rank, sizes as big-endian 32-bit, data.

    Raises:
        ValueError: not such a file.
    """
    with gzip.open(path) as file:
        raw = file.read()
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path} is no IDX file of bytes (it begins with {raw[:4]!r}); delete it and try again")
    start = 4 + 4 * raw[3]
    shape = np.frombuffer(raw[4:start], dtype=">u4").astype(int)
    if len(raw) - start != shape.prod():
        raise ValueError(f"{path} announces shape {tuple(shape)} and holds {len(raw) - start} bytes")
    return np.frombuffer(raw, dtype=np.uint8, offset=start).reshape(shape)


def _download(source: RemoteImages, filename: str) -> str:
    import pooch

    pooch.get_logger().setLevel(logging.WARNING)  # it announces each download on stderr otherwise
    folder = cache_folder(source.name)
    failures = []
    for mirror in source.mirrors:
        try:
            return pooch.retrieve(mirror + filename, f"md5:{source.md5[filename]}", fname=filename, path=folder)
        except (OSError, ValueError) as error:  # requests' errors are OSErrors; ValueError: wrong checksum
            failures.append(f"  {mirror}{filename}: {type(error).__name__}")
    raise ConnectionError(
        f"{source.name} could not be downloaded. Tried:\n" + "\n".join(failures) + "\n"
        "Offline, use what ships with the kit: data.mnist() without full=True, and data.glyphs() as a foreign set. "
        f"Or put the file into {folder} by hand (MD5 {source.md5[filename]})."
    )
