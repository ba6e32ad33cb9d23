// Batch normalization in training, statistics and result in one launch, for CPU devices and small x of [rows, C].
//
//   mean + residual = sum(x) / rows      variance = sum((x - mean)^2) / rows    (biased)
//   y = epilogue(scale * ((x - mean) - residual) * rstd + shift),  rstd = 1 / sqrt(variance + epsilon)
//
//   y, x                            [rows, C]
//   mean, residual, variance        [C], outputs; mean + residual is the mean to twice the digits
//   scale, shift                    [C]
//
// A work-item owns COLUMNS_OWNED channels over all rows, so a batch that fits its cache is read from memory once.
// Numerics: see batchnorm.clh and batchnorm_normalize.cl. A constant channel gives exactly y = shift. rows >= 1 (with
// one row the variance is 0).
//
// Launch: global [max(ceil((C - 15) / COLUMNS_OWNED), 1)], local [1].
// Slot EPILOGUE(V, LOAD, value, full, row, col): full = row * C + col; operands of y's shape or one element.

#include "batchnorm_columns.clh"

KEEL_CPU __kernel void batchnorm_forward_fused(
    __global STORED* restrict y, __global REAL* restrict mean, __global REAL* restrict residual,
    __global REAL* restrict variance, __global const STORED* restrict x, __global const REAL* restrict scale,
    __global const REAL* restrict shift EPILOGUE_PARAMETERS, REAL epsilon, int rows, int C) {
  OWN_CHANNELS(left, right, get_global_id(0), COLUMNS_OWNED)
  const int lanes = LANES_OF(left, right);
  ColumnMoments moments[VECTORS(COLUMNS_OWNED)];
  FOR_VECTORS(k, col, left, right) begin_columns(&moments[k], x + col, lanes);
  for (size_t row = 0; row < rows; row += ROW_BLOCK) {
    const int n = min((size_t)ROW_BLOCK, rows - row);
    const REAL share = (REAL)n / (REAL)(row + n), seen = (REAL)row * share;
    FOR_VECTORS(k, col, left, right) add_column_block(&moments[k], x + row * C + col, lanes, C, n, share, seen);
  }

  COLUMNS highs[VECTORS(COLUMNS_OWNED)], gains[VECTORS(COLUMNS_OWNED)], offsets[VECTORS(COLUMNS_OWNED)];
  FOR_VECTORS(k, col, left, right) {
    SPLIT_SUM(COLUMNS, high, low, moments[k].origin, moments[k].mean, moments[k].rest);
    const COLUMNS spread = (moments[k].M2 + moments[k].lost) / (REAL)rows;
    store_columns(mean + col, lanes, high);
    store_columns(residual + col, lanes, low);
    store_columns(variance + col, lanes, spread);
    highs[k] = high;
    gains[k] = load_columns(scale + col, lanes, 0) * ((REAL)1 / sqrt(spread + epsilon));
    offsets[k] = load_columns(shift + col, lanes, 0) - low * gains[k];
  }

  for (size_t row = 0; row < rows; row++) {
    FOR_VECTORS(k, col, left, right) {
      const size_t full = row * C + col;
      const COLUMNS value = (load_stored_columns(x + full, lanes, 0) - highs[k]) * gains[k] + offsets[k];
      store_normalized(y, lanes, value, full, row, col EPILOGUE_ARGUMENTS);
    }
  }
}
