// Softmax cross-entropy with integer labels, its gradient, and whether the first choice is right.
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
// …_with_gradient has losses and dlogits as results, from one pass over the exponentials. Parameter WITH_TOP_ONE: 1 adds
// the result `correct`.
//
// Two forms of each with the same arguments:
//   …_rows    CPU: vectors of sixteen classes of a row; a work-item owns `block` rows; global [ceil(N / block)], local
//             [1]
//   …         any device: one work-item per row; global [N] or rounded up, any local size

#include "lanes.clh"

#ifndef WITH_TOP_ONE
#define WITH_TOP_ONE 0
#endif
#if WITH_TOP_ONE
#define CORRECT_PARAMETER , __global REAL *restrict correct
#else
#define CORRECT_PARAMETER
#endif

#define FORWARD_PARAMETERS                                                                                   \
  __global REAL *restrict losses, __global const REAL *restrict logits, __global const int *restrict labels, \
      int N, int K, long block
#define BACKWARD_PARAMETERS                                                                                     \
  __global REAL *restrict dlogits, __global const REAL *restrict dlosses, __global const REAL *restrict logits, \
      __global const int *restrict labels, int N, int K, long block
#define WITH_GRADIENT_PARAMETERS \
  __global REAL *restrict losses, __global REAL *restrict dlogits CORRECT_PARAMETER,                            \
      __global const REAL *restrict dlosses, __global const REAL *restrict logits,                              \
      __global const int *restrict labels, int N, int K, long block
#define TOP_ONE_PARAMETERS                                                                                    \
  __global REAL *restrict correct, __global const REAL *restrict logits, __global const int *restrict labels, \
      int N, int K, long block

// The numbers of a vector's lanes. A class beyond the last is a lane of -infinity, whose exponential is 0.
#define LANES16 ((REAL16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15))

// Sixteen logits from x on, of which the first `classes` are the row's and the first `room` are in the tensor.
static inline REAL16 load_classes(__global const REAL* x, int classes, size_t room) {
  if (classes >= 16) return LOAD16(x, 0);
  if (room >= 16) return LANES16 < (REAL)classes ? LOAD16(x, 0) : (REAL16)(-INFINITY);
  REAL lane[16];
  for (int l = 0; l < 16; l++) lane[l] = l < classes ? x[l] : -INFINITY;
  return LOAD16(lane, 0);
}

// Stores the first `classes` lanes. Of the first `room` others may be written: they are overwritten later.
static inline void store_classes(__global REAL* x, int classes, size_t room, REAL16 value) {
  if (room >= 16) {
    STORE16(x, 0, value);
    return;
  }
  REAL lane[16];
  STORE16(lane, 0, value);
  for (int l = 0; l < min(classes, 16); l++) x[l] = lane[l];
}

#define LARGER(a, b) ((a) > (b) ? (a) : (b))
#define SMALLER(a, b) ((a) < (b) ? (a) : (b))
#define SUM(a, b) ((a) + (b))

// Combines the lanes of a vector.
#define ACROSS(name, COMBINE)                                                              \
  static inline REAL name(REAL16 v) {                                                      \
    const REAL8 v8 = COMBINE(v.lo, v.hi);                                                  \
    const REAL4 v4 = COMBINE(v8.lo, v8.hi);                                                \
    const REAL2 v2 = COMBINE(v4.lo, v4.hi);                                                \
    return COMBINE(v2.x, v2.y);                                                            \
  }
ACROSS(largest_across, LARGER)
ACROSS(smallest_across, SMALLER)
ACROSS(sum_across, SUM)

// The largest logit; a comparison passes over a NaN, which then shows in the sum.
static inline REAL largest_of_row(__global const REAL* x, int K, size_t room) {
  REAL16 tops = -INFINITY;
  for (int k = 0; k < K; k += 16) {
    const REAL16 value = load_classes(x + k, K - k, room - k);
    tops = LARGER(value, tops);
  }
  return largest_across(tops);
}

// What the loss has besides the logarithm of the sum.
static inline REAL offset_of_row(__global const REAL* x, int K, int label, REAL top) {
  return label >= 0 && label < K ? top - x[label] : NAN;
}

