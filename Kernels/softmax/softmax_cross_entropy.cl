// Softmax cross-entropy with integer labels, its gradient, and whether the first choice is right. One work-item per
// row.
//
//   losses[n]     = log(sum over k of exp(x[n, k] - top)) + (top - x[n, label]),   top = max over k of x[n, k]
//   dlogits[n, k] = dlosses[n] * (softmax(x[n])[k] - (k == label))
//   correct[n]    = 1 if the first maximum of x[n] is at label, else 0
//
//   logits x, dlogits             [N, K], K >= 1
//   labels                        [N] int
//   losses, dlosses, correct      [N]
//
// The maximum is subtracted first, so logits of any finite size are safe. A row with a NaN has a NaN loss and
// gradient and is not correct. A label outside 0 ..< K gives a NaN loss and gradient, is not correct, and is never
// used as an index.
//
// Launch: global [N] or rounded up, any local size.

#include "lanes.clh"

// The largest logit, and the sum of the exponentials of their distances to it. A ragged end is filled with -infinity,
// whose exponential is 0; fmax passes over a NaN, which then shows in the sum.
static inline REAL sum_of_exponentials(__global const REAL* x, int K, REAL* top) {
  REAL8 tops = -INFINITY;
  for (int k = 0; k < K; k += 8) tops = fmax(tops, load_lanes(x + k, min(8, K - k), -INFINITY));
  const REAL4 tops4 = fmax(tops.lo, tops.hi);
  const REAL highest = fmax(fmax(tops4.x, tops4.y), fmax(tops4.z, tops4.w));
  REAL8 sums = 0;
  for (int k = 0; k < K; k += 8) sums += exp(load_lanes(x + k, min(8, K - k), -INFINITY) - highest);
  const REAL4 sums4 = sums.lo + sums.hi;
  *top = highest;
  return (sums4.x + sums4.y) + (sums4.z + sums4.w);
}

__kernel void softmax_cross_entropy_forward(
    __global REAL* restrict losses, __global const REAL* restrict logits, __global const int* restrict labels, int N,
    int K) {
  const size_t n = get_global_id(0);
  if (n >= N) return;
  const int label = labels[n];
  __global const REAL* x = logits + n * K;
  REAL top;
  const REAL sum = sum_of_exponentials(x, K, &top);
  losses[n] = label >= 0 && label < K ? log(sum) + (top - x[label]) : NAN;
}

__kernel void softmax_cross_entropy_backward(
    __global REAL* restrict dlogits, __global const REAL* restrict dlosses, __global const REAL* restrict logits,
    __global const int* restrict labels, int N, int K) {
  const size_t n = get_global_id(0);
  if (n >= N) return;
  const int label = labels[n];
  __global const REAL* x = logits + n * K;
  __global REAL* dx = dlogits + n * K;
  REAL top;
  const REAL sum = sum_of_exponentials(x, K, &top);
  const REAL dloss = label >= 0 && label < K ? dlosses[n] : NAN;
  for (int k = 0; k < K; k += 8) {
    const int lanes = min(8, K - k);
    store_lanes(dx + k, lanes, exp(load_lanes(x + k, lanes, -INFINITY) - top) / sum * dloss);
  }
  if (label >= 0 && label < K) dx[label] -= dloss;
}

__kernel void softmax_cross_entropy_top_one(
    __global REAL* restrict correct, __global const REAL* restrict logits, __global const int* restrict labels, int N,
    int K) {
  const size_t n = get_global_id(0);
  if (n >= N) return;
  __global const REAL* x = logits + n * K;
  int best = 0;
  bool comparable = !isnan(x[0]);
  for (int k = 1; k < K; k++) {
    comparable = comparable && !isnan(x[k]);
    if (x[k] > x[best]) best = k;
  }
  correct[n] = comparable && best == labels[n] ? 1 : 0;
}
