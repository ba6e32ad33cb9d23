// Batch normalization with given statistics: of the batch in training, or running ones in evaluation.
//
//   y = epilogue(scale * ((x - mean) - residual) * rstd + shift),  rstd = 1 / sqrt(variance + epsilon)
//
//   y, x                                        [outer, C, inner]
//   mean, residual, variance, scale, shift      [C]; residual is the low part of the mean, zeros if there is none
//
// Three forms:
//   batchnorm_normalize          any layout and device; global [n] or rounded up, n = outer * C * inner, any local size
//   batchnorm_normalize_rows     CPU, inner >= 8: a work-item per row of inner values; global [outer * C], local [1]
//   batchnorm_normalize_columns  CPU, inner = 1: a work-item owns eight channels of rowsPerItem rows;
//                                global [ceil(C / 8), ceil(rows / rowsPerItem)], local [1, 1]
//
// Slot EPILOGUE(V, LOAD, value, full, row, col): full the offset in y, row the index in outer, col the channel. The
// rows form cannot serve an operand that is loaded at col: its eight values share a channel.

#include "batchnorm.clh"
#include "lanes.clh"

#ifndef EPILOGUE
#define EPILOGUE_PARAMETERS
#define EPILOGUE(V, LOAD, value, full, row, col)
#endif

#define STATISTICS_PARAMETERS                                                      \
  __global const REAL *restrict mean, __global const REAL *restrict residual,      \
      __global const REAL *restrict variance, __global const REAL *restrict scale, \
      __global const REAL *restrict shift

__kernel void batchnorm_normalize(
    __global REAL* restrict y, __global const REAL* restrict x, STATISTICS_PARAMETERS EPILOGUE_PARAMETERS, REAL epsilon,
    int C, int inner, long n) {
  const size_t full = get_global_id(0);
  if (full >= n) return;
  const size_t row = full / ((size_t)C * inner), col = full / inner % C;
  const REAL rstd = 1 / sqrt(variance[col] + epsilon);
  REAL value = scale[col] * (((x[full] - mean[col]) - residual[col]) * rstd) + shift[col];
  EPILOGUE(REAL, LOAD1, value, full, row, col);
  y[full] = value;
}

KEEL_CPU __kernel void batchnorm_normalize_rows(
    __global REAL* restrict y, __global const REAL* restrict x, STATISTICS_PARAMETERS EPILOGUE_PARAMETERS, REAL epsilon,
    int C, int inner) {
  const size_t row = get_global_id(0) / C, col = get_global_id(0) % C;
  const REAL high = mean[col], low = residual[col], gain = scale[col], offset = shift[col];
  const REAL rstd = 1 / sqrt(variance[col] + epsilon);
  const size_t end = (get_global_id(0) + 1) * inner;
  size_t full = get_global_id(0) * inner;
  for (; full + 8 <= end; full += 8) {
    REAL8 value = gain * (((LOAD8(x, full) - high) - low) * rstd) + offset;
    EPILOGUE(REAL8, LOAD8, value, full, row, col);
    STORE8(y, full, value);
  }
  for (; full < end; full++) {
    REAL value = gain * (((x[full] - high) - low) * rstd) + offset;
    EPILOGUE(REAL, LOAD1, value, full, row, col);
    y[full] = value;
  }
}

KEEL_CPU __kernel void batchnorm_normalize_columns(
    __global REAL* restrict y, __global const REAL* restrict x, STATISTICS_PARAMETERS EPILOGUE_PARAMETERS, REAL epsilon,
    int rows, int C, int rowsPerItem) {
  const size_t col = get_global_id(0) * 8;
  const int lanes = min((size_t)8, C - col);
  const size_t first = get_global_id(1) * rowsPerItem, last = min(first + rowsPerItem, (size_t)rows);
  const REAL8 high = load_lanes(mean + col, lanes, 0), low = load_lanes(residual + col, lanes, 0);
  const REAL8 gain = load_lanes(scale + col, lanes, 0), offset = load_lanes(shift + col, lanes, 0);
  const REAL8 rstd = (REAL)1 / sqrt(load_lanes(variance + col, lanes, 1) + epsilon);
  for (size_t row = first; row < last; row++) {
    const size_t full = row * C + col;
    REAL8 value = gain * (((load_lanes(x + full, lanes, 0) - high) - low) * rstd) + offset;
    if (lanes == 8) {
      EPILOGUE(REAL8, LOAD8, value, full, row, col);
      STORE8(y, full, value);
    } else {
      REAL lane[8];
      vstore8(value, 0, lane);
      for (int l = 0; l < lanes; l++) {
        REAL single = lane[l];
        EPILOGUE(REAL, LOAD1, single, full + l, row, col + l);
        y[full + l] = single;
      }
    }
  }
}
