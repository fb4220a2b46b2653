"""Reports as single pages: one look for all, nothing from outside, written whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from nnunet_volf.files import replacing


def write_page(path: Path, template: Path, content: Mapping[str, Any]) -> None:
    """Fill a template and write it; whatever is not marked as safe is escaped, and nothing may be missing.

    Args:
        path: of the page.
        template: a jinja2 template, which finds the look that all pages share under the name `look`.
        content: what else the template names.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    look = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    page = environment.from_string(template.read_text(encoding="utf-8")).render(look=look, **content)
    with replacing(path) as aside:
        aside.write_text(page, encoding="utf-8", newline="\n")
