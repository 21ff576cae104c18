"""Grading: nbgrader is the engine, and nothing that it grades can break it.

    intake -> box -> score -> import -> account

`intake` copies what a student handed in and runs nothing of it. One forked process a submission (`engine`) repairs the
notebook and lets nbgrader grade it in a scratch course of its own, with the kernel in a bubblewrap box (`box`); what
comes back is JSON. One writer (`gradebook`) imports results, and `account` gives every student on the roster a row.
This package imports no torch and no method of coursekit.
"""
