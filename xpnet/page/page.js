// The page: result, curves, confusion, first layer, mistakes. Names of a run only ever become text.
const facts = JSON.parse($("facts").textContent);
const { kind, classes, image, features, sizes } = facts, depth = sizes.length - 1;
let D = {}, P = {}, start = null, ranked = null; // arrays; the parameters at the end and at the start of the run; columns
const scaled = (X) => (X.v instanceof Uint8Array ? standard(mapped(X, (x) => x / 255)) : X); // as rows enter the network
const byColumn = (X, f, [a, s] = [D["inputs.mean"], D["inputs.std"]]) => (a ? mapped(X, (x, k) => f(x, a.v[k % X.n], s.v[k % X.n])) : X);
const standard = (X) => byColumn(X, (x, a, s) => (x - a) / s);
const original = (X) => byColumn(scaled(X), (x, a, s) => x * s + a); // in the units of the rows; pixels from 0 to 1
const one = (X, i) => matrix(1, X.n, row(X, i));
const pixels = (X, i) => original(one(X, i)).v.map((x) => (x - facts.low) / (facts.high - facts.low || 1));
const pool = (i) => ({ a: row(D["pool.A"], i), t: row(D["pool.T"], kind === "classes" ? 0 : i), said: best(row(D["pool.A"], i)), number: D["pool.row"].v[i] });
const best = (a) => a.reduce((most, x, j) => (x > a[most] ? j : most), 0);
const truth = (i) => D["pool.T"].v[i], metric = (name, x) => (name === "accuracy" ? percent(x, 2) : digits(x, 4));
const section = (id) => { $(id).hidden = false; $("sections").append(make("a", { href: `#${id}` }, $(id).querySelector("h2").textContent)); };

function answer(i) { // what the network made of a test row
  const { a, t, said } = pool(i);
  if (kind === "classes") return said === truth(i) ? `${classes[said]}, ${percent(a[said])}` : `${classes[truth(i)]}, taken for ${classes[said]}, ${percent(a[said])}`;
  const j = best(Array.from(a, (x, c) => Math.abs(x - t[c]))), name = classes.length > 1 || kind === "labels" ? `${classes[j]}: ` : "";
  return kind === "labels" ? `${name}${t[j] ? "true" : "not true"}, given ${percent(a[j])}` : `${name}true ${digits(t[j])}, predicted ${digits(a[j])}`;
}
function card(i, more = "") { // a test row as a picture, or as its most important numbers
  const title = `test row ${pool(i).number.toLocaleString("en")}`, caption = [make("span", {}, answer(i)), more && make("small", {}, more)];
  if (image) {
    const drawn = labelled(picture(pixels(D["pool.X"], i), image), title);
    if (!facts.whole) return make("figure", { class: "card", title }, drawn, make("figcaption", {}, caption));
    return button(() => show(i), { class: "card", title: `${title}: show it on the board` }, drawn, caption);
  }
  const x = original(one(D["pool.X"], i)).v;
  const lines = important().slice(0, 4).map((k) => make("li", {}, make("b", {}, nameOf(k)), ` ${digits(x[k])}`));
  return make("figure", { class: "card", title }, make("figcaption", {}, caption), make("ul", {}, lines));
}
const nameOf = (k) => (features ? features[k] : `column ${k}`);
const norms = () => Float64Array.from({ length: sizes[0] }, (_, k) => Math.hypot(...row(D.W1, k)));
const important = () => { const n = ranked ? [] : norms(); return (ranked ??= order(n.length, (k) => n[k])); };
const cards = (rows, more) => make("div", { class: image ? "cards" : "cards wide" }, rows.map((i) => card(i, more && more(i))));
const pairs = (list, entries) => list.append(...entries.map(([name, value]) => make("div", {}, make("dt", {}, String(name).replaceAll("_", " ")), make("dd", { class: String(value).length < 16 ? "short" : "" }, String(value).replaceAll(",", ", ")))));
function opening() {
  const { result, rows } = facts, things = image ? "pictures" : "rows";
  $("name").textContent = `xpnet · ${facts.title}`;
  const of = rows ? `${rows.toLocaleString("en")} test ${things}` : `the test ${things}`;
  $("headline").textContent = !result ? facts.title : kind === "numbers" ? `r² ${digits(result.r2, 3)} on ${of}` : `${percent(result.accuracy, 2)} of ${of} right`;
  $("summary").textContent = `${facts.network}: ${facts.parameters.toLocaleString("en")} parameters` + (facts.columns.length ? `, trained in ${digits(facts.seconds, 3)} s` : "") + (facts.best ? `; the weights are those of epoch ${facts.best}` : "");
  pairs($("settings"), [...Object.entries(result || {}).map(([name, x]) => [`test ${name}`, metric(name, x)]), ...facts.settings]);
  $("notes").append(...facts.notes.map((note) => make("p", { class: "note" }, note)));
}

