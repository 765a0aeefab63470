"""Graded exercises: steps and their checks, the release for students, and the grader."""
