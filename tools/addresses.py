"""Addresses of the published book and of its repository, from environment variables.

No file holds an address: an address that nobody owns could be claimed by anybody, and notebooks
install from it. Three variables of the environment tell it to the build and to the tools:

- ``BOOK_REPOSITORY``: the address of the repository, such as ``https://github.com/OWNER/NAME``;
- ``BOOK_BRANCH``: the branch that readers get, ``main`` unless it is set;
- ``BOOK_SITE``: the address of the folder with the start page.

Without them the pages have no launch, repository or issue buttons, no canonical addresses and no
links to Colab. As an extension of Sphinx this module configures the theme.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
BINDER = "https://mybinder.org"
COLAB = "https://colab.research.google.com"
GITHUB = "https://github.com/"


class Addresses(NamedTuple):
    """The addresses; those that are not known are empty.

    Args:
        repository: Address of the repository, without a slash at its end.
        branch: The branch that readers get.
        site: Address of the start page's folder, with a slash at its end.
    """

    repository: str
    branch: str
    site: str

    @property
    def folder(self) -> str:
        """The folder that a clone of the repository makes."""
        return self.repository.rpartition("/")[2]

    def on_colab(self, path: str) -> str:
        """Return the address that opens a notebook of the repository on Colab, if it can."""
        if not self.repository.startswith(GITHUB):
            return ""
        name = self.repository.removeprefix(GITHUB)
        return f"{COLAB}/github/{name}/blob/{self.branch}/{path}"


def addresses(variables: Mapping[str, str] = os.environ) -> Addresses:
    """Read the addresses from the environment.

    Raises:
        ValueError: A variable holds something else than an address.
    """
    repository, site = (_address(name, variables) for name in ("BOOK_REPOSITORY", "BOOK_SITE"))
    branch = variables.get("BOOK_BRANCH") or "main"
    return Addresses(repository, branch, site and f"{site}/")


def _address(name: str, variables: Mapping[str, str]) -> str:
    value = variables.get(name, "")
    if value and not re.fullmatch(r"https?://[^\s/]+(/\S*)?", value):
        raise ValueError(f"{name}: expected an address such as https://example.org, got {value!r}")
    return value.rstrip("/")


def configure(_app, config):
    """Pass the addresses to the theme, and enable the buttons that need them."""
    known = addresses()
    config.known_addresses = list(known)
    config.html_baseurl = known.site
    on_github = known.repository.startswith(GITHUB)
    config.html_theme_options |= {
        "repository_url": known.repository,
        "repository_branch": known.branch,
        "use_repository_button": bool(known.repository),
        "use_issues_button": on_github,
    }
    if on_github:
        launch = config.html_theme_options.setdefault("launch_buttons", {})
        launch |= {"binderhub_url": BINDER, "colab_url": COLAB}


def setup(app):
    """Connect to the build."""
    app.add_config_value("known_addresses", [], "env")  # pages are read again if they change
    app.connect("config-inited", configure, priority=100)  # before others look at the addresses
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
