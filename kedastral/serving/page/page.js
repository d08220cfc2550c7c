// SPDX-License-Identifier: Apache-2.0
// Fills the page from the HTTP API every few seconds. Text is only ever set as text, never as HTML.
"use strict";

const EVERY = 5000;
const PATIENCE = 10000;
const TOKEN = "kedastral-token";
const find = (id) => document.getElementById(id);
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const dark = matchMedia("(prefers-color-scheme: dark)");

class Refused extends Error {}
class Unknown extends Refused {}
class Unauthorised extends Error {}

function make(tag, words, kind) {
  const element = document.createElement(tag);
  if (words !== undefined && words !== null) element.textContent = words;
  if (kind) element.className = kind;
  return element;
}

const HUGE = 1e12;

function number(value) {
  if (value === undefined || value === null) return "";
  if (Math.abs(value) >= HUGE) return value.toExponential(3);
  const digits = Math.abs(value) >= 1000 || Number.isInteger(value) ? 0 : 3;
  return value.toLocaleString("en", digits ? {maximumSignificantDigits: 4} : {maximumFractionDigits: 0});
}

const percent = (share) => `${(share * 100).toLocaleString("en", {maximumFractionDigits: 2})}\u00a0%`;

function clock(seconds) {
  return new Date(seconds * 1000).toISOString().slice(11, 19);
}

const secondsOf = (time) => Date.parse(time) / 1000;

function span(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 120) return `${whole} s`;
  if (whole < 7200) return `${Math.round(whole / 60)} min`;
  return whole < 172800 ? `${Math.round(whole / 3600)} h` : `${Math.round(whole / 86400)} days`;
}

// a number of its unit; whole minutes for more than one of them
function quantity(value, unit) {
  return unit === "s" && value >= 120 && value % 60 === 0 ? `${value / 60} min` : `${number(value)} ${unit}`;
}

async function ask(path) {
  const token = sessionStorage.getItem(TOKEN);
  const headers = token ? {Authorization: `Bearer ${token}`} : {};
  const response = await fetch(path, {headers, cache: "no-store", signal: AbortSignal.timeout(PATIENCE)});
  if (response.status === 401) throw new Unauthorised(token ? "The token is wrong." : "");
  const document = await response.json();
  if (response.status === 404) throw new Unknown(document.error);
  if (!response.ok) throw new Refused(document.error);
  return document;
}

// The list

// a new workload has little past: it gets at least this share of the width of what is ahead, so that a single point is seen
const LEAST_PAST = 0.25;

function spark(row) {
  const name = "http://www.w3.org/2000/svg";
  const forecast = row.forecast || [], recent = [...(row.recent || [])];
  while (recent.length < forecast.length * LEAST_PAST) recent.unshift(null);
  const all = [...recent, ...forecast], top = Math.max(...all.filter((one) => one !== null), 1e-9);
  const width = 170, height = 28, step = width / Math.max(all.length - 1, 1);
  const draw = (values, first) => {
    let path = "", pen = "M";
    values.forEach((value, i) => {
      if (value === null) { pen = "M"; return; }
      path += `${pen}${((first + i) * step).toFixed(1)} ${(height - 2 - (value / top) * (height - 4)).toFixed(1)}`;
      if (pen === "M" && (values[i + 1] ?? null) === null) path += "h0";  // a value between two gaps is a dot
      pen = "L";
    });
    return path;
  };
  const svg = document.createElementNS(name, "svg");
  svg.setAttribute("class", "spark");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("aria-hidden", "true");
  for (const [kind, values, first] of [["load", recent, 0], ["forecast", forecast, recent.length]]) {
    const line = document.createElementNS(name, "path");
    line.setAttribute("class", kind);
    line.setAttribute("d", draw(values, first));
    svg.append(line);
  }
  return svg;
}

function toldCell(row) {
  const cell = make("td", null, "number"), isNumber = typeof row.told === "number";
  cell.append(make("span", isNumber ? number(row.told) : row.told === null ? "holds" : "", isNumber ? "pods" : ""));
  if (row.planned !== undefined && row.planned !== row.told) cell.append(" ", make("small", `planned ${number(row.planned)}`, "quiet"));
  return cell;
}

// A share of minutes is no result before some have been judged
const HOUR = 60, DAY = 1440, MONTH = 28 * DAY;
const isEarly = (budget) => budget.minutesJudged < HOUR && !budget.minutesShort;