function chart(title, names, format) { // lines by epoch; the pointer and the arrow keys choose one
  const w = 400, h = 220, left = 60, bottom = 26, values = names.map((name) => facts.epochs.map((epoch) => epoch[facts.columns.indexOf(name)]));
  const n = facts.epochs.length, all = values.flat().filter(Number.isFinite), low = all.length ? Math.min(...all) : 0, high = all.length ? Math.max(...all) : 1, span = high - low || Math.abs(high) || 1;
  const x = (i) => left + (n > 1 ? (i / (n - 1)) * (w - left - 12) : (w - left) / 2), y = (v) => 12 + (1 - (v - low) / span) * (h - bottom - 24);
  const svg = shape("svg", { viewBox: `0 0 ${w} ${h}`, role: "slider", tabindex: 0, "aria-label": `${title} by epoch`, "aria-valuemin": 1, "aria-valuemax": n });
  for (const v of [low, low + span / 2, low + span])
    svg.append(shape("line", { x1: left, x2: w - 12, y1: y(v), y2: y(v), class: "grid" }), shape("text", { x: left - 6, y: y(v) + 4, "text-anchor": "end" }, format(v)));
  for (const i of new Set([0, n - 1])) svg.append(shape("text", { x: x(i), y: h - 6, "text-anchor": "middle" }, String(facts.epochs[i][0])));
  const readout = make("p", { class: "readout" }), line = shape("line", { class: "cursor", y1: 6, y2: h - bottom }), dots = names.map((name, k) => shape("circle", { r: 4, class: `dot line${k}` }));
  values.forEach((v, k) => svg.append(shape("polyline", { class: `line${k}`, points: v.map((value, i) => (Number.isFinite(value) ? `${x(i).toFixed(1)},${y(value).toFixed(1)}` : "")).join(" ") })));
  svg.append(line, ...dots);
  let at = n - 1;
  function choose(i) {
    at = Math.max(0, Math.min(n - 1, i));
    line.setAttribute("x1", x(at)); line.setAttribute("x2", x(at));
    dots.forEach((dot, k) => { dot.setAttribute("cx", x(at)); dot.setAttribute("cy", y(values[k][at] ?? low)); });
    const said = names.map((name, k) => make("span", { class: `key line${k}` }, `${name.replaceAll("_", " ")} ${format(values[k][at])}`));
    readout.replaceChildren(make("span", {}, `epoch ${facts.epochs[at][0]}`), ...said);
    svg.setAttribute("aria-valuenow", facts.epochs[at][0]); svg.setAttribute("aria-valuetext", readout.textContent);
  }
  svg.addEventListener("pointermove", (event) => { const box = svg.getBoundingClientRect(); choose(Math.round((((event.clientX - box.left) / box.width) * w - left) / (w - left - 12) * (n - 1))); });
  svg.addEventListener("keydown", (event) => { const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key]; if (step) { event.preventDefault(); choose(at + step); } });
  choose(at);
  return make("figure", {}, make("figcaption", {}, title), svg, readout);
}
function curves() {
  if (!facts.epochs.length) return;
  section("curves");
  const named = (end) => facts.columns.filter((name) => name === end || name.endsWith(`_${end}`));
  const score = kind === "numbers" ? "r2" : "accuracy", box = $("curves").querySelector(".charts");
  box.append(chart("loss", named("loss"), (x) => digits(x)));
  if (named(score).length) box.append(chart(score, named(score), (x) => metric(score, x)));
}

