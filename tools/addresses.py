"""Where the book and its repository live: read from ``_config.yml``, written nowhere else."""

from pathlib import Path
from typing import NamedTuple

import yaml

ROOT = Path(__file__).parents[1]


class Addresses(NamedTuple):
    """What ``_config.yml`` says.

    Args:
        repository: Address of the repository, without a slash at its end.
        branch: The branch that readers get.
        published: Address of the start page's folder, with a slash at its end.
    """

    repository: str
    branch: str
    published: str

    @property
    def folder(self) -> str:
        """The folder that a clone of the repository makes."""
        return self.repository.rpartition("/")[2]


def addresses() -> Addresses:
    """Read the addresses."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    repository = config["repository"]
    return Addresses(repository["url"], repository["branch"], config["html"]["baseurl"])