const spentShare = (spent) => percent(Number(spent.toFixed(spent < 0.1 ? 3 : 2)));

function budgetCell(row) {
  if (!row.budget) return make("td", "", "number");
  const {spent, minutesJudged} = row.budget, early = isEarly(row.budget);
  const cell = make("td", early ? "–" : spentShare(spent), early ? "number early budget" : "number budget");
  if (minutesJudged < DAY) cell.append(make("small", early ? "not judged yet" : `after ${span(minutesJudged * 60)}`));
  return cell;
}

function budgetFigure(page) {
  const {spent, minutesJudged, minutesShort, minutesAtMax, minutesAllowed} = page.budget, early = isEarly(page.budget);
  const minutes = (value) => value.toLocaleString("en", {maximumFractionDigits: 1});
  const period = minutesJudged > MONTH - DAY ? "of the last 28 days" : `of the ${span(minutesJudged * 60)} judged so far`;
  const left = minutesAllowed - minutesShort;
  const atMax = minutesAtMax > 0 ? `${minutes(minutesAtMax)} of them at --max, ` : "";
  const state = `${minutes(minutesShort)} of ${minutes(minutesAllowed)} min without enough pods, ${atMax}`
    + (left >= 0 ? `${minutes(left)} min left` : `${minutes(-left)} min too many`);
  const words = early ? `judged after one hour; so far it is ${span(minutesJudged * 60)}` : `${period}: ${state}`;
  const advice = spent >= 1 && 2 * minutesAtMax > minutesShort ? ": raise --max, unless done since" : "";
  const place = figure("Error budget spent", early ? "–" : spentShare(spent), `${words}, at a service level of ${percent(page.serviceLevel)}${advice}`);
  if (!early && spent >= 1) place.className = "warned";
  return place;
}

function fillRow(line, row) {
  const link = make("a", row.workload);
  link.href = "/workloads/" + row.workload.split("/").map(encodeURIComponent).join("/");
  const cells = [make("td"), make("td"), make("td", number(row.load), "number"), toldCell(row),
    make("td"), budgetCell(row), make("td", row.reason)];
  const observed = row.mode === "observe";
  cells[0].append(make("span", row.state, `state urgency-${row.urgency}`));
  if (observed) cells[0].append(" ", make("small", "observe", "quiet"));
  cells[1].append(link);
  if (row.forecast) cells[4].append(spark(row));
  line.replaceChildren(...cells);
  line.dataset.words = `${row.workload} ${row.state} ${observed ? "observe " : ""}${row.reason}`.toLowerCase();
}

const lines = new Map();

function showList(answer) {
  const body = find("workloads").tBodies[0], focused = document.activeElement;
  const ordered = answer.workloads.map((row) => {
    const written = JSON.stringify(row);
    const kept = lines.get(row.workload) || {line: make("tr")};
    if (kept.written !== written) {
      const had = kept.line.contains(focused);
      fillRow(kept.line, row);
      kept.written = written;
      if (had) kept.line.querySelector("a").focus({preventScroll: true});
    }
    lines.set(row.workload, kept);
    return kept.line;
  });
  const known = new Set(answer.workloads.map((row) => row.workload));
  for (const key of [...lines.keys()]) if (!known.has(key)) lines.delete(key);
  if (ordered.length !== body.children.length || ordered.some((line, i) => body.children[i] !== line)) {
    const had = body.contains(document.activeElement) ? document.activeElement : null;
    body.replaceChildren(...ordered);
    if (had) had.focus({preventScroll: true});
  }
  const urgent = answer.workloads.filter((row) => row.urgency < 2).length;
  const summary = `${answer.workloads.length} in all, ${urgent ? `${urgent} need${urgent === 1 ? "s" : ""} attention` : "none needs attention"}`;
  if (find("summary").textContent !== summary) find("summary").textContent = summary;
  filterList();
}

// of the process, such as a configuration that cannot be read
function showWarnings(warnings) {
  const place = find("warnings"), shown = [...place.children].map((one) => one.textContent);
  place.hidden = !warnings.length;
  if (shown.join("\n") !== warnings.join("\n")) place.replaceChildren(...warnings.map((one) => make("p", one)));
}

function filterList() {
  const words = find("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const {line} of lines.values()) {
    line.hidden = !words.every((word) => line.dataset.words.includes(word));
    shown += !line.hidden;
  }
  find("nothing").hidden = shown > 0;
  find("nothing").textContent = lines.size ? "No workload matches the filter." : "No workload is configured.";
}

