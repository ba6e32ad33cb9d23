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
// Numerics: see batchnorm.clh. A constant channel gives exactly y = shift. rows >= 1 (with one row the variance is 0).
//
// Launch: global [ceil(C / COLUMNS_OWNED)], local [1].
// Slot EPILOGUE(V, LOAD, value, full, row, col): full = row * C + col; operands of y's shape or one element.

#include "batchnorm_columns.clh"

KEEL_CPU __kernel void batchnorm_forward_fused(
    __global STORED* restrict y, __global REAL* restrict mean, __global REAL* restrict residual,
    __global REAL* restrict variance, __global const STORED* restrict x, __global const REAL* restrict scale,
    __global const REAL* restrict shift EPILOGUE_PARAMETERS, REAL epsilon, int rows, int C) {
  const size_t left = get_global_id(0) * COLUMNS_OWNED, right = min(left + COLUMNS_OWNED, (size_t)C);
  ColumnMoments moments[COLUMNS_OWNED / 8];
  for (size_t col = left; col < right; col += 8)
    begin_columns(&moments[(col - left) / 8], x + col, min((size_t)8, right - col));
  for (size_t row = 0; row < rows; row += ROW_BLOCK) {
    const int n = min((size_t)ROW_BLOCK, rows - row);
    const REAL share = (REAL)n / (REAL)(row + n), seen = (REAL)row * share;
    for (size_t col = left; col < right; col += 8)
      add_column_block(
          &moments[(col - left) / 8], x + row * C + col, min((size_t)8, right - col), C, n, share, seen);
  }

  REAL8 highs[COLUMNS_OWNED / 8], lows[COLUMNS_OWNED / 8], rstds[COLUMNS_OWNED / 8];
  REAL8 gains[COLUMNS_OWNED / 8], offsets[COLUMNS_OWNED / 8];
  for (size_t col = left; col < right; col += 8) {
    const size_t k = (col - left) / 8;
    const int lanes = min((size_t)8, right - col);
    SPLIT_SUM(REAL8, high, low, moments[k].origin, moments[k].mean, moments[k].rest);
    const REAL8 spread = (moments[k].M2 + moments[k].lost) / (REAL)rows;
    store_lanes(mean + col, lanes, high);
    store_lanes(residual + col, lanes, low);
    store_lanes(variance + col, lanes, spread);
    highs[k] = high;
    lows[k] = low;
    rstds[k] = (REAL)1 / sqrt(spread + epsilon);
    gains[k] = load_lanes(scale + col, lanes, 0);
    offsets[k] = load_lanes(shift + col, lanes, 0);
  }

  for (size_t row = 0; row < rows; row++) {
    for (size_t col = left; col < right; col += 8) {
      const size_t full = row * C + col, k = (col - left) / 8;
      const int lanes = min((size_t)8, right - col);
      const REAL8 xhat = ((load_stored_lanes(x + full, lanes, 0) - highs[k]) - lows[k]) * rstds[k];
      store_normalized(y, lanes, gains[k] * xhat + offsets[k], full, row, col EPILOGUE_ARGUMENTS);
    }
  }
}