// Stores the losses of rows base ..< end, sixteen at most: logarithms are taken of all their sums at once.
static inline void store_losses(
    __global REAL* losses, size_t base, size_t end, const REAL* sums, const REAL* offsets) {
  const REAL16 loss = real_log(LOAD16(sums, 0)) + LOAD16(offsets, 0);
  if (end - base == 16) {
    STORE16(losses, base, loss);
  } else {
    REAL lane[16];
    STORE16(lane, 0, loss);
    for (size_t n = base; n < end; n++) losses[n] = lane[n - base];
  }
}

// Stores a row's gradient and gives the sum of its exponentials. From x on `room` values are in the tensor, from dx on
// `own` are of the work-item.
static inline REAL gradient_of_row(
    __global REAL* dx, __global const REAL* x, int K, size_t room, size_t own, REAL top, int label, REAL upstream) {
  const REAL dloss = label >= 0 && label < K ? upstream : NAN;
  REAL16 sums = 0;
  int k = 0;
  // The last vector stays in a register, the others wait in dx for their sum.
  for (; k + 16 < K; k += 16) {
    const REAL16 e = real_exp(LOAD16(x, k) - top);
    sums += e;
    STORE16(dx, k, e);
  }
  const REAL16 e = real_exp(load_classes(x + k, K - k, room - k) - top);
  const REAL sum = sum_across(sums + e), factor = dloss / sum;
  for (int done = 0; done < k; done += 16) STORE16(dx, done, LOAD16(dx, done) * factor);
  store_classes(dx + k, K - k, own - k, e * factor);
  if (label >= 0 && label < K) dx[label] -= dloss;
  return sum;
}

// 1 if the first of a row's largest logits is at `label` and none is NaN, else 0. `largest` is as largest_of_row has it.
static inline REAL top_one_of_row(__global const REAL* x, int K, size_t room, int label, REAL* largest) {
  REAL16 top = -INFINITY, best = LANES16, missing = 0;
  for (int k = 0; k < K; k += 16) {
    const REAL16 value = load_classes(x + k, K - k, room - k);
    best = value > top ? LANES16 + (REAL)k : best;
    top = LARGER(value, top);
    missing = value != value ? value : missing;
  }
  *largest = largest_across(top);
  const REAL16 firsts = top == *largest ? best : (REAL16)(INFINITY);
  const REAL any = sum_across(missing);
  return any == any && smallest_across(firsts) == (REAL)label ? 1 : 0;
}

#define OWN_ROWS(first, last) \
  const size_t first = get_global_id(0) * block, last = min(first + (size_t)block, (size_t)N), size = (size_t)N * K;

KEEL_CPU __kernel void softmax_cross_entropy_forward_rows(FORWARD_PARAMETERS) {
  OWN_ROWS(first, last)
  REAL sums[16], offsets[16];
  for (int l = 0; l < 16; l++) sums[l] = 1, offsets[l] = 0;
  for (size_t base = first; base < last; base += 16) {
    const size_t end = min(base + 16, last);
    for (size_t n = base; n < end; n++) {
      __global const REAL* x = logits + n * K;
      const size_t room = size - n * K;
      const REAL top = largest_of_row(x, K, room);
      REAL16 sum = 0;
      for (int k = 0; k < K; k += 16) sum += real_exp(load_classes(x + k, K - k, room - k) - top);
      sums[n - base] = sum_across(sum);
      offsets[n - base] = offset_of_row(x, K, labels[n], top);
    }
    store_losses(losses, base, end, sums, offsets);
  }
}

KEEL_CPU __kernel void softmax_cross_entropy_backward_rows(BACKWARD_PARAMETERS) {
  OWN_ROWS(first, last)
  for (size_t n = first; n < last; n++) {
    __global const REAL* x = logits + n * K;
    const size_t room = size - n * K;
    gradient_of_row(
        dlogits + n * K, x, K, room, (last - n) * K, largest_of_row(x, K, room), labels[n], dlosses[n]);
  }
}

KEEL_CPU __kernel void softmax_cross_entropy_with_gradient_rows(WITH_GRADIENT_PARAMETERS) {
  OWN_ROWS(first, last)
  REAL sums[16], offsets[16];
  for (int l = 0; l < 16; l++) sums[l] = 1, offsets[l] = 0;
  for (size_t base = first; base < last; base += 16) {
    const size_t end = min(base + 16, last);
    for (size_t n = base; n < end; n++) {
      __global const REAL* x = logits + n * K;
      const size_t room = size - n * K;
      const int label = labels[n];
#if WITH_TOP_ONE
      REAL top;
      correct[n] = top_one_of_row(x, K, room, label, &top);
#else
      const REAL top = largest_of_row(x, K, room);
#endif
      sums[n - base] = gradient_of_row(dlogits + n * K, x, K, room, (last - n) * K, top, label, dlosses[n]);
      offsets[n - base] = offset_of_row(x, K, label, top);
    }
    store_losses(losses, base, end, sums, offsets);
  }
}