function beginList() {
  find("filter").addEventListener("input", filterList);
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !event.ctrlKey && !event.metaKey && document.activeElement.tagName !== "INPUT") {
      event.preventDefault();
      find("filter").focus();
    }
  });
  return async () => {
    const answer = await ask("/api/workloads");
    showWarnings(answer.warnings || []);
    showList(answer);
    return answer.at;
  };
}

// One workload

let newest = null, tried = null;
const charts = {};

function band(steps, at) {
  // a stepped line as points: each value holds until the next one
  const times = [], values = [];
  steps.forEach(([time, value], i) => {
    const until = i + 1 < steps.length ? steps[i + 1][0] : at;
    times.push(time, Math.max(until - 0.001, time));
    values.push(value, value);
  });
  return [times, values];
}

function join(...series) {
  // uPlot wants one list of times for all lines
  const times = [...new Set(series.flatMap(([at]) => at))].sort((a, b) => a - b);
  const place = new Map(times.map((time, i) => [time, i]));
  return [times, ...series.map(([at, values]) => {
    const laid = new Array(times.length).fill(undefined);
    at.forEach((time, i) => { laid[place.get(time)] = values[i]; });
    return laid;
  })];
}

// the point of a line under the cursor: the one before it, and none where the line has not begun or is over
function pointAt(plot, series, index) {
  const values = plot.data[series];
  let before = index, after = index;
  while (before >= 0 && values[before] === undefined) before -= 1;
  while (after < values.length && values[after] === undefined) after += 1;
  return before < 0 || after === values.length ? index : before;
}

// the values between two gaps, of which there is no line: they are drawn as dots
function loneValues(plot, series) {
  const values = plot.data[series], own = values.flatMap((value, i) => (value === undefined ? [] : [i]));
  const isGap = (i) => (values[own[i]] ?? null) === null;
  return own.filter((_, i) => !isGap(i) && isGap(i - 1) && isGap(i + 1));
}

const SHOWN = 3 * 3600;

// room for the longest label of an axis: at least as much as in every other chart, so that their times lie below each other
const roomFor = (plot, labels) => Math.max(60, ...(labels || []).map((label) => 20 + 7.5 * label.length));

// as CSS names it, for the legend
const dashOf = ({dash}) => (!dash ? "solid" : dash[0] > 2 ? "dashed" : "dotted");

function shownTimes(low, {now, lead, planEnd}) {
  const end = Math.max(planEnd, now + lead), least = Math.min((end - now) * LEAST_PAST, SHOWN);
  return [Math.min(Math.max(low, now - SHOWN), now - least), end];
}

