"""Sphinx extension of the course book: quizzes, the Evidence page, and a site that loads nothing from elsewhere."""

import os

from . import evidence, kernels, labs, notebook, offline, progress, proofs, quiz, references, typography


def setup(app):
    # Kernels inherit this. A backend set for scripts would keep the figures of the pages from being shown.
    os.environ.pop("MPLBACKEND", None)
    # The small networks of the course crawl on many threads.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # Build matplotlib's font cache here, once: a kernel would announce it on stderr, and that fails the build.
    import matplotlib.font_manager  # noqa: F401

    for part in (progress, kernels, quiz, evidence, labs, notebook, proofs, references, typography, offline):
        part.setup(app)
    return {"version": "1", "env_version": 4, "parallel_read_safe": True, "parallel_write_safe": True}
