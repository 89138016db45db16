// The lesson: the first step of the run, played one equation at a time, from its own rows and weights.
const ENDS = { "cross-entropy": "softmax", "binary-cross-entropy": "sigmoid", "squared-error": "", poisson: "exp" }, Y = kind === "classes" ? "Y" : "T";

function tiles(A, pictures) { // a matrix as an image: rows or columns that are pictures become tiles
  if (!pictures) return { v: A.v, h: A.m, w: A.n, of: (x, y) => [y, x] };
  const [h, w, deep] = image, n = Math.min(pictures === "rows" ? A.m : A.n, 128), across = Math.ceil(Math.sqrt(n * 2 * h / w)), down = Math.ceil(n / across);
  const W = across * (w + 1) - 1, H = down * (h + 1) - 1, v = new Float64Array(W * H).fill(NaN);
  const index = (tile, p) => (pictures === "rows" ? [tile, p] : [p, tile]);
  const of = (x, y) => { const tile = Math.floor(y / (h + 1)) * across + Math.floor(x / (w + 1)), [px, py] = [x % (w + 1), y % (h + 1)]; return tile < n && px < w && py < h ? index(tile, (py * w + px) * deep) : null; };
  for (let y = 0; y < H; y++) for (let x = 0; x < W; x++) { const at = of(x, y); if (at) v[y * W + x] = A.v[at[0] * A.n + at[1]]; }
  return { v, h: H, w: W, of };
}
function plate(name, A, pictures, pick, at = 0) { // a matrix with its name, its shape and its range; the pointer reads its numbers
  const { v, h, w, of } = tiles(A, pictures), canvas = labelled(heat(v.map((x) => (Number.isNaN(x) ? 0 : x)), h, w), `${name}, ${A.m} by ${A.n}`);
  const low = A.v.reduce((a, b) => Math.min(a, b)), high = A.v.reduce((a, b) => Math.max(a, b)), range = `${digits(low)} … ${digits(high)}`;
  const note = make("small", {}, range), frame = make("div", { class: `plate ${h > 3 * w ? "tall" : h < 4 ? "flat" : "wide-plate"} ${pick && !pictures ? "rows" : ""}` }, canvas);
  const under = (event) => { const box = canvas.getBoundingClientRect(); return of(Math.floor((event.clientX - box.left) / box.width * w), Math.floor((event.clientY - box.top) / box.height * h)); };
  frame.style.setProperty("--at", at / A.m);
  canvas.addEventListener("pointermove", (event) => {
    const at = under(event);
    note.textContent = at ? `${name}[${at.join(", ")}] = ${digits(A.v[at[0] * A.n + at[1]])}` : range;
  });
  canvas.addEventListener("pointerleave", () => { note.textContent = range; });
  if (pick) canvas.addEventListener("click", (event) => { const at = under(event); if (at) pick(at[0]); });
  return make("figure", {}, frame, make("figcaption", {}, make("b", {}, name), ` (${A.m === 1 ? `${A.n},` : `${A.m}, ${A.n}`})`, note));
}