// `time` has what all charts share: now, the end of the plan, and the lead time, for which the plan is read: it is shaded;
// `held` are the times in which KEDA was told no number
function draw(id, data, lines, time, words) {
  const place = find(id), axis = {stroke: colour("--quiet"), grid: {stroke: colour("--line"), width: 1}, ticks: {stroke: colour("--line")}};
  const theme = `${dark.matches} ${place.clientWidth}`;
  place.setAttribute("aria-label", words);
  if (charts[id] && charts[id].theme === theme && charts[id].count === lines.length) {
    charts[id].time = time;
    charts[id].plot.setData(data);
    return;
  }
  if (charts[id]) charts[id].plot.destroy();
  const kept = charts[id] = {theme, time, count: lines.length};
  const markHeld = (plot) => {
    const {left, top, width, height} = plot.bbox, context = plot.ctx, words = "KEDA holds";
    context.save();
    context.font = `600 ${12 * devicePixelRatio}px system-ui, sans-serif`;
    context.textAlign = "left";
    context.textBaseline = "bottom";
    const room = context.measureText(words).width;
    for (const [from, until] of kept.time.held || []) {
      const begin = Math.max(plot.valToPos(from, "x", true), left), end = Math.min(plot.valToPos(until, "x", true), left + width);
      if (end <= left) continue;
      context.fillStyle = colour("--bad-back");
      context.fillRect(begin, top, Math.max(end - begin, 2), height);
      context.fillStyle = colour("--bad");
      const edge = 4 * devicePixelRatio, at = end - begin > room ? (begin + end - room) / 2 : end - room - edge;  // or before the line of now
      context.fillText(words, Math.max(at, left), top + height - edge);
    }
    context.restore();
  };
  const markNow = (plot) => {
    const x = Math.round(plot.valToPos(kept.time.now, "x", true)), context = plot.ctx;
    const end = Math.round(plot.valToPos(kept.time.now + kept.time.lead, "x", true));
    context.save();
    context.fillStyle = colour("--lead");
    context.fillRect(x, plot.bbox.top, end - x, plot.bbox.height);
    context.strokeStyle = colour("--quiet");
    context.setLineDash([4, 4]);
    context.beginPath();
    context.moveTo(x, plot.bbox.top);
    context.lineTo(x, plot.bbox.top + plot.bbox.height);
    context.stroke();
    context.restore();
  };
  kept.plot = new uPlot({
    width: Math.max(place.clientWidth - 10, 200), height: 200, cursor: {drag: {x: false, y: false}, dataIdx: pointAt},
    tzDate: (time) => uPlot.tzDate(new Date(time * 1000), "Etc/UTC"),
    axes: [{...axis, values: (plot, ticks) => ticks.map((time) => clock(time).slice(0, 5))}, {...axis, size: roomFor, values: (plot, ticks) => ticks.map(number)}],
    scales: {x: {range: (plot, low, high) => shownTimes(low, kept.time)}, y: {range: (plot, low, high) => [0, Math.max(high || 0, 1e-9) * 1.08]}},
    // a sample of each line; its value only while the cursor is in the chart
    legend: {markers: {width: (plot, i) => Math.max(lines[i - 1].width, 2), dash: (plot, i) => dashOf(lines[i - 1])}},
    series: [{value: (plot, time) => (time ? clock(time) : "")}, ...lines.map((line) => ({
      spanGaps: true, points: {show: false}, value: (plot, value, i, at) => (at === null ? "" : number(value) || "–"), ...line}))],
    // dir -1: only where the line is above the other one; a line that is below it has no margin to show
    bands: lines.flatMap((line, i) => (line.marginTo ? [{series: [i + 1, line.marginTo], fill: colour("--band"), dir: -1}] : [])),
    hooks: {drawClear: [markHeld], draw: [markNow]},
  }, data, place);
}

// what KEDA was told where that was not the plan: a line with gaps in between
function toldLine(others) {
  const points = others.filter((one) => one.replicas !== null).flatMap(({from, until, replicas}) =>
    [[from, replicas], [Math.max(until - 0.002, from), replicas], [Math.max(until - 0.001, from + 0.001), null]]);
  return [points.map(([at]) => at), points.map(([, value]) => value)];
}

function drawCharts(page) {
  const now = secondsOf(page.at), lead = page.snapshot.leadTimeSeconds, plan = page.explanation.plan, history = page.history;
  // a measured load is dated by the end of its step, so the forecast of a step is too
  const step = page.snapshot.stepSeconds, ends = plan.map((one) => secondsOf(one.at) + step), end = ends.at(-1);
  const time = {now, lead, planEnd: end};
  const load = history.load ? [history.load.values.map((_, i) => history.load.start + i * history.load.step), [...history.load.values]] : [[], []];
  const planned = history.planned && history.planned.times.length ? band(history.planned.times.map((at, i) => [at, history.planned.values[i]]), now) : [[], []];
  // from now on: what it was before is in what was planned so far
  const ahead = ({plan: steps}) => band(steps.map((one, i) => [secondsOf(one.at), one.replicas, i + 1 < steps.length ? secondsOf(steps[i + 1].at) : end])
    .filter(([, , until]) => until > now).map(([at, replicas]) => [Math.max(at, now), replicas]), end);
  // both charts begin together, unless plans are known for so short a time that most of theirs would be empty
  const first = Math.min(...[load, planned].filter(([at]) => at.length).map(([at]) => at[0]));
  const shown = Math.max(first, now - SHOWN), known = planned[0].length ? now - planned[0][0] : 0;
  for (const [at, values] of known < (now - shown) / 2 ? [load] : [load, planned]) {
    if (at.length && at[0] > first) { at.unshift(first); values.unshift(null); }
  }
  const replicas = [planned, ahead(page.explanation)];
  const kinds = [{label: "planned so far", stroke: colour("--told"), width: 2, spanGaps: false}, {label: "plan ahead", stroke: colour("--forecast"), width: 2, dash: [6, 4]}];
  const others = (history.told || []).filter((one) => one.until > now - SHOWN);
  if (others.some((one) => one.replicas !== null)) {
    replicas.push(toldLine(others));
    kinds.push({label: "told KEDA instead", stroke: colour("--instead"), width: 3, spanGaps: false});
  }
  const held = others.filter((one) => one.replicas === null).map((one) => [one.from, one.until]);
  const floor = page.snapshot.reactiveReplicas;
  if (floor !== undefined) {
    replicas.push(band([[now, floor]], now + lead));
    kinds.push({label: "floor", stroke: colour("--floor"), width: 2});
  }
  if (tried) {
    replicas.push(ahead(tried));
    kinds.push({label: "what if", stroke: colour("--tried"), width: 2, dash: [2, 3]});
  }
  draw("replicas-chart", join(...replicas), kinds, {...time, held}, `Replicas: ${page.explanation.sentence}`);
  const expected = history.expected ? [history.expected.times, history.expected.values] : [[], []];
  const data = join(load, expected, [ends, plan.map((one) => one.load)], [ends, plan.map((one) => one.plannedFor)]);
  draw("load-chart", data, [
    {label: "load", stroke: colour("--load"), width: 2, spanGaps: false, points: {show: false, filter: loneValues, size: 4, fill: colour("--load")}},
    {label: "forecast a lead time before", stroke: colour("--forecast"), width: 1, dash: [2, 3]},
    {label: "forecast", stroke: colour("--forecast"), width: 2},
    {label: "planned for", stroke: colour("--forecast"), width: 1, dash: [5, 4], marginTo: 3},
  ], time, `Load: now ${number(page.load)}, forecast up to ${number(Math.max(...plan.map((one) => one.load)))}`);
}

