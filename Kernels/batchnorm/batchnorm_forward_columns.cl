// Batch normalization in training, statistics and result in one launch, for CPU devices and x of [rows, C].
//
//   mean + residual = sum(x) / rows      variance = sum((x - mean)^2) / rows    (biased)
//   y = epilogue(scale * ((x - mean) - residual) * rstd + shift),  rstd = 1 / sqrt(variance + epsilon)
//
//   y, x                            [rows, C]
//   mean, residual, variance        [C], outputs; mean + residual is the mean to twice the digits
//   scale, shift                    [C]
//
// A work-item owns eight channels over all rows, so a batch that fits its cache is read from memory once. Numerics: see
// batchnorm.clh. A constant channel gives exactly y = shift. rows >= 1 (with one row the variance is 0).
//
// Launch: global [ceil(C / 8)], local [1].
// Slot EPILOGUE(V, LOAD, value, full, row, col): full = row * C + col, col the channel.

#include "batchnorm.clh"
#include "lanes.clh"

#ifndef EPILOGUE
#define EPILOGUE_PARAMETERS
#define EPILOGUE(V, LOAD, value, full, row, col)
#endif

KEEL_CPU __kernel void batchnorm_forward_columns(
    __global REAL* restrict y, __global REAL* restrict mean, __global REAL* restrict residual,
    __global REAL* restrict variance, __global const REAL* restrict x, __global const REAL* restrict scale,
    __global const REAL* restrict shift EPILOGUE_PARAMETERS, REAL epsilon, int rows, int C) {
  const size_t col = get_global_id(0) * 8;
  const int lanes = min((size_t)8, C - col);
  const REAL8 leader = load_lanes(x + col, lanes, 0);
  LEADING_BITS(REAL8, origin, leader);

  int count = 0;
  REAL8 centre = 0, rest = 0, M2 = 0, lost = 0;  // of x - origin
  for (size_t first = 0; first < rows; first += BLOCK) {
    const size_t last = min(first + BLOCK, (size_t)rows);
    const int n = last - first;
    REAL8 sum = 0;
    for (size_t row = first; row < last; row++) sum += load_lanes(x + row * C + col, lanes, 0) - origin;
    const REAL8 rough = sum / (REAL)n;
    // The deviations from a rounded mean do not quite add up to 0: what is left corrects mean and squares.
    REAL8 drift = 0, squares = 0;
    for (size_t row = first; row < last; row++) {
      const REAL8 d = (load_lanes(x + row * C + col, lanes, 0) - origin) - rough;
      drift += d;
      squares = fma(d, d, squares);
    }
    MERGE_MOMENTS(REAL8, count, centre, rest, M2, lost, n, rough, drift / (REAL)n, squares - drift * drift / (REAL)n);
  }

  SPLIT_SUM(REAL8, high, low, origin, centre, rest);
  const REAL8 spread = (M2 + lost) / (REAL)rows;
  store_lanes(mean + col, lanes, high);
  store_lanes(residual + col, lanes, low);
  store_lanes(variance + col, lanes, spread);

  const REAL8 rstd = (REAL)1 / sqrt(spread + epsilon);
  const REAL8 gain = load_lanes(scale + col, lanes, 0), offset = load_lanes(shift + col, lanes, 0);
  for (size_t row = 0; row < rows; row++) {
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
