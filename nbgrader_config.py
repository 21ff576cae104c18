"""nbgrader on this course: `solutions/` is its source, `labs/` its release; every command of nbgrader works here."""

import os
import sys

# nbgrader, and so the formgrader, calls `alembic` by its name: let it find the one of this Python, activated or not.
if (scripts := os.path.dirname(sys.executable)) not in os.environ.get("PATH", "").split(os.pathsep):
    os.environ["PATH"] = os.pathsep.join((scripts, os.environ.get("PATH", os.defpath)))

c = get_config()  # noqa: F821

c.CourseDirectory.course_id = "mathematics-of-deep-learning"
c.CourseDirectory.source_directory = "solutions"
c.CourseDirectory.release_directory = "labs"
# nbgrader copies whatever lies beside a source notebook to students and into graded folders: never the text source.
c.CourseDirectory.ignore = [".ipynb_checkpoints", "*.pyc", "__pycache__", ".pytest_cache"]
c.CourseDirectory.ignore += ["*.py", "*.lock", "*.png", "*.md"]
c.CourseDirectory.ignore += ["judge"]  # a lab's folder of what its judge alone reads

c.ClearSolutions.code_stub = {
    "python": "# YOUR CODE HERE\n"
    'raise NotImplementedError("Your answer is missing: write it in the place of this line, then run the cell again.")'
}
c.ClearSolutions.text_stub = "*Write your answer here: double-click, replace this line, and run the cell.*"

# What one submission may use: `coursekit autograde` holds every limit and names the one that was reached. A cell may
# run for a minute, a notebook for ten; coursekit/classroom/sandbox/limits.py lists the others.
c.CourseKit.cell_seconds = 60
c.CourseKit.total_seconds = 600
# The course grade: `coursekit export --final`.
c.CourseKit.labs_weight = 0.3
c.CourseKit.exam_weight = 0.7

# For whoever calls `nbgrader autograde` itself: a warning costs no points, and deleted tests come back. But it runs
# what students wrote as you, with all your files in reach; `coursekit autograde` does not.
c.Execute.timeout = 60
c.OverwriteCells.add_missing_cells = True
c.IgnorePattern.enabled = True
c.IgnorePattern.pattern = r"(?s).*"
# What students wrote is shown in the formgrader; a script in it would run in the browser of whoever grades.
c.HTMLExporter.sanitize_html = True
c.HTMLExporter.filters = {
    "markdown2html": "coursekit.classroom.pages.formgrader.markdown2html",
    "clean_html": "coursekit.classroom.pages.html.clean_html",
}