function behind(i, j) { // the pictures of class i that were predicted as class j
  const rows = order(D["pool.X"].m, (r) => pool(r).a[j]).filter((r) => truth(r) === i && pool(r).said === j);
  const count = facts.totals.confusion[i][j], some = rows.length < count ? `; ${rows.length} of them:` : "";
  $("behind").replaceChildren(make("h3", {}, `${classes[i]}${i === j ? "" : `, taken for ${classes[j]}`}: ${count}${some}`), cards(rows.slice(0, 60)));
}
function confusion() {
  if (kind === "numbers") return scatter();
  if (!facts.totals || (kind === "classes" && !facts.totals.confusion)) return;
  section("where");
  if (kind === "labels") {
    const { true: truly, predicted, both } = facts.totals, head = ["label", "true", "predicted", "both", "precision", "recall"];
    const lines = classes.map((name, j) => [name, truly[j], predicted[j], both[j], percent(both[j] / predicted[j] || 0), percent(both[j] / truly[j] || 0)]);
    $("confusion").append(make("table", { class: "plain" }, make("tr", {}, head.map((h) => make("th", { scope: "col" }, h))), lines.map((l) => make("tr", {}, l.map((v, c) => make(c ? "td" : "th", {}, v))))));
    return;
  }
  $("howto").textContent = "Every row is a true class, every column a predicted one. A click shows what is behind a number.";
  const table = facts.totals.confusion, sums = table.map((line) => line.reduce((a, b) => a + b, 0) || 1), k = classes.length;
  const cell = (i, j, ...text) => button(() => behind(i, j), { "data-cell": `${i},${j}`, "aria-label": `${classes[i]} predicted as ${classes[j]}: ${table[i][j]}` }, ...text);
  if (k > 20) {
    $("howto").textContent = "The largest confusions: the true class, and the one that was predicted.";
    const found = order(k * k, (c) => (c % (k + 1) ? table[Math.floor(c / k)][c % k] : -1)).slice(0, 24).map((c) => [Math.floor(c / k), c % k]).filter(([i, j]) => table[i][j]);
    $("confusion").append(make("ol", { class: "largest" }, found.map(([i, j]) => make("li", {}, cell(i, j, classes[i], " → ", classes[j], make("b", {}, table[i][j]))))));
    return;
  }
  const head = make("tr", {}, make("th", { scope: "col" }, make("small", {}, "true ╲ predicted")), classes.map((name) => make("th", { scope: "col", title: name }, make("span", {}, name))));
  const share = (i, j) => table[i][j] / sums[i], most = Math.max(...table.flatMap((line, i) => line.map((_, j) => (i === j ? 1e-9 : share(i, j)))));
  const lines = table.map((line, i) => make("tr", {}, make("th", { scope: "row", title: classes[i] }, classes[i]), line.map((count, j) => {
    const td = make("td", { class: i === j ? "right" : count ? "wrong" : "" }, count ? cell(i, j, count) : "·");
    td.style.setProperty("--share", i === j ? share(i, j) : 0.1 + 0.8 * share(i, j) / most);
    return td;
  })));
  $("confusion").append(make("table", { class: classes.some((name) => name.length > 3) ? "tall" : "" }, make("thead", {}, head), make("tbody", {}, lines)));
}
function scatter() { // predicted against true
  if (!D["pool.T"]) return;
  $("where").querySelector("h2").textContent = "Predicted against true";
  section("where");
  $("howto").textContent = "Each dot is a test row. On the line, what was predicted is what was true.";
  classes.forEach((name, j) => {
    const at = [...Array(D["pool.T"].m).keys()].map((i) => [row(D["pool.T"], i)[j], row(D["pool.A"], i)[j], i]), all = at.flatMap(([t, a]) => [t, a]);
    const low = all.reduce((a, b) => Math.min(a, b)), span = all.reduce((a, b) => Math.max(a, b)) - low || 1, x = (v) => 52 + (v - low) / span * 296, y = (v) => 312 - (v - low) / span * 296;
    const svg = shape("svg", { viewBox: "0 0 360 352", role: "img", "aria-label": "predicted against true" }, shape("line", { x1: x(low), y1: y(low), x2: x(low + span), y2: y(low + span), class: "grid" }));
    for (const v of [low, low + span / 2, low + span]) svg.append(shape("text", { x: x(v), y: 332, "text-anchor": "middle" }, digits(v)), shape("text", { x: 46, y: y(v) + 4, "text-anchor": "end" }, digits(v)));
    svg.append(...at.map(([t, a, i]) => shape("circle", { cx: x(t), cy: y(a), r: 3, class: "point" }, shape("title", {}, `test row ${pool(i).number}: ${digits(t)}, predicted ${digits(a)}`))), shape("text", { x: 200, y: 350, "text-anchor": "middle" }, "true"), shape("text", { x: 52, y: 10 }, classes.length > 1 ? `predicted, output ${name}` : "predicted"));
    $("confusion").append(make("figure", { class: "scatter" }, svg));
  });
}