KEEL_CPU __kernel void softmax_cross_entropy_top_one_rows(TOP_ONE_PARAMETERS) {
  OWN_ROWS(first, last)
  for (size_t n = first; n < last; n++) {
    REAL top;
    correct[n] = top_one_of_row(logits + n * K, K, size - n * K, labels[n], &top);
  }
}

// The largest logit, and the sum of the exponentials of their distances to it. A ragged end is filled with -infinity,
// whose exponential is 0; fmax passes over a NaN, which then shows in the sum.
static inline REAL sum_of_exponentials(__global const REAL* x, int K, REAL* top) {
  REAL8 tops = -INFINITY;
  for (int k = 0; k < K; k += 8) tops = fmax(tops, load_lanes(x + k, min(8, K - k), -INFINITY));
  const REAL4 tops4 = fmax(tops.lo, tops.hi);
  const REAL highest = fmax(fmax(tops4.x, tops4.y), fmax(tops4.z, tops4.w));
  REAL8 sums = 0;
  for (int k = 0; k < K; k += 8) sums += real_exp(load_lanes(x + k, min(8, K - k), -INFINITY) - highest);
  const REAL4 sums4 = sums.lo + sums.hi;
  *top = highest;
  return (sums4.x + sums4.y) + (sums4.z + sums4.w);
}

// The loss of a row whose exponentials have this sum.
static inline REAL loss_of(__global const REAL* x, int K, int label, REAL top, REAL sum) {
  return label >= 0 && label < K ? real_log(sum) + (top - x[label]) : NAN;
}

static inline void store_gradient(
    __global REAL* dx, __global const REAL* x, int K, int label, REAL top, REAL sum, REAL upstream) {
  const REAL dloss = label >= 0 && label < K ? upstream : NAN;
  for (int k = 0; k < K; k += 8) {
    const int lanes = min(8, K - k);
    store_lanes(dx + k, lanes, real_exp(load_lanes(x + k, lanes, -INFINITY) - top) / sum * dloss);
  }
  if (label >= 0 && label < K) dx[label] -= dloss;
}

static inline REAL is_top_one(__global const REAL* x, int K, int label) {
  int best = 0;
  bool comparable = !isnan(x[0]);
  for (int k = 1; k < K; k++) {
    comparable = comparable && !isnan(x[k]);
    if (x[k] > x[best]) best = k;
  }
  return comparable && best == label ? 1 : 0;
}

__kernel void softmax_cross_entropy_forward(FORWARD_PARAMETERS) {
  const size_t n = get_global_id(0);
  if (n >= N) return;
  __global const REAL* x = logits + n * K;
  REAL top;
  const REAL sum = sum_of_exponentials(x, K, &top);
  losses[n] = loss_of(x, K, labels[n], top, sum);
}

__kernel void softmax_cross_entropy_backward(BACKWARD_PARAMETERS) {
  const size_t n = get_global_id(0);
  if (n >= N) return;
  __global const REAL* x = logits + n * K;
  REAL top;
  const REAL sum = sum_of_exponentials(x, K, &top);
  store_gradient(dlogits + n * K, x, K, labels[n], top, sum, dlosses[n]);
}

__kernel void softmax_cross_entropy_with_gradient(WITH_GRADIENT_PARAMETERS) {
  const size_t n = get_global_id(0);
  if (n >= N) return;
  __global const REAL* x = logits + n * K;
  REAL top;
  const REAL sum = sum_of_exponentials(x, K, &top);
  losses[n] = loss_of(x, K, labels[n], top, sum);
  store_gradient(dlogits + n * K, x, K, labels[n], top, sum, dlosses[n]);
#if WITH_TOP_ONE
  correct[n] = is_top_one(x, K, labels[n]);
#endif
}

__kernel void softmax_cross_entropy_top_one(TOP_ONE_PARAMETERS) {
  const size_t n = get_global_id(0);
  if (n >= N) return;
  correct[n] = is_top_one(logits + n * K, K, labels[n]);
}
