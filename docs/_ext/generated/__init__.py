"""What these pages take from the package itself: commands, options, docstrings, papers, and numbers of records.

Directives write Markdown, which is parsed in place; so this extension is for MyST pages. A part of the package
that is registered and stands on no page is a warning, with which the build fails.
"""

from typing import Any

from sphinx.application import Sphinx

from generated import autodoc, directives, elsewhere, parts


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    for name, directive in directives.DIRECTIVES.items():
        app.add_directive(name, directive)
    app.add_role("cite", directives.Cite())
    app.connect("include-read", directives.point_to_the_folder)
    app.connect("env-purge-doc", parts.forget)
    app.connect("env-merge-info", parts.merge)
    app.connect("env-check-consistency", parts.complain)
    autodoc.connect(app)
    elsewhere.connect(app)
    return {"version": "1", "env_version": 1, "parallel_read_safe": True, "parallel_write_safe": True}
