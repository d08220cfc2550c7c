// SPDX-License-Identifier: Apache-2.0
// Draws the charts of a report from the numbers beside it. Text is only ever set as text, never as HTML.
"use strict";

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const dark = matchMedia("(prefers-color-scheme: dark)");
const COLOURS = ["--told", "--forecast", "--tried", "--ok", "--quiet"];
const KINDS = {
  load: () => [
    {stroke: colour("--load"), fill: colour("--lead"), points: {show: false, filter: loneValues, size: 4, fill: colour("--load")}},
    {stroke: colour("--forecast")},
  ],
  replicas: () => [
    {stroke: colour("--quiet"), fill: colour("--line"), width: 0, paths: uPlot.paths.stepped({align: 1})},
    {stroke: colour("--told"), paths: uPlot.paths.stepped({align: 1})},
    {stroke: colour("--bad"), fill: colour("--bad"), width: 0, points: {show: true, size: 6, fill: colour("--bad"), stroke: colour("--bad")}},
  ],
  curves: (chart) => chart.names.map((_, i) => ({
    stroke: colour(COLOURS[i % COLOURS.length]), spanGaps: true, points: {show: true, size: 6}, dash: i ? [6, 1 + 2 * i] : undefined})),
  accuracy: () => [{stroke: colour("--forecast"), points: {show: true, size: 5}}, {stroke: colour("--quiet"), dash: [6, 4]}],
};

// the values between two gaps, of which there is no line: they are drawn as dots
function loneValues(plot, series) {
  const values = plot.data[series], isGap = (i) => (values[i] ?? null) === null;
  return [...values.keys()].filter((i) => !isGap(i) && isGap(i - 1) && isGap(i + 1));
}

function number(value) {
  if (value === undefined || value === null) return "–";
  return value.toLocaleString("en", {maximumSignificantDigits: 4});
}

const clock = (seconds) => new Date(seconds * 1000).toISOString().slice(0, 16).replace("T", " ");

// the hour, and the day at midnight
const hour = (seconds) => (seconds % 86400 ? clock(seconds).slice(11) : clock(seconds).slice(5, 10));

function placesOf(chart) {
  return chart.grid ? chart.lines[0].map((_, i) => chart.grid[0] + i * chart.grid[1]) : chart.x;
}

// the settings in the table are the large marks
function markSettings(chart) {
  return (plot) => chart.marks.forEach((mark, i) => {
    const x = plot.valToPos(mark[0], "x", true), y = plot.valToPos(mark[1], "y", true), {left, top, width, height} = plot.bbox;
    if (x < left || x > left + width || y < top || y > top + height) return;
    plot.ctx.save();
    plot.ctx.fillStyle = colour(COLOURS[i % COLOURS.length]);
    plot.ctx.beginPath();
    plot.ctx.arc(x, y, 6 * devicePixelRatio, 0, 2 * Math.PI);
    plot.ctx.fill();
    plot.ctx.restore();
  });
}

// room for the longest label of an axis: at least as much as in every other chart, so that their times lie below each other
const roomFor = (plot, labels) => Math.max(60, ...(labels || []).map((label) => 20 + 7.5 * label.length));

function draw(place, chart) {
  const axis = {stroke: colour("--quiet"), grid: {stroke: colour("--line"), width: 1}, ticks: {stroke: colour("--line")}};
  const timed = chart.kind === "load" || chart.kind === "replicas", curves = chart.kind === "curves";
  const range = curves ? (plot, low, high) => [chart.shown[0], Math.min(chart.shown[1], high + 0.05)] : (plot, low, high) => [low, high];
  place.replaceChildren();
  const plot = new uPlot({
    width: Math.max(place.clientWidth - 10, 200), height: chart.kind === "replicas" ? 150 : 240, cursor: {drag: {x: !curves, y: false}},
    tzDate: (time) => uPlot.tzDate(new Date(time * 1000), "Etc/UTC"),
    axes: [timed ? {...axis, values: (plot, ticks) => ticks.map(hour)} : axis, {...axis, size: roomFor, values: (plot, ticks) => ticks.map((tick) => (tick === null ? "" : number(tick)))}],
    scales: {x: {time: timed, range}, y: curves ? {distr: 3} : {range: (plot, low, high) => [0, Math.max(high || 0, 1e-9) * 1.08]}},
    series: [{label: timed ? "UTC" : curves ? "pod-hours / oracle" : "minutes ahead", value: (plot, x) => (x === null ? "–" : timed ? clock(x) : number(x))},
      ...KINDS[chart.kind](chart).map((line, i) => ({
        label: chart.names[i], width: 1.5, points: {show: false}, value: (plot, value) => number(value), ...line}))],
    hooks: {draw: curves ? [markSettings(chart)] : []},
  }, [placesOf(chart), ...chart.lines], place);
  if (chart.shown && !curves) plot.setScale("x", {min: chart.shown[0], max: chart.shown[1]});
}

function begin() {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const places = [...document.querySelectorAll(".chart")];
  const drawAll = () => places.forEach((place) => draw(place, charts[place.dataset.chart]));
  let width = innerWidth;
  dark.addEventListener("change", drawAll);
  addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; drawAll(); } });
  drawAll();
  document.body.dataset.drawn = places.length;
}

begin();
