"""Pages run with an IPython profile of the book's own: what an author has set up for himself changes no page."""

import os
from pathlib import Path

# Kernels of one machine speak over local TCP; on each start they would warn of it.
PROFILE = 'c = get_config()\nc.IPKernelApp.log_level = "ERROR"\nc.HistoryManager.enabled = False\n'


def own_profile(app):
    folder = Path(app.outdir).parent / ".ipython"
    profile = folder / "profile_default" / "ipython_kernel_config.py"
    profile.parent.mkdir(parents=True, exist_ok=True)
    profile.write_text(PROFILE, encoding="utf-8")
    os.environ["IPYTHONDIR"] = str(folder)


def setup(app):
    app.connect("builder-inited", own_profile)
