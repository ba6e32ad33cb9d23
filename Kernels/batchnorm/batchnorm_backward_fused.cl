// Batch normalization backward in training, both sums and dx in one launch, for CPU devices and small x of [rows, C].
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
// added in order. A work-item owns COLUMNS_OWNED channels over all rows.
//
// Launch: global [ceil(C / COLUMNS_OWNED)], local [1].
// Slot PROLOGUE(V, LOAD, value, full, row, col): full = row * C + col; operands of dy's shape or one element; it is
// evaluated twice per value.

#include "batchnorm_columns.clh"

KEEL_CPU __kernel void batchnorm_backward_fused(
    __global STORED* restrict dx, __global REAL* restrict dscale, __global REAL* restrict dshift,
    __global const STORED* restrict dy, __global const STORED* restrict x, __global const REAL* restrict scale,
    __global const REAL* restrict mean, __global const REAL* restrict residual,
    __global const REAL* restrict variance PROLOGUE_PARAMETERS, REAL epsilon, int rows, int C) {
  const size_t left = get_global_id(0) * COLUMNS_OWNED, right = min(left + COLUMNS_OWNED, (size_t)C);
  ColumnGradients gradients[COLUMNS_OWNED / 8];
  for (size_t col = left; col < right; col += 8)
    begin_gradients(&gradients[(col - left) / 8], mean + col, residual + col, min((size_t)8, right - col));
  for (size_t row = 0; row < rows; row += ROW_BLOCK / 2) {
    const int n = min((size_t)ROW_BLOCK / 2, rows - row);
    for (size_t col = left; col < right; col += 8)
      add_gradient_block(
          &gradients[(col - left) / 8], dy, x, min((size_t)8, right - col), row, col, C, n PROLOGUE_ARGUMENTS);
  }

  REAL8 rstds[COLUMNS_OWNED / 8], gains[COLUMNS_OWNED / 8], means[COLUMNS_OWNED / 8], slopes[COLUMNS_OWNED / 8];
  for (size_t col = left; col < right; col += 8) {
    const size_t k = (col - left) / 8;
    const int lanes = min((size_t)8, right - col);
    rstds[k] = (REAL)1 / sqrt(load_lanes(variance + col, lanes, 1) + epsilon);
    gains[k] = load_lanes(scale + col, lanes, 0) * rstds[k];
    const REAL8 sum = gradients[k].sum + gradients[k].sum_lost;
    const REAL8 product = (gradients[k].product + gradients[k].product_lost) * rstds[k];
    store_lanes(dscale + col, lanes, product);
    store_lanes(dshift + col, lanes, sum);
    means[k] = sum / (REAL)rows;
    slopes[k] = product / (REAL)rows;
  }

  for (size_t row = 0; row < rows; row++) {
    for (size_t col = left; col < right; col += 8) {
      const size_t full = row * C + col, k = (col - left) / 8;
      const int lanes = min((size_t)8, right - col);
      const REAL8 g = load_gradient(dy, lanes, full, row, col PROLOGUE_ARGUMENTS);
      const REAL8 xhat = ((load_stored_lanes(x + full, lanes, 0) - gradients[k].high) - gradients[k].low) * rstds[k];
      store_stored_lanes(dx + full, lanes, gains[k] * (g - means[k] - xhat * slopes[k]));
    }
  }
}
