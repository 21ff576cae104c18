"""What a person sees while the book is built quietly: one line a page, with the time that it took."""

import time


class Progress:
    """Pages are read one after the other, and nearly all of the time goes into running their code."""

    def __init__(self):
        self.names: list[str] = []
        self.writing = False
        self.start = self.begun = time.perf_counter()

    def begin(self, app, env, names):
        self.names = list(names)
        if not names:
            print("   no page has changed", flush=True)

    def page(self, app, name, source):
        self.start = time.perf_counter()
        if name in self.names:
            number, total = self.names.index(name) + 1, len(self.names)
            print(f"   {number:{len(str(total))}}/{total} {name} ", end="", flush=True)

    def done(self, app, doctree):
        if app.env.docname in self.names:
            print(f"({time.perf_counter() - self.start:.0f} s)", flush=True)

    def written(self, app, pagename, templatename, context, doctree):
        if not self.writing:
            self.writing = True
            print("   writing the site", flush=True)

    def finished(self, app, exception):
        if exception is None:
            print(f"   {time.perf_counter() - self.begun:.0f} s in all", flush=True)


def setup(app):
    if not app.quiet:  # Sphinx speaks for itself
        return
    progress = Progress()
    app.connect("env-before-read-docs", progress.begin)
    app.connect("source-read", progress.page, priority=0)
    app.connect("doctree-read", progress.done, priority=999)
    app.connect("html-page-context", progress.written)
    app.connect("build-finished", progress.finished)
