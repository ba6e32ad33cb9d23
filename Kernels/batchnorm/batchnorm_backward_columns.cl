// Batch normalization backward in training, both sums and dx in one launch, for CPU devices and x of [rows, C].
//
//   g      = prologue(dy)                   xhat = ((x - mean) - residual) * rstd,  rstd = 1 / sqrt(variance + epsilon)
//   dshift = sum(g)                         dscale = sum(g * xhat)
//   dx     = scale * rstd * (g - dshift / rows - xhat * dscale / rows)
//
//   dx, dy, x                               [rows, C]
//   dscale, dshift                          [C], outputs
//   scale, mean, residual, variance         [C], the batch statistics of the forward pass
//
// x is centred before it is multiplied, so an offset of x costs dscale no digits. Sums are taken in blocks of rows,
// added in order. A work-item owns eight channels over all rows.
//
// Launch: global [ceil(C / 8)], local [1].
// Slot PROLOGUE(V, LOAD, value, full, row, col): full = row * C + col, col the channel; it is evaluated twice per
// value.

#include "batchnorm.clh"
#include "lanes.clh"

#ifndef PROLOGUE
#define PROLOGUE_PARAMETERS
#define PROLOGUE_ARGUMENTS
#define PROLOGUE(V, LOAD, value, full, row, col)
#endif

static inline REAL8 load_gradient(
    __global const REAL* restrict dy, int lanes, size_t full, size_t row, size_t col PROLOGUE_PARAMETERS) {
  if (lanes == 8) {
    REAL8 value = LOAD8(dy, full);
    PROLOGUE(REAL8, LOAD8, value, full, row, col);
    return value;
  }
  REAL lane[8];
  for (int l = 0; l < 8; l++) {
    lane[l] = 0;
    if (l < lanes) {
      REAL single = dy[full + l];
      PROLOGUE(REAL, LOAD1, single, full + l, row, col + l);
      lane[l] = single;
    }
  }
  return vload8(0, lane);
}

KEEL_CPU __kernel void batchnorm_backward_columns(
    __global REAL* restrict dx, __global REAL* restrict dscale, __global REAL* restrict dshift,
    __global const REAL* restrict dy, __global const REAL* restrict x, __global const REAL* restrict scale,
    __global const REAL* restrict mean, __global const REAL* restrict residual,
    __global const REAL* restrict variance PROLOGUE_PARAMETERS, REAL epsilon, int rows, int C) {
  const size_t col = get_global_id(0) * 8;
  const int lanes = min((size_t)8, C - col);
  const REAL8 high = load_lanes(mean + col, lanes, 0), low = load_lanes(residual + col, lanes, 0);
  const REAL8 rstd = (REAL)1 / sqrt(load_lanes(variance + col, lanes, 1) + epsilon);

  REAL8 sum = 0, product = 0, sum_lost = 0, product_lost = 0;
  for (size_t first = 0; first < rows; first += GRADIENT_BLOCK) {
    const size_t last = min(first + GRADIENT_BLOCK, (size_t)rows);
    REAL8 block_sum = 0, block_product = 0;
    for (size_t row = first; row < last; row++) {
      const size_t full = row * C + col;
      const REAL8 g = load_gradient(dy, lanes, full, row, col PROLOGUE_ARGUMENTS);
      block_sum += g;
      block_product = fma(g, (load_lanes(x + full, lanes, 0) - high) - low, block_product);
    }
    ADD_KEEPING(REAL8, sum, sum_lost, block_sum);
    ADD_KEEPING(REAL8, product, product_lost, block_product);
  }
  sum += sum_lost;
  product = (product + product_lost) * rstd;
  store_lanes(dscale + col, lanes, product);
  store_lanes(dshift + col, lanes, sum);

  const REAL8 gain = load_lanes(scale + col, lanes, 0) * rstd;
  const REAL8 mean_g = sum / (REAL)rows, slope = product / (REAL)rows;
  for (size_t row = 0; row < rows; row++) {
    const size_t full = row * C + col;
    const REAL8 g = load_gradient(dy, lanes, full, row, col PROLOGUE_ARGUMENTS);
    const REAL8 xhat = ((load_lanes(x + full, lanes, 0) - high) - low) * rstd;
    store_lanes(dx + full, lanes, gain * (g - mean_g - xhat * slope));
  }
}
