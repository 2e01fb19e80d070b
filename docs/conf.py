"""How Sphinx makes the guide of these pages: Markdown by MyST, no request to any network, neither to build nor to read.

Equations become MathML, which browsers show without a script.
"""

from __future__ import annotations

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

project = "Reward Distiller"
author = "The Reward Distiller developers"
extensions = ["myst_parser"]
exclude_patterns = ["requirements.txt"]
myst_enable_extensions = ["dollarmath"]
myst_dmath_allow_digits = False  # $5 to $10 is money
myst_heading_anchors = 4  # of links such as teacher.md#the-ledger, named as GitHub names them
nitpicky = True
highlight_language = "text"  # of blocks that name none
html_theme = "furo"
html_title = "Reward Distiller"
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
html_math_renderer = "mathml"


def _inline(self: HTML5Translator, node: nodes.math) -> None:
    self.body.append(tex2mathml(node.astext(), as_block=False))
    raise nodes.SkipNode


def _block(self: HTML5Translator, node: nodes.math_block) -> None:
    self.body.append(f'<div style="padding: 0.4em 0">{tex2mathml(node.astext(), as_block=True)}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
