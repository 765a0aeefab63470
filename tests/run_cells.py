"""Run notebooks in IPython, one after the other in one process, and print what each cell prints.

Standard input holds JSON: ``released``, a folder of released exercises, and ``notebooks``, each a
list of sources. Standard output holds a list of outputs for each notebook.
"""

import dataclasses
import json
import sys
from pathlib import Path

from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from seqbook import exercises
from stepgrader.worker.process_state import original_libraries, usual_settings


def run(sources):
    with usual_settings(), original_libraries().restored():
        return run_in_shell(sources)


def run_in_shell(sources):
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
    sys.path.insert(0, "")  # as in a notebook's kernel
    exercises.COURSE = dataclasses.replace(exercises.COURSE, released=Path(request["released"]))
    json.dump([run(sources) for sources in request["notebooks"]], sys.stdout)
