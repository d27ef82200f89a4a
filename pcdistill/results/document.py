"""Pages of HTML that stand alone: no script, no other file, and nothing that a name from a file could break."""

import base64
import html
import re
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

STYLE = Path(__file__).with_suffix(".css")
SVG = "{http://www.w3.org/2000/svg}"
LINK = "{http://www.w3.org/1999/xlink}href"
NEVER = re.compile(r"[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # in a page


class Markup(str):
    """Text that is HTML already; any other is escaped."""

    __slots__ = ()


def escaped(text: object) -> Markup:
    """Text as a page shows it, sign by sign, in quotes as well; signs that no page may hold are replaced."""
    return text if isinstance(text, Markup) else Markup(html.escape(NEVER.sub("\ufffd", str(text))))


def element(name: str, *inside: object, **attributes: object) -> Markup:
    """An element: `class_` is the attribute `class`, `aria_label` is `aria-label`.

    >>> element("p", "a < b", class_="note")
    '<p class="note">a &lt; b</p>'
    """
    words = [f' {key.strip("_").replace("_", "-")}="{escaped(value)}"' for key, value in attributes.items()]
    return Markup(f"<{name}{''.join(words)}>{''.join(map(escaped, inside))}</{name}>")


def page(title: str, body: Iterable[Markup]) -> str:
    """A whole document of a heading and what `body` holds."""
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"{element('title', title)}<style>\n{STYLE.read_text(encoding='utf-8')}</style>"
    )
    parts = "\n".join([element("h1", title), *body])
    return f'<!DOCTYPE html>\n<html lang="en">\n<head>{head}</head>\n<body><main>\n{parts}\n</main></body>\n</html>\n'


def region(name: str, inside: Markup) -> Markup:
    """A region that a keyboard can scroll."""
    return element("div", inside, class_="scroll", tabindex=0, role="group", aria_label=name)


def plot(svg: str, name: str, title: str, description: str, caption: Markup) -> Markup:
    """A figure of a plot.

    Args:
        svg: as matplotlib writes it.
        name: unique in the page, letters, digits and `-`.
        title, description: what is seen, for those who do not see it.
        caption: below.
    """
    shown = region(title, inlined(svg, name, title, description))
    return element("figure", shown, element("figcaption", caption), class_="plot")


def picture(png: bytes, alt: str, caption: Markup) -> Markup:
    """A figure of a picture, which is part of the page."""
    source = "data:image/png;base64," + base64.b64encode(png).decode()
    shown = Markup(f'<img src="{source}" alt="{escaped(alt)}">')
    return element("figure", shown, element("figcaption", caption), class_="picture")


def inlined(svg: str, name: str, title: str, description: str) -> Markup:
    """An SVG file of matplotlib as an element of a page.

    Its ids begin with `name`, so that those of several do not clash. What says nothing is left out: ids that nothing
    refers to, groups without attributes, comments, the description of the file, digits below a hundredth of a point.
    It is shown at its own size, or a little smaller.
    """
    root = ElementTree.fromstring(svg)
    wanted = set(re.findall(r"url\(#([^)]+)\)", svg)) | set(re.findall(r'href="#([^"]+)"', svg))
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{SVG}metadata", f"{SVG}style"):
                parent.remove(child)
    for one in root.iter():
        one.tag = one.tag.removeprefix(SVG)
        one.attrib = dict(_attributes(one, name, wanted))
        one.tail = None
        if one.tag != "text" and one.tag != "tspan":
            one.text = None
    _pruned(root)
    wide = 96 / 72 * float(root.attrib["viewBox"].split()[2])  # in CSS pixels
    root.attrib = {
        "viewBox": root.attrib["viewBox"], "role": "img", "aria-labelledby": f"{name}-title {name}-description",
        "style": f"width: 100%; min-width: {0.8 * wide:.0f}px; max-width: {wide:.0f}px; "
        "stroke-linejoin: round; stroke-linecap: butt",
    }  # fmt: skip
    for place, (tag, text) in enumerate((("title", title), ("desc", description))):
        told = ElementTree.Element(tag, id=f"{name}-{'title' if tag == 'title' else 'description'}")
        told.text = NEVER.sub("\ufffd", text)
        root.insert(place, told)
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _pruned(one: ElementTree.Element) -> list[ElementTree.Element]:
    """An element without groups that say nothing, or what is in it if it is one."""
    one[:] = [left for child in one for left in _pruned(child)]
    return list(one) if (one.tag == "g" and not one.attrib) or (one.tag == "defs" and not len(one)) else [one]


def _attributes(one: ElementTree.Element, name: str, wanted: set[str]) -> Iterable[tuple[str, str]]:
    for key, value in one.attrib.items():
        if key == "id":
            if value in wanted:
                yield key, f"{name}-{value}"
        elif key == LINK:
            yield "href", re.sub(r"^#", f"#{name}-", value).replace("\n", "")
        elif key == "style":  # the page says which font it is
            yield key, re.sub(r"font-family: [^;]*(; )?", "", value.replace("url(#", f"url(#{name}-"))
        elif key in ("d", "x", "y", "width", "height"):
            yield key, re.sub(r"-?\d+\.\d{3,}", lambda found: f"{float(found[0]):.2f}", " ".join(value.split()))
        elif not value.startswith("rotate(-0 "):
            yield key, value.replace("url(#", f"url(#{name}-")