// the load comes from the data source, but what was planned only from this process and, with saved state, the one before
function sayPlannedSince(page) {
  const {times} = page.history.planned || {times: []};
  const isShort = times.length && times[0] > secondsOf(page.at) - SHOWN;
  setWords("planned-since", isShort ? `What was planned before ${clock(times[0])} UTC is not known here.` : "");
}

const LONG = 10;  // characters that fit in a line of a figure

function figure(name, value, more) {
  const place = make("div"), said = make("dd");
  said.append(make("span", value, value.length > LONG ? "long" : ""));
  if (more) said.append(make("small", more));
  place.append(make("dt", name), said);
  return place;
}

// what comes next: by the plan, unless the plan is not what KEDA is told until there is a new forecast
function nextFigure(page) {
  const why = page.explanation, {nextChange: change, outage} = why;
  if (outage && !outage.followsPlan) return figure("Next", why.told === undefined ? "nothing" : number(why.told), "until there is a new forecast");
  const lasts = outage ? `until ${clock(secondsOf(outage.until))}` : why.plan.at(-1).replicas < why.planned ? "while the load stays" : "to its end";
  const next = change ? `from ${clock(secondsOf(change.at))}` : lasts;
  return figure("Next, by the plan", change ? number(change.replicas) : "the same", page.observed ? `${next}; KEDA is still told 0` : next);
}

function showFigures(page) {
  const why = page.explanation;
  const toldNow = why.told === undefined ? "nothing" : number(why.told);
  const planned = `${page.observed ? "mode observe; " : ""}planned: ${number(why.planned)}`;
  const figures = [
    figure("Told KEDA", toldNow, why.told === undefined ? `it holds its replicas; ${planned}` : why.told === why.planned && !page.observed ? "replicas, as planned" : planned),
    nextFigure(page),
    figure("Load now", number(page.load), page.loadAt ? `in the unit of the query, measured at ${clock(secondsOf(page.loadAt))}` : ""),
    figure("Forecast", `${span(secondsOf(page.at) - secondsOf(page.madeAt))} old`, `stale after ${span(page.staleAfter)}`),
  ];
  if (page.budget) figures.push(budgetFigure(page));
  if (page.snapshot.steeringFactor) {
    const moves = page.observed ? "stands still in mode observe" : page.snapshot.replicasWithoutMax ? "stands still while --max limits the plan"
      : "grows while minutes are short of pods, and shrinks while none are";
    figures.push(figure("Steering factor", number(page.snapshot.steeringFactor), page.snapshot.atCap ? "at its maximum" : `times the upper quantile; it ${moves}`));
  }
  if (page.accuracy) {
    const {error, naiveError, quantile, coverage} = page.accuracy;
    const ahead = `mean error ${span(page.snapshot.leadTimeSeconds)} ahead, in the unit of the query; `;
    const beside = naiveError > 0 ? `${percent(Math.round(100 * error / naiveError) / 100)} of a naive forecast's; ` : "";
    figures.push(figure("Recent forecast error", number(error), `${ahead}${beside}${percent(coverage)} of windows below the ${percent(quantile)} quantile`));
  }
  find("figures").replaceChildren(...figures);
}

