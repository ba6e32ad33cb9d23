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
// added in order; dx as in batchnorm_backward_dx.cl. A work-item owns COLUMNS_OWNED channels over all rows.
//
// Launch: global [max(ceil((C - 15) / COLUMNS_OWNED), 1)], local [1].
// Slot PROLOGUE(V, LOAD, value, full, row, col): full = row * C + col; operands of dy's shape or one element; it is
// evaluated twice per value.

#include "batchnorm_columns.clh"

KEEL_CPU __kernel void batchnorm_backward_fused(
    __global STORED* restrict dx, __global REAL* restrict dscale, __global REAL* restrict dshift,
    __global const STORED* restrict dy, __global const STORED* restrict x, __global const REAL* restrict scale,
    __global const REAL* restrict mean, __global const REAL* restrict residual,
    __global const REAL* restrict variance PROLOGUE_PARAMETERS, REAL epsilon, int rows, int C) {
  OWN_CHANNELS(left, right, get_global_id(0), COLUMNS_OWNED)
  const int lanes = LANES_OF(left, right);
  ColumnGradients gradients[VECTORS(COLUMNS_OWNED)];
  FOR_VECTORS(k, col, left, right) begin_gradients(&gradients[k], mean + col, residual + col, lanes);
  for (size_t row = 0; row < rows; row += ROW_BLOCK) {
    const int n = min((size_t)ROW_BLOCK, rows - row);
    FOR_VECTORS(k, col, left, right)
      add_gradient_block(&gradients[k], dy, x, lanes, row, col, C, n PROLOGUE_ARGUMENTS);
  }

  COLUMNS gains[VECTORS(COLUMNS_OWNED)], means[VECTORS(COLUMNS_OWNED)], slopes[VECTORS(COLUMNS_OWNED)];
  FOR_VECTORS(k, col, left, right) {
    const COLUMNS rstd = (REAL)1 / sqrt(load_columns(variance + col, lanes, 1) + epsilon);
    gains[k] = load_columns(scale + col, lanes, 0) * rstd;
    const COLUMNS sum = gradients[k].sum + gradients[k].sum_lost;
    const COLUMNS product = (gradients[k].product + gradients[k].product_lost) * rstd;
    store_columns(dscale + col, lanes, product);
    store_columns(dshift + col, lanes, sum);
    slopes[k] = product / (REAL)rows * rstd;
    means[k] = sum / (REAL)rows - gradients[k].low * slopes[k];
  }

  for (size_t row = 0; row < rows; row++) {
    FOR_VECTORS(k, col, left, right) {
      const size_t full = row * C + col;
      const COLUMNS g = load_gradient(dy, lanes, full, row, col PROLOGUE_ARGUMENTS);
      const COLUMNS centred = load_stored_columns(x + full, lanes, 0) - gradients[k].high;
      store_dx(dx + full, lanes, gains[k] * (g - means[k] - centred * slopes[k]));
    }
  }
}
