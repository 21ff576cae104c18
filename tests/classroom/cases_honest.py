"""Honest students whose habits a grader could take for an attack: full marks, no flag."""

from bench import FULL, GRADED, case
from nbformat.v4 import new_code_cell as code


def after_first(lab, nb, source):
    nb.cells.insert(lab.where(nb, next(iter(lab.tests))) + 1, code(source))
    return nb


def _honest(name, src, note=""):
    def f(lab, folder):
        return after_first(lab, lab.right(), src)

    f.__name__ = name
    f.__doc__ = note
    case(GRADED, FULL)(f)


_honest(
    "honest_variable_called_sum",
    "sum = 0\nfor k in range(3):\n    sum += k\nprint(sum)\n",
    note="a global variable `sum`",
)
_honest("honest_variable_called_list", "list = [1, 2, 3]\nprint(list)", note="a global variable `list`")
_honest(
    "honest_variable_called_max", "max = float(x_line.max())\nmin = float(x_line.min())", note="global `max`, `min`"
)
_honest("honest_variable_called_type", "type = 'linear'", note="a global variable `type`")
_honest("honest_from_numpy_import_star", "from numpy import *", note="from numpy import *")
_honest("honest_from_torch_import_star", "from torch import *", note="from torch import *")
_honest("honest_pylab", "%pylab inline", note="%pylab inline")
_honest(
    "honest_strict_floats_and_warnings",
    "import warnings, numpy as np\nnp.seterr(all='raise')\nwarnings.simplefilter('error')",
    note="np.seterr(all='raise'), warnings as errors",
)
_honest(
    "honest_shows_all_expressions",
    "from IPython.core.interactiveshell import InteractiveShell\nInteractiveShell.ast_node_interactivity = 'all'",
    note="ast_node_interactivity = all",
)
_honest("honest_autoreload", "%load_ext autoreload\n%autoreload 2", note="%autoreload 2")
_honest(
    "honest_float32_default",
    "torch.set_default_dtype(torch.float32)",
    note="default dtype changed (tests may depend on it)",
)
_honest(
    "honest_prints_half_characters", "print('emoji half \\ud83d', 'nul \\0')", note="lone surrogate and NUL printed"
)
_honest(
    "honest_thread_pools",
    "torch.set_num_threads(32)\nfrom concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor(40) as p: print(sum(p.map(lambda k: k, range(1000))))",
    note="many threads",
)
_honest(
    "honest_sympy_style_names",
    "import math\nfrom math import *\nfrom statistics import *",
    note="from math import *, statistics",
)
_honest("honest_nest_and_await", "import asyncio\nawait asyncio.sleep(0.1)\nprint('awaited')", note="top-level await")
_honest(
    "honest_own_traceback_mode",
    "%xmode Verbose\n%precision 3\n%config InlineBackend.figure_format = 'svg'",
    note="xmode, precision, svg figures",
)
_honest(
    "honest_ipython_trait_interactivity_assign",
    "get_ipython().ast_node_interactivity = 'last_expr_or_assign'",
    note="assignments displayed",
)
_honest(
    "honest_own_exception_hook",
    "def h(self, etype, value, tb, tb_offset=None):\n    print('oops', value)\n    self.showtraceback((etype, value, tb), tb_offset=tb_offset)\nget_ipython().set_custom_exc((Exception,), h)",
    note="a custom exception handler that prints",
)
_honest(
    "honest_rich_traceback",
    "import sys\ntry:\n    from rich.traceback import install\n    install()\nexcept ImportError:\n    print('no rich')",
    note="rich tracebacks",
)
_honest(
    "honest_ipython_post_hook",
    "get_ipython().events.register('post_run_cell', lambda r: print('took a while'))",
    note="post_run_cell hook that prints",
)


@case(GRADED, FULL)
def honest_output_widget_and_display_handle(lab, folder):
    """an answer that shows progress with a display handle, an Output widget and clear_output(wait=True)"""
    nb = lab.right()
    for c in nb.cells:
        if "def phi_linear" in c.source:
            c.source += """
import ipywidgets
from IPython.display import clear_output
_phi, _h, _o = phi_linear, display("progress", display_id="p"), ipywidgets.Output()
def phi_linear(x):
    _h.update("called")
    display("again", display_id="q")
    clear_output(wait=True)
    with _o:
        print("inside")
    return _phi(x)
"""
    nb.cells.append(
        code(
            "from IPython.display import update_display\nupdate_display('late', display_id='q')\nupdate_display('late', display_id='p')"
        )
    )
    return nb


@case(GRADED, FULL)
def honest_function_called_hidden(lab, folder):
    """a student's helper is called `hidden` (the tests define and delete that name)"""
    nb = lab.right()
    for c in nb.cells:
        if "def noise_precision" in c.source:
            c.source = "def hidden(s):\n    return s * s\ndef noise_precision(s):\n    return 1 / hidden(s)\n"
    return nb


@case(GRADED, FULL)
def honest_names_used_by_tests(lab, folder):
    """a student uses names x, t, rng, answer, hint, phi, target for own things between tests"""
    return after_first(lab, lab.right(), "x = t = rng = answer = hint = phi = target = pair = now = 'mine'")
