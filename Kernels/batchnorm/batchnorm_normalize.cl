// Batch normalization with given statistics: of the batch in training, or running ones in evaluation.
//
//   y = epilogue(scale * ((x - mean) - residual) * rstd + shift),  rstd = 1 / sqrt(variance + epsilon)
//
// On CPU devices as (x - mean) * (scale * rstd) + (shift - residual * (scale * rstd)): the difference comes first, and is
// exact where the mean is large.
//
//   y, x                                        [outer, C, inner], STORED
//   mean, residual, variance, scale, shift      [C]; residual is the low part of the mean, zeros if there is none
//
// Four forms:
//   batchnorm_normalize          any layout and device; global [outer * C * inner] or rounded up, any local size
//   batchnorm_normalize_grid     GPU, any layout, no division: global [C, outer] where inner is 1, else
//                                [inner, C, outer]; axes but the first may be shorter; any local size
//   batchnorm_normalize_rows     CPU, inner >= 8: a work-item per linesPerItem runs of inner values;
//                                global [ceil(outer * C / linesPerItem)], local [1]
//   batchnorm_normalize_columns  CPU, inner = 1: a work-item per COLUMN_LINE channels of linesPerItem rows;
//                                global [max(ceil((C - 15) / COLUMN_LINE), 1), ceil(outer / linesPerItem)], local [1, 1]
//
// Slot EPILOGUE(V, LOAD, value, full, row, col): full the offset in y; operands of y's shape or one element.

#include "batchnorm_columns.clh"
#include "batchnorm_grid.clh"
#include "batchnorm_runs.clh"

#define NORMALIZE_PARAMETERS                                                                                      \
  __global STORED *restrict y, __global const STORED *restrict x, __global const REAL *restrict mean,             \
      __global const REAL *restrict residual, __global const REAL *restrict variance,                             \
      __global const REAL *restrict scale, __global const REAL *restrict shift EPILOGUE_PARAMETERS, REAL epsilon, \
      int outer, int C, int inner, int linesPerItem

__kernel void batchnorm_normalize(NORMALIZE_PARAMETERS) {
  const size_t full = get_global_id(0);
  if (full >= (size_t)outer * C * inner) return;
  const size_t col = full / inner % C;
  const REAL rstd = 1 / sqrt(variance[col] + epsilon);
  REAL value = scale[col] * (((LOAD1_STORED(x, full) - mean[col]) - residual[col]) * rstd) + shift[col];
  EPILOGUE(REAL, LOAD1_STORED, value, full, 0, col);
  STORE1_STORED(y, full, value);
}

__kernel void batchnorm_normalize_grid(NORMALIZE_PARAMETERS) {
  FOR_COLUMNS_OF_GRID(col, C, inner) {
    const REAL high = mean[col], low = residual[col], gain = scale[col], offset = shift[col];
    const REAL rstd = 1 / sqrt(variance[col] + epsilon);
    FOR_ROWS_OF_GRID(full, col, outer, C, inner) {
      REAL value = gain * (((LOAD1_STORED(x, full) - high) - low) * rstd) + offset;
      EPILOGUE(REAL, LOAD1_STORED, value, full, 0, col);
      STORE1_STORED(y, full, value);
    }
  }
}

KEEL_CPU __kernel void batchnorm_normalize_rows(NORMALIZE_PARAMETERS) {
  const size_t first = get_global_id(0) * linesPerItem, last = min(first + linesPerItem, (size_t)outer * C);
  for (size_t line = first, col = line % C; line < last; line++, col = col + 1 == C ? 0 : col + 1) {
    const REAL high = mean[col], gain = scale[col] * (1 / sqrt(variance[col] + epsilon));
    const REAL offset = shift[col] - residual[col] * gain;
    normalize_run(y, x, line * inner, (line + 1) * inner, col, AHEAD, high, gain, offset EPILOGUE_ARGUMENTS);
  }
}

KEEL_CPU __kernel void batchnorm_normalize_columns(NORMALIZE_PARAMETERS) {
  OWN_CHANNELS(left, right, get_global_id(0), COLUMN_LINE)
  const size_t first = get_global_id(1) * linesPerItem, last = min(first + linesPerItem, (size_t)outer);
  const int lanes = LANES_OF(left, right);
  COLUMNS highs[VECTORS(COLUMN_LINE)], gains[VECTORS(COLUMN_LINE)], offsets[VECTORS(COLUMN_LINE)];
  FOR_VECTORS(k, col, left, right) {
    const COLUMNS rstd = (REAL)1 / sqrt(load_columns(variance + col, lanes, 1) + epsilon);
    highs[k] = load_columns(mean + col, lanes, 0);
    gains[k] = load_columns(scale + col, lanes, 0) * rstd;
    offsets[k] = load_columns(shift + col, lanes, 0) - load_columns(residual + col, lanes, 0) * gains[k];
  }
  normalize_columns(
      y, x, first, last, left, right, C, ROWS_AHEAD(left, right, outer, C), highs, gains, offsets EPILOGUE_ARGUMENTS);
}
