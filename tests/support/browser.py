"""A real browser for pages: what stands out of the window, and what cannot be read."""

from __future__ import annotations

import shutil
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from playwright.async_api import async_playwright

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser, Page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no browser on this machine")
WIDTHS = {375: 740, 768: 1024, 1440: 900}
"""A phone, a tablet, a desk: the window's width and height."""
SCHEMES = ("light", "dark")
_ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """Debian's Chromium, without a window."""
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)
        yield started
        await started.close()


async def overflow(page: Page) -> list[str]:
    """What stands out of the window, or of a frame, without a way to scroll there; and how wide they have become."""
    return [one for frame in page.frames for one in await frame.evaluate(_OVERFLOW)]


async def unreadable(page: Page) -> list[str]:
    """Every text, in frames as well, whose contrast is below WCAG's AA: 4.5, or 3 when it is large."""
    found: list[str] = []
    for frame in page.frames:
        result: dict[str, Any] = await frame.evaluate(_CONTRAST)
        assert result["texts"] or frame != page.main_frame, "there is nothing to read"
        found += result["faults"]
    return found


_OVERFLOW = """
() => {
  const found = [];
  const root = document.documentElement;
  if (root.scrollWidth > innerWidth) found.push(`the document: ${root.scrollWidth} of ${innerWidth}`);
  const scrolls = (node) => node && node !== document.body && (
    ["auto", "scroll", "hidden", "clip"].includes(getComputedStyle(node).overflowX) || scrolls(node.parentElement));
  for (const node of document.body.querySelectorAll("*")) {
    const box = node.getBoundingClientRect();
    if (box.width && (box.right > innerWidth + 0.5 || box.left < -0.5) && node.checkVisibility() && !scrolls(node))
      found.push(`${node.localName}.${node.className}: ${box.left} to ${box.right}`);
  }
  return found;
}
"""

_CONTRAST = """
() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const known = new Map();
  // Whatever notation a colour has, the browser draws it.
  const rgba = (color) => {
    if (!known.has(color)) {
      canvas.clearRect(0, 0, 1, 1);
      canvas.fillStyle = color;
      canvas.fillRect(0, 0, 1, 1);
      const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
      known.set(color, [r, g, b, a / 255]);
    }
    return known.get(color);
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const luminance = (color) => {
    const [r, g, b] = color.slice(0, 3).map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (one, other) => {
    const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const stops = (image) => image.match(/(?:rgba?|color|oklab|oklch|lab|lch|hsl)\\([^()]*\\)|#[0-9a-f]+/gi) || [];
  const bottom = () => {
    const probe = document.createElement("i");
    probe.style.color = "Canvas";
    document.body.append(probe);
    const color = rgba(getComputedStyle(probe).color);
    probe.remove();
    return color;
  };
  // All colours that may be behind a node: one, or the stops of a gradient.
  const behind = (node) => {
    if (!node) return [bottom()];
    const style = getComputedStyle(node);
    const own = rgba(style.backgroundColor), gradient = stops(style.backgroundImage).map(rgba);
    if (gradient.length && gradient.every((color) => color[3] === 1)) return gradient;
    if (own[3] === 1) return [own];
    return behind(node.parentElement).flatMap((below) => {
      const ground = over(own, below);
      return gradient.length ? gradient.map((color) => over(color, ground)) : [ground];
    });
  };
  const opacity = (node) => node ? Number(getComputedStyle(node).opacity) * opacity(node.parentElement) : 1;
  const faults = [];
  let texts = 0;
  const check = (node, style, text) => {
    texts++;
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const [r, g, b, a] = rgba(style.color), color = [r, g, b, a * opacity(node)];
    const worst = Math.min(...behind(node).map((ground) => ratio(over(color, ground), ground)));
    const name = `${node.localName}.${node.className} ${text.trim().slice(0, 40)}`;
    if (worst < (large ? 3 : 4.5)) faults.push(`${worst.toFixed(2)}: ${name}`);
  };
  const seen = (node) => node.checkVisibility({ opacityProperty: false, visibilityProperty: true })
    && node.getClientRects().length && !node.closest(".spoiler:not(.open), option, script, style, title");
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const { data, parentElement } = walker.currentNode;
    if (data.trim() && seen(parentElement)) check(parentElement, getComputedStyle(parentElement), data);
  }
  for (const field of document.querySelectorAll("input, select, textarea")) {
    if (!seen(field)) continue;
    check(field, getComputedStyle(field), field.value || field.name || "a field");
    if (field.placeholder) check(field, getComputedStyle(field, "::placeholder"), field.placeholder);
  }
  return { texts, faults };
}
"""
