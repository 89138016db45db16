// The board: strokes as points, made into a picture like those of the run, and asked about at every change.

const PEN = 2.4, BOX = 20, FIELD = 28; // as MNIST's: a pen for a box of 20 x 20 pixels, in a field of 28 x 28
let strokes = [], shown = null, drawn = null, waiting = false; // what is on the board, or a test picture; what enters
const keys = { at: null, down: false }; // the pen that the keyboard moves

function trace(pen, strokes, width, place) { // strokes as lines
  pen.lineCap = pen.lineJoin = "round"; pen.lineWidth = width;
  for (const stroke of strokes) {
    pen.beginPath();
    [...stroke, stroke.at(-1)].forEach((at, k) => pen[k ? "lineTo" : "moveTo"](...place(at)));
    pen.stroke();
  }
}
function ink(strokes, h, w) { // ink of 0 … 1 in h x w pixels, each averaged from many points
  const fine = Math.max(2, Math.min(8, Math.floor(640 / Math.max(h, w)))), canvas = make("canvas", { width: w * fine, height: h * fine }), pen = canvas.getContext("2d", { willReadFrequently: true });
  const points = strokes.flat(), size = Math.min(h, w), [x0, x1] = ends(points, 0), [y0, y1] = ends(points, 1);
  let scale = size / $("board").side, dx = 0, dy = 0;
  if (facts.centred) { // the box of the strokes becomes 20 x 20
    scale = (BOX - PEN) / Math.max(x1 - x0, y1 - y0, 8) * (size / FIELD);
    [dx, dy] = [w / 2 - scale * (x0 + x1) / 2, h / 2 - scale * (y0 + y1) / 2];
  }
  trace(pen, strokes, PEN * size / FIELD * fine, ([x, y]) => [fine * (scale * x + dx), fine * (scale * y + dy)]);
  const data = pen.getImageData(0, 0, w * fine, h * fine).data, v = new Float64Array(h * w);
  for (let k = 3; k < data.length; k += 4) { const p = (k - 3) / 4; v[Math.floor(p / (w * fine) / fine) * w + Math.floor((p % (w * fine)) / fine)] += data[k] / 255 / fine ** 2; }
  return facts.centred ? centred(v, h, w) : v;
}
const ends = (points, c) => [Math.min(...points.map((p) => p[c])), Math.max(...points.map((p) => p[c]))];
function centred(v, h, w) { // shifted by whole pixels, so that the centre of mass lies in the middle
  const mass = v.reduce((a, b) => a + b, 0) || 1, mean = (of) => v.reduce((sum, x, k) => sum + x * of(k), 0) / mass;
  const dx = Math.floor(w / 2) - Math.round(mean((k) => k % w)), dy = Math.floor(h / 2) - Math.round(mean((k) => Math.floor(k / w)));
  return v.map((_, k) => { const x = (k % w) - dx, y = Math.floor(k / w) - dy; return x >= 0 && x < w && y >= 0 && y < h ? v[y * w + x] : 0; });
}
function entered() { // what is on the board, as a row that enters the network
  if (shown !== null) return scaled(one(D["pool.X"], shown));
  const [h, w, depth] = image, v = strokes.length ? ink(strokes, h, w) : new Float64Array(h * w);
  const pixel = (x) => Math.round(255 * (facts.paper ? 1 - x : x)) / 255 * (facts.high - facts.low) + facts.low;
  return standard(mapped(matrix(1, h * w * depth), (_, k) => pixel(v[Math.floor(k / depth)])));
}
function ask() {
  drawn = entered();
  const { A } = forward(P, drawn, facts), a = row(A[depth], 0), top = best(a), empty = shown === null && !strokes.length;
  picture(pixels(drawn, 0), image, $("seen"));
  A.slice(1, depth).forEach((layer, l) => { const n = layer.n, w = Math.min(n, 16); heat(layer.v, Math.ceil(n / w), w, undefined, $("hidden").children[l].firstChild); });
  const shares = kind === "numbers" ? a.map((x) => Math.abs(x) / (largest(a) || 1)) : a;
  [...$("probabilities").children].forEach((li) => {
    const j = Number(li.dataset.class), own = D["targets.std"] ? a[j] * D["targets.std"].v[j] + D["targets.mean"].v[j] : a[j];
    li.dataset.value = own; li.classList.toggle("top", j === top && !empty);
    li.querySelector("i").style.setProperty("--share", empty ? 0 : shares[j]);
    li.lastChild.textContent = empty ? "" : kind === "numbers" ? digits(own) : percent(own);
  });
  if (classes.length > 20) for (const j of order(a.length, (c) => a[c]).slice(0, 12).reverse()) $("probabilities").prepend($("probabilities").querySelector(`[data-class="${j}"]`));
  $("answer").textContent = empty || kind === "numbers" ? "" : `${classes[top]}, ${percent(a[top])}`;
}
function redraw() { // once a frame
  if (!waiting) requestAnimationFrame(() => { waiting = false; paint(); ask(); });
  waiting = true;
}
function paint() {
  const canvas = $("board"), pen = canvas.getContext("2d"), unit = canvas.width / canvas.across;
  pen.setTransform(1, 0, 0, 1, 0, 0);
  pen.fillStyle = facts.paper ? "#fff" : "#000"; pen.fillRect(0, 0, canvas.width, canvas.height);
  if (shown !== null) { pen.imageSmoothingEnabled = false; pen.drawImage(picture(pixels(D["pool.X"], shown), image), 0, 0, canvas.width, canvas.height); }
  pen.setTransform(unit, 0, 0, unit, 0, 0);
  pen.strokeStyle = facts.paper ? "#000" : "#fff";
  trace(pen, strokes, PEN * canvas.side / FIELD, (at) => at);
  if (keys.at) { pen.strokeStyle = keys.down ? "#3a68e0" : "#888"; pen.lineWidth = 2; pen.beginPath(); pen.arc(...keys.at, 7, 0, 7); pen.stroke(); }
}
function show(i) { // a test picture on the board
  shown = i; strokes = []; redraw();
  $("draw").scrollIntoView({ behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth", block: "nearest" });
}

function board() {
  if (!image || !facts.whole) return;
  section("draw");
  const canvas = $("board"), [h, w] = image, wide = Math.max(w / h, 1), tall = Math.max(h / w, 1);
  canvas.side = 280 / Math.max(wide, tall); canvas.across = canvas.side * wide; canvas.width = 560 / tall; canvas.height = 560 / wide;
  for (const one of [canvas, $("seen")]) one.style.setProperty("--ratio", `${w} / ${h}`);
  sizes.slice(1, -1).forEach((n, l) => $("hidden").append(make("figure", {}, labelled(make("canvas", { role: "img" }), `A${l + 1}`), make("figcaption", {}, `A${l + 1}: ${n} units`))));
  $("probabilities").append(...classes.map((name, j) => bar(kind === "numbers" && classes.length === 1 ? "answer" : name, 0, 0, { "data-class": j })));
  const point = (event) => { const box = canvas.getBoundingClientRect(); return [(event.clientX - box.left) / box.width * canvas.across, (event.clientY - box.top) / box.width * canvas.across]; };
  const begin = (at) => { if (shown !== null) { shown = null; strokes = []; } strokes.push([at]); redraw(); };
  let drawing = false;
  canvas.addEventListener("pointerdown", (event) => { if (event.button) return; drawing = true; keys.at = null; canvas.setPointerCapture(event.pointerId); begin(point(event)); });
  canvas.addEventListener("pointermove", (event) => { if (drawing) { const all = event.getCoalescedEvents?.() ?? []; strokes.at(-1).push(...(all.length ? all : [event]).map(point)); redraw(); } });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { drawing = false; });
  canvas.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: [-5, 0], ArrowRight: [5, 0], ArrowUp: [0, -5], ArrowDown: [0, 5] }[event.key];
    if (!move && event.key !== " ") return;
    event.preventDefault();
    keys.at ??= [canvas.across / 2, canvas.across * h / w / 2];
    if (move) keys.at = keys.at.map((x, c) => Math.max(0, Math.min(c ? canvas.across * h / w : canvas.across, x + move[c])));
    else keys.down = !keys.down;
    if (keys.down && !move) begin([...keys.at]);
    else if (keys.down) strokes.at(-1).push([...keys.at]);
    redraw();
  });
  canvas.addEventListener("blur", () => { keys.at = null; keys.down = false; redraw(); });
  $("undo").addEventListener("click", () => { if (shown === null) strokes.pop(); shown = null; redraw(); });
  $("clear").addEventListener("click", () => { strokes = []; shown = null; redraw(); });
  $("example").addEventListener("click", () => show(Math.floor(Math.random() * D["pool.X"].m)));
  $("example").hidden = !D["pool.X"]; redraw();
}
