"""The exercises that are handed in: solved as they stand, and unsolved without the solutions."""

import re
from pathlib import Path

import nbformat
import pytest

EXERCISES = sorted(Path(__file__).parents[1].glob("exercises/*/*.ipynb"))
SOLUTION = re.compile(r"^( *)### BEGIN SOLUTION\n.*?### END SOLUTION$", re.DOTALL | re.MULTILINE)


def code_cells(path: Path) -> dict[str, str]:
    notebook = nbformat.read(path, as_version=4)
    return {cell.id: cell.source for cell in notebook.cells if cell.cell_type == "code"}


@pytest.mark.parametrize("path", EXERCISES, ids=lambda path: path.stem)
def test_each_answer_is_checked(path):
    """Without its solution, an answer leaves the check below it failing."""
    cells = code_cells(path)
    answers = [cell_id for cell_id in cells if cell_id.endswith("-answer")]
    assert answers, "an exercise notebook has answer cells"
    for missing in answers:
        namespace = {}
        for cell_id, source in cells.items():
            if cell_id == missing:
                source, removed = SOLUTION.subn(r"\1raise NotImplementedError", source)
                assert removed == 1, f"{cell_id}: expected one solution, found {removed}"
            if cell_id == missing.replace("-answer", "-check"):
                with pytest.raises(NotImplementedError):
                    exec(source, namespace)
            elif not cell_id.endswith("-check"):
                exec(source, namespace)
