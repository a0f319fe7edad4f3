"""Looking at a page in both themes and several sizes: with axe, for what does not fit, and for what a finger misses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from playwright.sync_api import Page

AXE = Path(__file__).parents[1] / "workloads" / "axe" / "node_modules" / "axe-core" / "axe.min.js"
# All rules of WCAG 2.2 AA and of good practice, and those that axe still calls experimental but that can be relied on.
RUN_AXE = """
async (colorsOnly) => {
  const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa", "best-practice"];
  const found = await axe.run(document, colorsOnly
    ? { runOnly: { type: "rule", values: ["color-contrast", "link-in-text-block"] }, resultTypes: ["violations"] }
    : { runOnly: tags, rules: { "target-size": { enabled: true } }, resultTypes: ["violations"] });
  return found.violations.flatMap((rule) => rule.nodes.map(
    (node) => `${rule.id}: ${node.target.join(" ")} ${node.html.slice(0, 160)} ${node.any[0]?.message ?? ""}`));
}
"""
# Axe is compiled once, and then works on one document after the other: in each page it would start cold again.
KEEP_AXE = "(source) => { window.prepare = new Function('window', source); window.inspected = open('about:blank'); }"
PREPARE = "() => prepare(inspected)"
# Controls that can be pressed but are smaller than 24 pixels or lie on another; links within a sentence are exempt.
CROWDED = """
(leastPx) => {
  const boxes = [];
  // The part of a control that its scrolling ancestors show.
  const visible = (control, { left, right, top, bottom }) => {
    const part = { left, right, top, bottom };
    for (let box = control.parentElement; box; box = box.parentElement) {
      if (getComputedStyle(box).overflowY === "visible") continue;
      const frame = box.getBoundingClientRect();
      [part.top, part.bottom] = [Math.max(part.top, frame.top), Math.min(part.bottom, frame.bottom)];
      [part.left, part.right] = [Math.max(part.left, frame.left), Math.min(part.right, frame.right)];
    }
    return part;
  };
  const CONTROLS = "a[href], button, input:not([type=hidden]), select, textarea, summary";
  for (const control of document.querySelectorAll(CONTROLS)) {
    if (!control.checkVisibility({ visibilityProperty: true, opacityProperty: true })) continue;
    // Only for screen readers, or over the page on purpose.
    if (control.closest(".skip, .hidden, .rail, .bar, .banner, .bulk-bar")) continue;
    if (control.closest("thead") && getComputedStyle(control.closest("thead")).clipPath !== "none") continue;
    const box = control.getBoundingClientRect();
    if (!box.width || !box.height) continue;
    boxes.push([control, box, visible(control, box)]);
  }
  const name = (control) => `${control.tagName} ${(control.textContent || control.name).trim().slice(0, 40)}`;
  const found = [];
  for (const [control, box, part] of boxes) {
    const isText = getComputedStyle(control).display === "inline";
    if (!isText && Math.min(box.width, box.height) < leastPx && !control.matches("[type=checkbox], [type=radio]"))
      found.push(`${name(control)} is ${Math.round(box.width)} x ${Math.round(box.height)}`);
    for (const [other, , place] of boxes) {
      if (other.contains(control) || control.contains(other)) continue;
      if (other.closest("dialog") !== control.closest("dialog")) continue;
      const wide = Math.min(part.right, place.right) - Math.max(part.left, place.left);
      const high = Math.min(part.bottom, place.bottom) - Math.max(part.top, place.top);
      if (wide > 1 && high > 3 && !isText) found.push(`${name(control)} lies on ${name(other)}`);
    }
  }
  return found;
}
"""
SIDEWAYS = """
() => {
  const page = document.documentElement;
  if (page.scrollWidth <= page.clientWidth) return [];
  const parts = [...document.querySelectorAll("body *")].map((part) => [part, part.getBoundingClientRect().right]);
  return parts.filter(([_, right]) => right > page.clientWidth + 1).slice(0, 5)
    .map(([part, right]) => `${part.tagName}.${part.className} reaches ${right}`);
}
"""
# Charts take their new width when a frame is drawn.
DRAWN = "() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))"
DESKTOP, TABLET = {"viewport": {"width": 1440, "height": 900}}, {"viewport": {"width": 1024, "height": 768}}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}


@dataclass
class Inspector:
    """A page, the page that keeps axe for it, and what was found.

    Axe takes most of the time, so it judges a page on the first of the `screens` alone, and in the dark theme on the
    desktop alone: other themes have other colors, the same on all screens. `thorough`: on all screens in both themes.
    """

    page: Page
    keeper: Page
    screens: Sequence[dict[str, Any]]
    thorough: bool = False
    found: list[str] = field(default_factory=list)

    def look(self, name: str, *, only_here: bool = False) -> None:
        """Note what is wrong with the page as it is now. `only_here`: no other kind of screen shows it."""
        self.keeper.evaluate(PREPARE)
        for screen in self.screens:
            if len(self.screens) > 1:
                self.page.set_viewport_size(screen["viewport"])
            width = self.page.evaluate("innerWidth")
            assert width == screen["viewport"]["width"], name
            for theme in self.themes_of(screen, only_here):
                self.page.emulate_media(color_scheme=theme)
                self.note(f"{name}, {width} px, {theme}", self.page.evaluate(RUN_AXE, theme == "dark"))
            self.page.evaluate(DRAWN)
            crowded = self.page.evaluate(CROWDED, 24 if screen is PHONE else 20)
            self.note(f"{name}, {width} px", self.page.evaluate(SIDEWAYS) + crowded)

    def themes_of(self, screen: dict[str, Any], only_here: bool) -> Sequence[Literal["light", "dark"]]:
        """The themes in which axe judges this screen."""
        if self.thorough or only_here or screen is DESKTOP:
            return ("light", "dark")
        return ("light",) if screen is self.screens[0] else ()

    def note(self, where: str, findings: Sequence[str]) -> None:
        self.found += [f"{where}: {finding}" for finding in findings]
