"""What somebody reads on a page of ours: its text, one block a line, and the outline of its figures."""

import json
from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any

_INLINE = {"a", "b", "br", "code", "em", "i", "label", "small", "span", "strong", "sub", "sup", "svg", "path", "circle"}
_ALTERNATIVES = ("alt", "aria-label", "title")
_CELLS = {"td", "th"}


class Page(HTMLParser):
    """Reads one page: its elements, `lines` of text without scripts and styles, its scripts, and what these draw."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.scripts: list[str] = []
        self.figures: Mapping[str, Any] = {}
        self._line = ""
        self._within: str | None = None  # the element whose text is read otherwise: pre, script, style
        self._is_figures = False
        self.feed(html)
        self._end_line()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.attributes += attrs
        self.scripts += [""] if tag == "script" else []
        if tag in _CELLS:
            self._line += " | " if self._line.strip() else ""
        elif tag not in _INLINE:
            self._end_line()
        self._line += "".join(f"[{name}: {given[name]}] " for name in _ALTERNATIVES if given.get(name))
        if tag in ("pre", "script", "style"):
            self._within, self._is_figures = tag, given.get("id") == "figures"

    def handle_endtag(self, tag: str) -> None:
        if tag == self._within:
            self._within = None
            if self._is_figures:
                self.figures, self._is_figures = json.loads(self.scripts[-1]), False
        if tag not in _INLINE and tag not in _CELLS:
            self._end_line()

    def handle_data(self, data: str) -> None:
        if self._within == "pre":
            self.lines += data.splitlines()
        elif self._within is None:
            self._line += data
        elif self._within == "script":
            self.scripts[-1] += data

    def _end_line(self) -> None:
        if line := " ".join(self._line.split()):
            self.lines.append(line)
        self._line = ""


def outline(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The words of every figure, and how many points each of its traces has, between which ends."""
    return {
        name: {
            "axes": {
                key: axis["title"].get("text") if isinstance(axis["title"], dict) else axis["title"]
                for key, axis in sorted(figure["layout"].items())
                if "axis" in key and axis.get("title")
            },
            "annotations": [note.get("text") for note in figure["layout"].get("annotations", ())],
            "traces": [
                {"name": trace.get("name"), "type": trace.get("type"), **{k: _ends(trace.get(k)) for k in ("x", "y")}}
                for trace in figure["data"]
            ],
        }
        for name, figure in figures.items()
    }


def _ends(values: Any) -> Any:
    """Of an axis: the number of points, and the first and the last."""
    return [len(values), values[0], values[-1]] if isinstance(values, list) and values else None


__all__ = ["Page", "outline"]
