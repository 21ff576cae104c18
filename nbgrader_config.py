"""nbgrader on this course: `solutions/` is its source, `labs/` its release; every command of nbgrader works here."""

c = get_config()  # noqa: F821

c.CourseDirectory.course_id = "mathematics-of-deep-learning"
c.CourseDirectory.source_directory = "solutions"
c.CourseDirectory.release_directory = "labs"
# nbgrader copies whatever lies beside a source notebook to students and into graded folders: never the text source.
c.CourseDirectory.ignore = [".ipynb_checkpoints", "*.pyc", "__pycache__", ".pytest_cache", "*.py", "*.lock", "*.png"]

c.ClearSolutions.code_stub = {
    "python": "# YOUR CODE HERE\n"
    'raise NotImplementedError("Your answer is missing: write it in the place of this line, then run the cell again.")'
}
c.ClearSolutions.text_stub = "*Write your answer here: double-click, replace this line, and run the cell.*"
