"""Modules that need no tensors import without torch, so that they answer at once."""

import subprocess
import sys
from pathlib import Path

import pytest

import seqbook.data

WITH_TORCH = {"batches", "synthetic"}
DATA = sorted(path.stem for path in Path(seqbook.data.__file__).parent.glob("[!_]*.py"))
MODULES = [
    "seqbook.data",
    *(f"seqbook.data.{name}" for name in DATA if name not in WITH_TORCH),
    "seqbook.training.recipes",
    "seqbook.compression.archive",
    "seqbook.cli",
    "stepgrader.batch",
    "stepgrader.overview",
]


@pytest.mark.parametrize("module", MODULES)
def test_a_module_without_tensors_does_not_import_torch(module):
    script = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
