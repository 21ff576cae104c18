"""Make the bundled subset of MNIST: ``python -m coursekit.data.make_subset path/to/mnist.npz [OUTPUT]``.

The input holds ``x_train y_train x_test y_test`` as the usual ``mnist.npz`` does. Of the pairs of neighbours, every
sixth pair of training and every second pair of test images is kept: spread over the whole set, so that no stretch of it
is favoured; and in pairs, because the training images at even and at odd places are different (their mean pixels are
0.123 and 0.139), so that any even stride would keep one kind only. The script refuses an input that is not MNIST, and
prints the checksums that the tests know.
"""

import hashlib
import struct
import sys
from pathlib import Path

import numpy as np

# MD5 of the four uncompressed files of the original distribution.
ORIGINAL_MD5 = {
    "x_train": "6bbc9ace898e44ae57da46a324031adb",
    "y_train": "a25bea736e30d166cdddb491f175f624",
    "x_test": "2646ac647ad5339dbf082846283269ea",
    "y_test": "27ae3e4e09519cfbb04c329615203637",
}
EVERY = {"train": 6, "test": 2}  # pairs of neighbours


def subset(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The bundled arrays from the full ones.

    Raises:
        ValueError: an array is not the one of MNIST, byte for byte.
    """
    for name, md5 in ORIGINAL_MD5.items():
        array = np.ascontiguousarray(arrays[name], dtype=np.uint8)
        header = struct.pack(f">{array.ndim + 1}I", 0x800 + array.ndim, *array.shape)
        found = hashlib.md5(header + array.tobytes(), usedforsecurity=False).hexdigest()
        if found != md5:
            raise ValueError(f"{name} is not that of MNIST: MD5 {found}, expected {md5}")
    return {name: arrays[name][np.arange(len(arrays[name])) // 2 % EVERY[name[2:]] == 0] for name in ORIGINAL_MD5}


def digest(array: np.ndarray) -> str:
    """SHA-256 of the bytes of an array."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def main(arguments: list[str]) -> None:
    if len(arguments) not in (1, 2):
        raise SystemExit(__doc__)
    output = Path(*arguments[1:]) if arguments[1:] else Path(__file__).parent / "bundled" / "mnist_subset.npz"
    with np.load(arguments[0]) as file:
        small = subset(dict(file))
    np.savez_compressed(output, **small)
    for name, array in small.items():
        print(name, array.shape, digest(array))
    print(output, output.stat().st_size, "bytes, SHA-256", hashlib.sha256(output.read_bytes()).hexdigest())


if __name__ == "__main__":
    main(sys.argv[1:])
