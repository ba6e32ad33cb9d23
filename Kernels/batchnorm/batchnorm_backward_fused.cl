// Batch normalization backward in training, both sums and dx in one launch, for CPU devices.
//
//   g      = prologue(dy)                   xhat = ((x - mean) - residual) * rstd,  rstd = 1 / sqrt(variance + epsilon)
//   dshift = sum(g)                         dscale = sum(g * xhat)
//   dx     = scale * rstd * (g - dshift / m - xhat * dscale / m)
//
//   dx, dy, x                               [rows, C], m = rows, or [outer, C, inner], m = outer * inner
//   dscale, dshift                          [C], outputs
//   scale, mean, residual, variance         [C], the batch statistics of the forward pass
//
// x is centred before it is multiplied, so an offset of x costs dscale no digits. Sums are taken in blocks, added in
// order; dx as in batchnorm_backward_dx.cl. A work-item owns channels over all of their values.
//
// Two forms, launched as those of batchnorm_forward_fused.cl:
//   batchnorm_backward_fused    small [rows, C]
//   batchnorm_backward_planes   inner >= 8
//
// Slot PROLOGUE(V, LOAD, value, full, row, col): full the offset in dy; operands of dy's shape or one element; it is
// evaluated twice per value.

#include "batchnorm_columns.clh"
#include "batchnorm_runs.clh"

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
      add_gradient_block(&gradients[k], dy, x, lanes, row, col, C, n, 0 PROLOGUE_ARGUMENTS);
  }

  COLUMNS highs[VECTORS(COLUMNS_OWNED)], gains[VECTORS(COLUMNS_OWNED)];
  COLUMNS means[VECTORS(COLUMNS_OWNED)], slopes[VECTORS(COLUMNS_OWNED)];
  FOR_VECTORS(k, col, left, right) {
    const COLUMNS rstd = (REAL)1 / sqrt(load_columns(variance + col, lanes, 1) + epsilon);
    highs[k] = gradients[k].high;
    gains[k] = load_columns(scale + col, lanes, 0) * rstd;
    const COLUMNS sum = gradients[k].sum + gradients[k].sum_lost;
    const COLUMNS product = (gradients[k].product + gradients[k].product_lost) * rstd;
    store_columns(dscale + col, lanes, product);
    store_columns(dshift + col, lanes, sum);
    slopes[k] = product / (REAL)rows * rstd;
    means[k] = sum / (REAL)rows - gradients[k].low * slopes[k];
  }

  gradient_columns(dx, dy, x, 0, rows, left, right, C, 0, highs, gains, means, slopes PROLOGUE_ARGUMENTS);
}

KEEL_CPU __kernel void batchnorm_backward_planes(
    __global STORED* restrict dx, __global REAL* restrict dscale, __global REAL* restrict dshift,
    __global const STORED* restrict dy, __global const STORED* restrict x, __global const REAL* restrict scale,
    __global const REAL* restrict mean, __global const REAL* restrict residual,
    __global const REAL* restrict variance PROLOGUE_PARAMETERS, REAL epsilon, int outer, int C, int inner) {
  const size_t c = get_global_id(0), m = (size_t)outer * inner;
  const REAL high = mean[c], low = residual[c], rstd = 1 / sqrt(variance[c] + epsilon), gain = scale[c] * rstd;
  const RunGradients gradients = gradients_of_runs(dy, x, high, low, 0, m, c, C, inner PROLOGUE_ARGUMENTS);
  const REAL product = gradients.product * rstd;
  dscale[c] = product;
  dshift[c] = gradients.sum;

  const REAL slope = product / (REAL)m * rstd, mean_g = gradients.sum / (REAL)m - low * slope;
  // From behind: what was read last is the nearest.
  for (size_t o = outer; o-- > 0;) {
    const size_t full = (o * C + c) * inner;
    gradient_run(dx, dy, x, full, full + inner, c, high, gain, mean_g, slope PROLOGUE_ARGUMENTS);
  }
}