function stages(P, X, T, shares, pick) { // every equation of a step, with its numbers
  const { A, Z } = forward(P, X, facts), { dZ, dA, dP } = backward(P, { A, Z }, T, shares, facts), { rate, optimizer, nesterov, momentum, epsilon } = facts.lesson;
  const before = lossOf(A[depth], T, shares, facts.loss), adam = optimizer !== "sgd", lr = rate * (nesterov ? 1 + momentum : 1), found = [];
  const after = Object.fromEntries(Object.entries(P).map(([name, W]) => [name, mapped(W, (w, k) => { const g = dP[name].v[k]; return w - lr * (adam ? g / (Math.abs(g) + epsilon) : g); })]));
  const later = forward(after, X, facts).A[depth], now = lossOf(later, T, shares, facts.loss);
  const a = row(A[depth], pick), t = row(T, pick), true_ = best(t), name = (l) => (l ? `A${l}` : "X"), rows = image ? "rows" : "", columns = (l) => (l === 1 && image ? "columns" : "");
  const own = kind === "classes" ? ` Row ${pick} is of class ${classes[true_]}, and gets ${percent(a[true_])}.` : ` Row ${pick}: ${digits(t[0])} is true, and ${digits(a[0])} comes out.`;
  const add = (symbol, M, equation, words, parts) => found.push({ symbol, M, equation, words, parts });
  add("X", X, "X", `A batch goes in: ${X.m} rows of ${X.n} numbers${image ? ", each row a picture" : ""}. It is the first batch of this run${facts.lesson.rows > X.m ? ` (${X.m} of its ${facts.lesson.rows} rows)` : ""}. Click a row to follow it.`, [["X", X, rows]]);
  for (let l = 1; l <= depth; l++) {
    add(`Z${l}`, Z[l], `Z${l} = ${name(l - 1)} W${l} + b${l}`, l === 1 ? "Each column of W1 is laid over each row of X: numbers that meet are multiplied, and the products are added up. The bias b1 is added to the sum." : `The next layer weighs what came out of layer ${l - 1}, in the same way.`, [[name(l - 1), A[l - 1], l === 1 ? rows : ""], [`W${l}`, P[`W${l}`], columns(l)], "+", [`b${l}`, P[`b${l}`]], "=", [`Z${l}`, Z[l]]]);
    const f = l < depth ? facts.activations[l - 1] : ENDS[facts.loss], on = A[l].v.filter((x) => x > 0).length / A[l].v.length;
    const said = { relu: `relu keeps what is above 0 and lets nothing else pass: ${percent(on, 0)} of the numbers are left.`, softmax: `exp makes the scores positive, and each row is divided by its sum: ${sizes[depth]} probabilities.${own}`, "": `The output is Z${l} itself.${own}` }[f] ?? `${f} is applied to every number.${l === depth ? own : ""}`;
    add(`A${l}`, A[l], f ? `A${l} = ${f}(Z${l})` : `A${l} = Z${l}`, said, [[`Z${l}`, Z[l]], "→", [`A${l}`, A[l]]]);
  }
  const shown = kind === "classes" ? `loss = −(1/m) Σ log A${depth}[i, yᵢ]` : { "binary-cross-entropy": `loss = −(1/m) Σ (T log A + (1 − T) log(1 − A))`, "squared-error": "loss = (1/m) Σ (A − T)² / 2", poisson: "loss = (1/m) Σ (A − T + T log(T / A))" }[facts.loss];
  add("loss", matrix(1, 1, [before]), shown, `How wrong is that? The loss of this batch is ${digits(before, 4)}.${kind === "classes" ? ` Guessing would give ln ${sizes[depth]} = ${digits(Math.log(sizes[depth]))}.` : ""}`, [[`A${depth}`, A[depth]], [Y, T], "→", digits(before, 4)]);
  add(`dZ${depth}`, dZ[depth], `dZ${depth} = (A${depth} − ${Y}) / m`, `Now backward. What was said, minus what is true: negative (amber) where more should have been said, positive (blue) where less.`, [[`A${depth}`, A[depth]], "−", [Y, T], "=", [`dZ${depth}`, dZ[depth]]]);
  for (let l = depth; l >= 1; l--) {
    add(`dW${l}`, dP[`W${l}`], `dW${l} = ${name(l - 1)}ᵀ dZ${l},  db${l} = Σ rows of dZ${l}`, `A weight is to blame where its input and the error of its unit meet, summed over the batch.${l === 1 && image ? " Each tile is the gradient of one stencil: the pictures that should have counted more or less." : ""}`, [[name(l - 1), A[l - 1], l === 1 ? rows : ""], [`dZ${l}`, dZ[l]], "→", [`dW${l}`, dP[`W${l}`], columns(l)], [`db${l}`, dP[`b${l}`]]]);
    if (l === 1) break;
    const f = facts.activations[l - 2];
    add(`dA${l - 1}`, dA[l - 1], `dA${l - 1} = dZ${l} W${l}ᵀ`, `The error goes back through the weights that it came by, so every unit of layer ${l - 1} learns its part in it.`, [[`dZ${l}`, dZ[l]], [`W${l}`, P[`W${l}`]], "→", [`dA${l - 1}`, dA[l - 1]]]);
    add(`dZ${l - 1}`, dZ[l - 1], `dZ${l - 1} = dA${l - 1} ∘ ${f}′(Z${l - 1})`, f === "relu" ? "Where relu let nothing pass, nothing comes back." : `Each number is multiplied by the slope of ${f} at its place.`, [[`dA${l - 1}`, dA[l - 1]], [`Z${l - 1}`, Z[l - 1]], "→", [`dZ${l - 1}`, dZ[l - 1]]]);
  }
  const rule = adam ? `W ← W − lr dW / (|dW| + ε)` : "W ← W − lr dW,  b ← b − lr db", left = ["weight_decay", "clip", "dropout", "augment"].filter((s) => facts.lesson[s] && String(facts.lesson[s]) !== "");
  add("update", minus(after.W1, P.W1), rule, `Every parameter goes a little against its gradient, at lr = ${digits(lr)}${adam ? `: the first step of ${optimizer}, which has no memory yet` : ""}. The loss of this batch goes from ${digits(before, 4)} to ${digits(now, 4)}.${kind === "classes" ? ` Row ${pick} now gets ${percent(row(later, pick)[true_])}.` : ""}${left.length ? ` (The run also used ${left.join(", ").replaceAll("_", " ")}, left out here.)` : ""}`, [["W1", P.W1, columns(1)], "→", ["new W1", after.W1, columns(1)], ["the change", minus(after.W1, P.W1), columns(1)]]);
  return found;
}

