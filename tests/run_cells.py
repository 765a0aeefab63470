"""Run notebooks in IPython, one after the other in one process, and print what each cell prints.

Standard input holds JSON: ``released``, a folder of released exercises, and ``notebooks``, each a
list of sources. Standard output holds a list of outputs for each notebook.
"""

import dataclasses
import json
import sys
from pathlib import Path

import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from seqbook import exercises


def run(sources):
    torch.set_default_dtype(torch.float32)
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance()
    outputs = []
    for source in sources:
        with capture_output() as output:
            shell.run_cell(source, store_history=True)
        outputs.append(output.stdout)
    return outputs


if __name__ == "__main__":
    request = json.load(sys.stdin)
    exercises.COURSE = dataclasses.replace(exercises.COURSE, released=Path(request["released"]))
    json.dump([run(sources) for sources in request["notebooks"]], sys.stdout)
