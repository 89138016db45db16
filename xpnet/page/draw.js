// Elements, arrays and pictures.
const $ = (id) => document.getElementById(id);
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes))
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  element.append(...children.flat().map((child) => (child instanceof Node ? child : String(child))));
  return element;
}
function shape(name, attributes, ...children) { // an element of SVG
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}
const labelled = (element, text) => { element.setAttribute("aria-label", text); return element; };
const button = (press, attributes, ...children) => make("button", { type: "button", onclick: press, ...attributes }, ...children);
const digits = (x, n = 3) => (x === null || !Number.isFinite(x) ? "–" : x !== 0 && (Math.abs(x) < 1e-3 || Math.abs(x) >= 1e6) ? x.toExponential(1) : Number(x.toPrecision(n)).toLocaleString("en", { maximumFractionDigits: 6 }));
const percent = (x, n = 1) => (x === null || !Number.isFinite(x) ? "–" : `${(100 * x).toFixed(n)} %`);
const largest = (v) => v.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
const order = (n, score) => [...Array(n).keys()].map((i) => [score(i), i]).sort((a, b) => b[0] - a[0]).map((pair) => pair[1]);

async function unpacked(text, places) { // the arrays of the page, as matrices
  const bytes = Uint8Array.fromBase64?.(text) ?? Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(stream).arrayBuffer();
  const types = { float32: Float32Array, float64: Float64Array, int16: Int16Array, int32: Int32Array, uint8: Uint8Array };
  return Object.fromEntries(Object.entries(places).map(([name, { type, shape: [m, n], at }]) => {
    const [rows, columns] = n === undefined ? [1, m] : [m, n];
    return [name, matrix(rows, columns, new types[type](buffer, at, rows * columns))];
  }));
}
function picture(v, [h, w, depth], canvas = make("canvas", { role: "img" })) { // v: 0 … 1
  canvas.width = w; canvas.height = h;
  const image = new ImageData(w, h);
  for (let p = 0; p < w * h; p++) {
    for (let c = 0; c < 3; c++) image.data[4 * p + c] = 255 * v[p * depth + (depth === 3 ? c : 0)];
    image.data[4 * p + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}
const BLUE = [58, 104, 224], AMBER = [214, 112, 28]; // positive, negative
function heat(v, h, w, most = largest(v) || 1, canvas = make("canvas", { role: "img" }), depth = 1) { // paper where v is 0
  canvas.width = w; canvas.height = h;
  const image = new ImageData(w, h);
  for (let p = 0; p < w * h; p++) {
    let x = 0;
    for (let c = 0; c < depth; c++) x += v[p * depth + c] / depth;
    image.data.set([...(x < 0 ? AMBER : BLUE), 255 * Math.min(1, Math.abs(x) / most) ** 0.8], 4 * p);
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  canvas.classList.add("heat");
  return canvas;
}

function bar(label, share, value, extra = {}) { // a name, a bar and a number
  const fill = make("i");
  fill.style.setProperty("--share", Math.max(0, Math.min(1, share)));
  return make("li", { "data-value": value, ...extra }, make("b", {}, label), make("span", { class: "track", "aria-hidden": "true" }, fill), make("span", { class: "number" }));
}
