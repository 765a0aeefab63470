"""The part of the grader that runs in the sandbox, beside a student's code.

It needs torch, numpy and nothing else of this package.

The sandbox mounts this folder alone, so nothing here may know a reference answer or import from
outside the folder.
"""

OWN_CELL = "<answer"
"""How the file name begins that the code of an answer's cell gets."""
MODULE = "module "
"""How the id of a cell begins whose code is a module that other cells may import."""