function units() {
  if (!D.W1) return;
  section("first");
  const W = D.W1, views = { "W1": W, ...(start ? { "W1 at the start": start.W1, "W1 less its start": minus(W, start.W1) } : {}) };
  const column = (A, j) => Float64Array.from({ length: A.m }, (_, k) => A.v[k * A.n + j]);
  const [outs, next] = [depth === 1 ? 0 : sizes[2], P.W2], answers = () => (D["pool.X"] && P.b1 ? hidden ??= forward(P, scaled(D["pool.X"]), facts) : null);
  let hidden = null; // computed when it is first asked for
  const weights = (v, name, most = largest(v) || 1) => make("ol", { class: "bars" }, order(v.length, (k) => Math.abs(v[k])).slice(0, 12).map((k) => { const li = bar(name(k), Math.abs(v[k]) / most, v[k], { class: v[k] < 0 ? "negative" : "" }); li.lastChild.textContent = digits(v[k]); return li; }));
  function choose(j) {
    for (const one of $("units").querySelectorAll("button")) one.setAttribute("aria-pressed", one.dataset.unit === String(j));
    const parts = image ? Object.entries(views).map(([name, A]) => make("figure", {}, labelled(heat(column(A, j), image[0], image[1], undefined, undefined, image[2]), name), make("figcaption", {}, name))) : [make("div", {}, make("h4", {}, "its largest weights"), weights(column(W, j), nameOf))];
    const detail = [make("h3", {}, `unit ${j + 1} of ${sizes[1]}`), make("div", { class: "pictures" }, parts)];
    if (answers()) {
      const A1 = hidden.A[1], top = order(A1.m, (i) => A1.v[i * A1.n + j]).slice(0, 4);
      detail.push(make("h4", {}, "the test rows that excite it most"), cards(top, (i) => `A1 ${digits(A1.v[i * A1.n + j])}`));
    }
    if (outs && next) detail.push(make("h4", {}, `what it passes on: its row of W2, ${outs} weights`), weights(row(next, j), (k) => (depth > 2 ? `unit ${k + 1}` : kind === "numbers" ? `output ${k + 1}` : classes[k])));
    $("unit").replaceChildren(...detail);
  }
  function view(name) {
    for (const one of $("views").children) one.setAttribute("aria-pressed", one.textContent === name);
    const A = views[name];
    $("units").replaceChildren(...[...Array(Math.min(A.n, 128)).keys()].map((j) => button(() => choose(j), { "data-unit": j, "aria-label": `unit ${j + 1}` }, image ? heat(column(A, j), image[0], image[1], undefined, undefined, image[2]) : [heat(column(A, j), 1, A.m), j + 1])));
  }
  $("stencils").textContent = (image ? "Each picture is a column of W1, a stencil that a unit lays over the picture: blue where ink excites the unit, amber where it calms it, each to its own scale. " : "") + (start && image ? "Pixels that never have ink never learn: there W1 less its start is empty. " : "") + "A click shows what a unit responds to." + (sizes[1] > 128 ? ` The first 128 of ${sizes[1]} units.` : "");
  if (image && start) $("views").append(...Object.keys(views).map((name) => button(() => view(name), {}, name)));
  if (!image) $("views").before(make("h3", {}, "The columns with the largest weights"), weights(norms(), nameOf), make("h3", {}, "Its units"));
  view("W1");
}
function mistakes() {
  if (!D["pool.X"]) return;
  if (kind === "numbers") $("worst").querySelector("h2").textContent = "Its largest errors";
  section("worst");
  const rows = [...Array(Math.min(24, facts.listed)).keys()]; // they come first
  $("count").textContent = kind === "numbers" ? "The rows whose prediction is furthest from the truth." : rows.length ? `${facts.mistakes.toLocaleString("en")} of ${facts.rows.toLocaleString("en")} are wrong. These are the ones of which it was most certain.` : "It made none.";
  $("mistakes").append(cards(rows));
}
function sheet() { // lines of pictures, of which the first is as it was
  if (!D.sheet || !image) return;
  section("sheet");
  $("distorted").style.setProperty("--across", facts.sheet);
  $("distorted").append(...[...Array(D.sheet.m).keys()].map((i) => labelled(picture(pixels(D.sheet, i), image), i % facts.sheet ? "distorted" : "as it was")));
}
async function main() {
  D = await unpacked($("arrays").textContent, facts.arrays);
  for (const name of Object.keys(D)) if (/^[Wb]\d+$/.test(name)) P[name] = D[name];
  if (facts.learned) start = Object.fromEntries(Object.keys(P).map((name) => [name, mapped(P[name], (w, k) => (name[0] === "b" ? 0 : w - D[`learned.${name}`].v[k] * facts.learned[name]))]));
  opening(); board(); curves(); confusion(); units(); mistakes(); sheet();
  await new Promise((painted) => setTimeout(painted)); lesson();
  if (facts.command) { section("again"); $("command").textContent = facts.command; pairs($("environment"), facts.environment); }
  document.documentElement.dataset.ready = "yes";
}
