"""Graded exercises for any course: steps with known mistakes, and a grader that runs them safely.

An author writes a notebook with marked solutions and a list of steps (``steps``), from which the
release for students is made (``exercises``). Students check their answers in the notebook
(``checker``). Instructors grade a folder of submissions (``batch``): each answer runs in a sandbox
(``sandbox`` and, within it, ``worker``), and its outcome is compared outside (``judge``). A course
is a folder of released exercises (``course``), and its command line adds ``commands``.
"""
