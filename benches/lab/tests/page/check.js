// Looks at the page as it is laid out, and hands what is wrong with it to the page around it.
"use strict";

const problems = [];
const rounded = (box) => [box.left, box.top, box.right, box.bottom].map(Math.round).join(" ");
const inside = (box, room, slack) =>
  box.left >= room.left - slack && box.right <= room.right + slack &&
  box.top >= room.top - slack && box.bottom <= room.bottom + slack;
// A line's box is taller than its letters: only what is well inside of both counts.
const overlap = (a, b) =>
  Math.min(a.right, b.right) - Math.max(a.left, b.left) > 0.5 &&
  Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 0.3 * Math.min(a.height, b.height);

const luminance = (colour) => {
  const [r, g, b] = colour.match(/[\d.]+/g).slice(0, 3).map((part) => {
    const share = part / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const contrast = (a, b) => {
  const [dark, light] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (light + 0.05) / (dark + 0.05);
};

function checkChart(svg, paper) {
  const room = svg.getBoundingClientRect();
  const wrong = (what) => problems.push(`${svg.id}: ${what}`);
  if (room.width < 200 || room.height < 100) wrong(`laid out as ${rounded(room)}`);

  const names = (svg.getAttribute("aria-labelledby") || "").split(" ");
  const named = names.map((id) => document.getElementById(id)).filter((it) => svg.contains(it));
  if (named.map((it) => it.localName).join() !== "title,desc") wrong("has no title or desc");
  if (named.some((it) => it.textContent.trim() === "")) wrong("has an empty title or desc");

  const isLadder = svg.closest(".ladder") !== null;
  for (const axis of isLadder ? ["x"] : ["x", "y"]) {
    const ticks = svg.querySelectorAll(`[data-axis="${axis}"] .tick`);
    if (ticks.length < 2) wrong(`axis ${axis} has ${ticks.length} labels`);
    if (!svg.querySelector(`[data-axis="${axis}"] .name`)) wrong(`axis ${axis} has no name`);
  }
  if (!svg.querySelector(".legend text")) wrong("has no legend");

  const texts = [...svg.querySelectorAll("text")].map((it) => [it, it.getBoundingClientRect()]);
  for (const [index, [text, box]] of texts.entries()) {
    const words = text.textContent;
    if (words.trim() === "") continue;
    if (!inside(box, room, 0.5)) {
      wrong(`text outside: '${words}' ${rounded(box)} in ${rounded(room)}`);
    }
    for (const [other, otherBox] of texts.slice(index + 1)) {
      if (overlap(box, otherBox)) wrong(`texts overlap: '${words}' and '${other.textContent}'`);
    }
    const ratio = contrast(getComputedStyle(text).fill, paper);
    if (ratio < 4.5) wrong(`contrast of '${words}' is ${ratio.toFixed(1)}`);
  }

  for (const mark of svg.querySelectorAll("path, circle, rect, line")) {
    const box = mark.getBBox();
    if (![box.x, box.y, box.width, box.height].every(Number.isFinite)) wrong("a mark is nowhere");
    if (!inside(mark.getBoundingClientRect(), room, 3)) wrong(`a ${mark.localName} lies outside`);
  }
  const curves = [...svg.querySelectorAll("path.curve")].filter((it) => !it.closest(".legend"));
  for (const curve of curves) {
    const points = (curve.getAttribute("d").match(/[ML]/g) || []).length;
    const length = curve.getTotalLength();
    if (points < 2 || !(length > 20)) wrong(`a curve of ${points} points is ${length} long`);
    const ratio = contrast(getComputedStyle(curve).stroke, paper);
    if (ratio < 3) wrong(`contrast of a curve is ${ratio.toFixed(1)}`);
  }
  const bars = isLadder ? svg.querySelectorAll(".row .bar").length : 0;
  if (curves.length + bars === 0) wrong("shows no figure");
  return { curves: curves.length, bars };
}

addEventListener("load", () => {
  const paper = getComputedStyle(document.body).backgroundColor;
  const shown = [...document.querySelectorAll("svg")].filter((svg) => {
    return getComputedStyle(svg).display !== "none";
  });
  const charts = shown.map((svg) => checkChart(svg, paper));
  for (const figure of document.querySelectorAll("figure")) {
    const count = shown.filter((svg) => figure.contains(svg)).length;
    if (count !== 1) problems.push(`a figure shows ${count} charts`);
  }
  const ids = [...document.querySelectorAll("[id]")].map((it) => it.id);
  if (new Set(ids).size !== ids.length) problems.push("two elements have one id");
  for (const link of document.querySelectorAll("a")) {
    if (!ids.includes(link.getAttribute("href").slice(1))) problems.push(`dead link ${link.href}`);
  }
  const page = document.documentElement;
  if (page.scrollWidth > page.clientWidth) {
    problems.push(`the page is ${page.scrollWidth} wide in ${page.clientWidth}`);
  }
  for (const request of performance.getEntriesByType("resource")) {
    problems.push(`a request: ${request.name}`);
  }
  const found = {
    problems,
    charts: charts.length,
    curves: charts.reduce((sum, chart) => sum + chart.curves, 0),
    bars: charts.reduce((sum, chart) => sum + chart.bars, 0),
    tables: document.querySelectorAll("table").length,
    dark: matchMedia("(prefers-color-scheme: dark)").matches,
    paper,
  };
  parent.postMessage({ name: location.pathname.split("/").pop(), found }, "*");
});
