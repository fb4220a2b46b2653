"""The documentation as a site: ``sphinx-build -W --keep-going -n docs build/docs``.

Sphinx and not MkDocs, which, like its theme Material, is in maintenance mode. The pages are Markdown (MyST), and
readable as they are where the repository is shown.
"""

from importlib.metadata import version as version_of
from typing import Any

project = "nnunet-volf"
author = "The nnunet-volf authors"
copyright = "The nnunet-volf authors, Apache-2.0"  # noqa: A001 - the name that Sphinx reads
release = version = version_of("nnunet-volf")

extensions = ["myst_parser", "sphinx_argparse_cli"]
exclude_patterns = ["build"]

# Links to titles work as they do where the repository is shown: `page.md#the-title`.
myst_heading_anchors = 4

smartquotes = False  # they would turn --for into a dash and a word

html_theme = "furo"
html_title = f"{project} {version}"
html_show_sphinx = False
html_copy_source = False


def setup(app: Any) -> None:
    """Lead links to the two pages beside this folder to where they are in the site."""
    app.connect("source-read", _point_into_the_site)


def _point_into_the_site(_app: Any, _page: str, source: list[str]) -> None:
    for outside, inside in (("../README.md", "index.md"), ("../CHANGELOG.md", "changelog.md")):
        source[0] = source[0].replace(f"]({outside}", f"]({inside}")