function lesson() {
  if (!facts.lesson) return;
  section("lesson");
  const X = scaled(D["lesson.X"]), T = D["lesson.T"], shares = D["lesson.shares"].v;
  let at = 0, pick = 0, timer = null, steps = [];
  $("story").textContent = `These are the numbers of this run: its first batch, ${start ? "the weights that it began with, " : ""}and its first learning rate. Play it, or choose a step.`;
  const again = () => { steps = stages($("when").value === "start" && start ? start : P, X, T, shares, pick); go(at); };
  const chosen = (i) => { pick = Math.min(i, X.m - 1); again(); };
  function go(i) {
    at = Math.max(0, Math.min(steps.length - 1, i));
    const { equation, words, parts } = steps[at], turn = steps.findIndex(({ symbol }) => symbol.startsWith("dZ"));
    const node = ({ symbol, M }, k) => button(() => { stop(); go(k); }, { class: k > at ? "ahead" : "", "aria-current": k === at ? "step" : null }, k > at || symbol === "loss" ? make("i", { class: "blank" }, symbol === "loss" && k <= at ? digits(M.v[0]) : "") : (({ v, h, w }) => heat(v.map((x) => x || 0), h, w))(tiles(M, symbol === "X" && image ? "rows" : /W1|update/.test(symbol) && image ? "columns" : "")), make("b", {}, symbol));
    const line = (name, from, to) => { const row = make("div", { class: name }, steps.slice(from, to).map((step, k) => node(step, k + from))); row.style.setProperty("--n", row.children.length); return row; };
    $("chain").replaceChildren(line("forward", 0, turn), line("backward", turn));
    $("stage").replaceChildren(make("h3", {}, equation.split(/(ᵀ)/).map((part) => (part === "ᵀ" ? make("sup", {}, "T") : part))), make("p", {}, words), make("div", { class: "equation" }, parts.map((part) => (typeof part === "string" ? make("span", { class: "sign" }, part) : plate(...part.concat(part.length < 3 ? [""] : []), part[1].m === X.m && part[2] !== "columns" ? chosen : null, pick)))));
    $("back").disabled = at === 0; $("next").disabled = at === steps.length - 1;
  }
  function stop() { clearInterval(timer); timer = null; $("play").textContent = "Play"; }
  $("play").addEventListener("click", () => {
    if (timer) return stop();
    if (at === steps.length - 1) go(0);
    $("play").textContent = "Pause";
    timer = setInterval(() => { go(at + 1); if (at === steps.length - 1) stop(); }, 3500);
  });
  for (const [id, step] of [["back", -1], ["next", 1]]) $(id).addEventListener("click", () => { stop(); go(at + step); });
  $("when").parentElement.hidden = !start;
  $("when").addEventListener("change", again);
  again();
}

main();
