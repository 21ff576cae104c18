"""Keeps the built site on its own host: formulas, scripts and fonts show offline, and no reader is tracked."""

import re

from sphinx.util import logging

logger = logging.getLogger(__name__)
FOREIGN = re.compile(r"^(https?:)?//")


def without_thebe(app, config):
    """Jupyter Book always adds Thebe, which runs cells on a server of somebody else: take its handlers out."""
    for listeners in app.events.listeners.values():
        listeners[:] = [e for e in listeners if not e.handler.__module__.startswith("sphinx_thebe")]


def only_local(app, pagename, templatename, context, doctree):
    """Drop any asset that another host would serve, and warn of it (which is an error in our builds)."""
    for name in ("script_files", "css_files"):
        kept = []
        for asset in context.get(name, []):
            uri = str(getattr(asset, "filename", None) or "")
            if "sphinx-thebe" in uri:
                continue
            if FOREIGN.match(uri):
                logger.warning("%s would load %s from another host", pagename, uri, type="coursebook")
            else:
                kept.append(asset)
        context[name] = kept


def setup(app):
    app.connect("config-inited", without_thebe)
    app.connect("html-page-context", only_local, priority=900)