// what a stage would lead to, after its own number where that is another and not the result
function triedCell(stage, other) {
  if (other === undefined) return "";
  if (other.value === undefined || other.value === stage.value || other.value === other.result) return number(other.result);
  const own = quantity(other.value, other.unit);
  return other.result === undefined ? own : `${own} → ${number(other.result)}`;
}

// the answer without a stage, in a word where it stays as it is: the numbers are what would change it
function withoutCell(stage, {told, planned}) {
  const answer = ["stale-policy", "mode"].includes(stage.name) ? told : planned;
  return stage.without !== undefined && stage.without === answer ? "same" : number(stage.without);
}

function showStages(page) {
  const other = new Map((tried ? tried.stages : []).map((stage) => [stage.name, stage]));
  document.querySelectorAll("th.tried").forEach((one) => { one.hidden = !tried; });
  find("stages").tBodies[0].replaceChildren(...page.explanation.stages.map((stage) => {
    const line = make("tr", null, stage.name === page.explanation.decidedBy ? "decided" : "");
    const name = make("th", stage.name === page.explanation.decidedBy ? `${stage.name} (decided)` : stage.name);
    name.scope = "row";
    const own = stage.value === undefined ? "" : quantity(stage.value, stage.unit);
    line.append(name, make("td", own, "number"), make("td", number(stage.result), "number"), make("td", withoutCell(stage, page.explanation), "number"));
    if (tried) line.append(make("td", triedCell(stage, other.get(stage.name)), "number tried"));
    line.append(make("td", stage.words));
    return line;
  }));
}

function showTables(page) {
  const experts = page.snapshot ? page.snapshot.experts || [] : [];
  find("experts-section").hidden = !experts.length;
  find("experts").tBodies[0].replaceChildren(...[...experts].sort((a, b) => b.weight - a.weight).map((one) => {
    const line = make("tr");
    line.append(make("td", one.name), make("td", percent(one.weight), "number"), make("td", one.error === undefined ? "–" : number(one.error), "number"));
    return line;
  }));
  find("settings-section").hidden = !page.settings.length;
  find("settings").tBodies[0].replaceChildren(...page.settings.map((one) => {
    const line = make("tr");
    line.append(make("td", one.name), make("td", one.value), make("td", one.origin, one.origin === "default" ? "quiet" : ""));
    return line;
  }));
}

// what an empty field of "What if?" leaves as it is
function hintSettings(settings) {
  const values = new Map(settings.map((one) => [one.name, one.value]));
  for (const field of find("what-if").querySelectorAll("input")) {
    const value = values.get("--" + field.name.replace(/[A-Z]/g, (letter) => "-" + letter.toLowerCase()));
    if (value !== undefined) field.placeholder = value.startsWith("none") ? "" : value.split(" ")[0];
  }
}

function setWords(id, words) {
  if (find(id).textContent !== words) find(id).textContent = words;
}

// instead of charts and stages
function showWait(page) {
  const told = page.told === null ? "gets an error and holds its replicas" : `is told ${number(page.told)} replica${page.told === 1 ? "" : "s"}, as by --on-stale`;
  setWords("sentence", `There is no forecast yet: KEDA ${told}.`);
  const interval = page.settings.find((one) => one.name === "--interval");
  setWords("waits", `It waits for its data source to answer the query with a value; it is asked ${interval ? `every ${interval.value}` : "again and again"}. `
    + "The charts, and why KEDA is told what it is told, come with the first forecast.");
}

