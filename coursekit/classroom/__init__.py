"""From a lab's source to a course grade: nbgrader is the engine, and nothing that it grades can break it.

    intake -> grade (sandbox, judge) -> records -> pages

`intake` reads what a student handed in and runs nothing of it. One forked process a submission (`grade.submission`)
repairs the notebook and lets nbgrader grade it in a scratch course of its own, with the kernel in a bubblewrap box
(`sandbox`); what comes back is JSON. One writer (`records.gradebook`) imports results, and `records.grades` gives every
student on the roster a row. Inside this house sandbox, then judge and records, then labs, then intake and pages, then
grade, then commands: each stands only on what comes before it. It imports no torch and no method of coursekit.
"""
