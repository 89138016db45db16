"use strict";
// The equations of the README, with their names. A matrix is {m, n, v}: m rows, n columns, row after row.
const matrix = (m, n, v = new Float64Array(m * n)) => ({ m, n, v });
const mapped = (Z, f) => matrix(Z.m, Z.n, Float64Array.from(Z.v, f));
const row = (A, i) => A.v.subarray(i * A.n, (i + 1) * A.n);
const transposed = (A) => mapped(matrix(A.n, A.m), (_, k) => A.v[(k % A.m) * A.n + Math.floor(k / A.m)]);

function product(A, B) { // A B
  const C = matrix(A.m, B.n);
  for (let i = 0; i < A.m; i++)
    for (let k = 0; k < A.n; k++) {
      const a = A.v[i * A.n + k];
      if (a) for (let j = 0; j < B.n; j++) C.v[i * B.n + j] += a * B.v[k * B.n + j];
    }
  return C;
}
const plusRow = (Z, b) => mapped(Z, (z, k) => z + b.v[k % Z.n]);
const columnSums = (Z) => product(matrix(1, Z.m, new Float64Array(Z.m).fill(1)), Z);
const minus = (A, B) => mapped(A, (a, k) => a - B.v[k]);
const dense = (A, W, b) => plusRow(product(A, W), b);                    // Z = A W + b
const denseBackward = (dZ, A) => [product(transposed(A), dZ), columnSums(dZ)]; // dW = Aᵀ dZ, db = the sum of the rows of dZ
const denseBackwardInput = (dZ, W) => product(dZ, transposed(W));        // dA = dZ Wᵀ
const sigmoid = (z) => 1 / (1 + Math.exp(-z));
const ACTIVATIONS = { // A = f(Z), and f′(Z) from Z and A
  relu: [(z) => Math.max(0, z), (z) => (z > 0 ? 1 : 0)],
  tanh: [Math.tanh, (z, a) => 1 - a * a],
  sigmoid: [sigmoid, (z, a) => a * (1 - a)],
  identity: [(z) => z, () => 1],
};
function softmax(Z) { // A = exp(Z) / the sum of exp(Z) over the row
  const A = mapped(Z, (z) => z);
  for (let i = 0; i < A.m; i++) {
    const a = row(A, i), largest = a.reduce((x, y) => Math.max(x, y), -Infinity);
    a.forEach((z, j) => { a[j] = Math.exp(z - largest); });
    const sum = a.reduce((x, y) => x + y, 0);
    a.forEach((z, j) => { a[j] = z / sum; });
  }
  return A;
}
const LOSSES = { // A from the last Z, and the loss of an output
  "cross-entropy": [softmax, (a, t) => (t ? -t * Math.log(Math.max(a, 1e-300)) : 0)],
  "binary-cross-entropy": [(Z) => mapped(Z, sigmoid), (a, t) => -Math.log(Math.max(t ? a : 1 - a, 1e-300))],
  "squared-error": [(Z) => Z, (a, t) => (a - t) ** 2 / 2],
  poisson: [(Z) => mapped(Z, Math.exp), (a, t) => a - t + (t ? t * Math.log(t / a) : 0)],
};

function forward(P, X, network) { // Z_l = A_{l-1} W_l + b_l, A_l = f(Z_l)
  const A = [X], Z = [null], L = network.sizes.length - 1;
  for (let l = 1; l <= L; l++) {
    Z[l] = dense(A[l - 1], P[`W${l}`], P[`b${l}`]);
    A[l] = l < L ? mapped(Z[l], ACTIVATIONS[network.activations[l - 1]][0]) : LOSSES[network.loss][0](Z[l]);
  }
  return { A, Z };
}
function backward(P, { A, Z }, T, shares, network) { // from the last layer to the first
  const L = network.sizes.length - 1, dZ = [], dA = [], dP = {};
  dZ[L] = mapped(A[L], (a, k) => (a - T.v[k]) * shares[Math.floor(k / T.n)]);          // dZ_L = (A_L - Y) / m
  for (let l = L; l >= 1; l--) {
    [dP[`W${l}`], dP[`b${l}`]] = denseBackward(dZ[l], A[l - 1]);
    if (l === 1) break;
    dA[l - 1] = denseBackwardInput(dZ[l], P[`W${l}`]);
    const slope = ACTIVATIONS[network.activations[l - 2]][1];
    dZ[l - 1] = mapped(dA[l - 1], (d, k) => d * slope(Z[l - 1].v[k], A[l - 1].v[k])); // dZ = dA ∘ f′(Z)
  }
  return { dZ, dA, dP };
}
const lossOf = (A, T, shares, loss) => // the mean loss over the rows
  A.v.reduce((sum, a, k) => sum + LOSSES[loss][1](a, T.v[k]) * shares[Math.floor(k / T.n)], 0);