function showWorkload(page) {
  newest = page;
  setWords("state", page.state);
  find("state").className = `state urgency-${page.urgency}`;
  find("mode").hidden = !page.observed;
  const outage = page.explanation && page.explanation.outage;
  setWords("reason", page.state === "waiting" ? "" : outage ? outage.sentence : page.reason);
  find("reason").className = ["wrong", ""][page.urgency] ?? "quiet";
  showTables(page);
  hintSettings(page.settings);
  document.querySelectorAll(".of-a-forecast").forEach((one) => { one.hidden = !page.explanation; });
  find("waits").hidden = Boolean(page.explanation);
  if (!page.explanation) return showWait(page);
  setWords("sentence", page.explanation.sentence);
  setWords("read", outage && !outage.followsPlan && !page.observed ? "KEDA is not told the plan now."
    : page.observed ? "The plan is the largest number of the shaded lead time, or the floor. In mode observe KEDA is told 0."
    : "KEDA is told the largest number of the shaded lead time, or the floor.");
  showFigures(page);
  showStages(page);
  sayWhatIf(page);
  sayPlannedSince(page);
  drawCharts(page);
}

const settingsToTry = () => [...new FormData(find("what-if"))].filter(([, value]) => value.trim());

async function tryOut(key) {
  const given = settingsToTry();
  if (!given.length) { tried = null; return; }
  const answer = await ask("/explain?" + new URLSearchParams([["workload", key], ...given]));
  tried = answer.whatIf;
}

// against the newest plan: whether anything changes now, and when it next would
function sayWhatIf(page) {
  if (!tried) return setWords("what-if-sentence", "");
  const now = page.explanation, change = tried.nextChange;
  const same = now.told === tried.told && now.planned === tried.planned ? " The same as now." : "";
  const next = change ? `it will be ${number(change.replicas)} from ${clock(secondsOf(change.at))} on` : "it stays so";
  setWords("what-if-sentence", `What if: ${tried.sentence}${same} By that plan ${next}.`);
}

function beginWorkload() {
  const key = document.body.dataset.workload;
  const path = "/api/workloads/" + key.split("/").map(encodeURIComponent).join("/");
  const complain = (problems) => find("what-if-wrong").replaceChildren(...problems.map((one) => make("li", one)));
  const showTried = () => { if (newest && newest.explanation) { showStages(newest); sayWhatIf(newest); drawCharts(newest); } };
  const show = async () => {
    try {
      await tryOut(key);
      complain([]);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      tried = null;
      complain(error.message.split("; "));
    }
    showTried();
  };
  let wanted = false;
  find("what-if").addEventListener("submit", (event) => { event.preventDefault(); wanted = true; show().catch(noteFailure); });
  find("what-if").addEventListener("reset", () => { wanted = false; tried = null; complain([]); showTried(); });
  const redraw = () => { if (newest && newest.explanation) drawCharts(newest); };
  dark.addEventListener("change", redraw);
  addEventListener("resize", redraw);
  return async () => {
    const page = await ask(path);
    if (wanted && tried) await tryOut(key);
    showWorkload(page);
    return page.at;
  };
}

// Both

let lastSeen = null;

function noteFailure(error) {
  if (error instanceof Unauthorised) {
    find("login").hidden = false;
    find("content").hidden = true;
    setWords("login-wrong", error.message);
    setWords("connection", "asks for its token");
    return;
  }
  const unknown = error instanceof Unknown && find("unknown");
  if (unknown) {
    unknown.hidden = false;
    find("known").hidden = true;
    find("cut-off").hidden = true;
    setWords("connection", "live");
    return;
  }
  const since = lastSeen === null ? "Nothing could be read yet" : `Everything below is from ${clock(lastSeen)}`;
  const what = error instanceof Refused ? `Kedastral says: ${error.message}` : "Disconnected: Kedastral does not answer";
  setWords("cut-off", `${what}. ${since}.`);
  find("cut-off").hidden = false;
  setWords("connection", "disconnected");
}

function begin() {
  const refresh = document.body.dataset.page === "list" ? beginList() : beginWorkload();
  let running = false;
  const update = async () => {
    if (running || document.hidden) return;
    running = true;
    try {
      lastSeen = secondsOf(await refresh());
      setWords("clock", `as of ${clock(lastSeen)} UTC`);
      find("login").hidden = true;
      find("content").hidden = false;
      find("cut-off").hidden = true;
      if (find("unknown")) { find("unknown").hidden = true; find("known").hidden = false; }
      setWords("connection", "live");
    } catch (error) {
      noteFailure(error);
    } finally {
      running = false;
    }
  };
  find("login").addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem(TOKEN, find("token").value.trim());
    update();
  });
  document.addEventListener("visibilitychange", update);
  setInterval(update, EVERY);
  update();
}

begin();
