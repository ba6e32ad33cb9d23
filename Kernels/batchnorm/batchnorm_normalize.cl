// Batch normalization with given statistics: of the batch in training, or running ones in evaluation.
//
//   y = epilogue(scale * ((x - mean) - residual) * rstd + shift),  rstd = 1 / sqrt(variance + epsilon)
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
//                                global [ceil(C / COLUMN_LINE), ceil(outer / linesPerItem)], local [1, 1]
//
// Slot EPILOGUE(V, LOAD, value, full, row, col): full the offset in y; operands of y's shape or one element.

#include "batchnorm_columns.clh"
#include "batchnorm_grid.clh"

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
    const REAL high = mean[col], low = residual[col], gain = scale[col], offset = shift[col];
    const REAL rstd = 1 / sqrt(variance[col] + epsilon);
    const size_t end = (line + 1) * inner;
    size_t full = line * inner;
    for (; full + 8 <= end; full += 8) {
      REAL8 value = gain * (((LOAD8_STORED(x, full) - high) - low) * rstd) + offset;
      EPILOGUE(REAL8, LOAD8_STORED, value, full, 0, col);
      STORE8_STORED(y, full, value);
    }
    for (; full < end; full++) {
      REAL value = gain * (((LOAD1_STORED(x, full) - high) - low) * rstd) + offset;
      EPILOGUE(REAL, LOAD1_STORED, value, full, 0, col);
      STORE1_STORED(y, full, value);
    }
  }
}

KEEL_CPU __kernel void batchnorm_normalize_columns(NORMALIZE_PARAMETERS) {
  const size_t left = get_global_id(0) * COLUMN_LINE, right = min(left + COLUMN_LINE, (size_t)C);
  const size_t first = get_global_id(1) * linesPerItem, last = min(first + linesPerItem, (size_t)outer);
  REAL8 highs[COLUMN_LINE / 8], lows[COLUMN_LINE / 8], rstds[COLUMN_LINE / 8];
  REAL8 gains[COLUMN_LINE / 8], offsets[COLUMN_LINE / 8];
  for (size_t col = left; col < right; col += 8) {
    const size_t k = (col - left) / 8;
    const int lanes = min((size_t)8, right - col);
    highs[k] = load_lanes(mean + col, lanes, 0);
    lows[k] = load_lanes(residual + col, lanes, 0);
    rstds[k] = (REAL)1 / sqrt(load_lanes(variance + col, lanes, 1) + epsilon);
    gains[k] = load_lanes(scale + col, lanes, 0);
    offsets[k] = load_lanes(shift + col, lanes, 0);
  }
#define NORMALIZE_LANES(lanes)                                                                    \
  {                                                                                               \
    const size_t full = row * C + col, k = (col - left) / 8;                                      \
    const REAL8 xhat = ((load_stored_lanes(x + full, lanes, 0) - highs[k]) - lows[k]) * rstds[k]; \
    const REAL8 value = gains[k] * xhat + offsets[k];                                             \
    store_normalized(y, lanes, value, full, row, col EPILOGUE_ARGUMENTS);                         \
  }
  for (size_t row = first; row < last; row++) {
    size_t col = left;
    for (; col + 8 <= right; col += 8) NORMALIZE_LANES(8)
    if (col < right) NORMALIZE_LANES((int)(right - col))
  }
}
