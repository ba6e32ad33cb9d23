// Batch normalization backward in training, dx from the two sums.
//
//   g = prologue(dy)    xhat = ((x - mean) - residual) * rstd,  rstd = 1 / sqrt(variance + epsilon),  m = outer * inner
//   dx = scale * rstd * (g - dshift / m - xhat * dscale / m)
//
//   dx, dy, x                                               [outer, C, inner]
//   scale, mean, residual, variance, dscale, dshift         [C]
//
// Four forms, launched as those of batchnorm_normalize.cl:
//   batchnorm_backward_dx           any layout and device
//   batchnorm_backward_dx_grid      GPU, any layout
//   batchnorm_backward_dx_rows      CPU, inner >= 8
//   batchnorm_backward_dx_columns   CPU, inner = 1
//
// Slot PROLOGUE(V, LOAD, value, full, row, col): full the offset in dy; operands of dy's shape or one element.

#include "batchnorm_columns.clh"
#include "batchnorm_grid.clh"

#define DX_PARAMETERS                                                                                               \
  __global STORED *restrict dx, __global const STORED *restrict dy, __global const STORED *restrict x,              \
      __global const REAL *restrict scale, __global const REAL *restrict mean,                                      \
      __global const REAL *restrict residual, __global const REAL *restrict variance,                               \
      __global const REAL *restrict dscale, __global const REAL *restrict dshift PROLOGUE_PARAMETERS, REAL epsilon, \
      int outer, int C, int inner, int linesPerItem

__kernel void batchnorm_backward_dx(DX_PARAMETERS) {
  const size_t full = get_global_id(0), m = (size_t)outer * inner;
  if (full >= m * C) return;
  const size_t col = full / inner % C;
  const REAL rstd = 1 / sqrt(variance[col] + epsilon);
  const REAL xhat = ((LOAD1_STORED(x, full) - mean[col]) - residual[col]) * rstd;
  REAL g = LOAD1_STORED(dy, full);
  PROLOGUE(REAL, LOAD1_STORED, g, full, 0, col);
  STORE1_STORED(dx, full, scale[col] * rstd * (g - dshift[col] / m - xhat * (dscale[col] / m)));
}

__kernel void batchnorm_backward_dx_grid(DX_PARAMETERS) {
  const REAL m = (size_t)outer * inner;
  FOR_COLUMNS_OF_GRID(col, C, inner) {
    const REAL high = mean[col], low = residual[col], rstd = 1 / sqrt(variance[col] + epsilon);
    const REAL gain = scale[col] * rstd, mean_g = dshift[col] / m, slope = dscale[col] / m;
    FOR_ROWS_OF_GRID(full, col, outer, C, inner) {
      REAL g = LOAD1_STORED(dy, full);
      PROLOGUE(REAL, LOAD1_STORED, g, full, 0, col);
      const REAL xhat = ((LOAD1_STORED(x, full) - high) - low) * rstd;
      STORE1_STORED(dx, full, gain * (g - mean_g - xhat * slope));
    }
  }
}

KEEL_CPU __kernel void batchnorm_backward_dx_rows(DX_PARAMETERS) {
  const size_t first = get_global_id(0) * linesPerItem, last = min(first + linesPerItem, (size_t)outer * C);
  const REAL m = (size_t)outer * inner;
  for (size_t line = first, col = line % C; line < last; line++, col = col + 1 == C ? 0 : col + 1) {
    const REAL high = mean[col], low = residual[col], rstd = 1 / sqrt(variance[col] + epsilon);
    const REAL gain = scale[col] * rstd, mean_g = dshift[col] / m, slope = dscale[col] / m;
    const size_t end = (line + 1) * inner;
    size_t full = line * inner;
    for (; full + 8 <= end; full += 8) {
      REAL8 g = LOAD8_STORED(dy, full);
      PROLOGUE(REAL8, LOAD8_STORED, g, full, 0, col);
      const REAL8 xhat = ((LOAD8_STORED(x, full) - high) - low) * rstd;
      STORE8_STORED(dx, full, gain * (g - mean_g - xhat * slope));
    }
    for (; full < end; full++) {
      REAL g = LOAD1_STORED(dy, full);
      PROLOGUE(REAL, LOAD1_STORED, g, full, 0, col);
      const REAL xhat = ((LOAD1_STORED(x, full) - high) - low) * rstd;
      STORE1_STORED(dx, full, gain * (g - mean_g - xhat * slope));
    }
  }
}

KEEL_CPU __kernel void batchnorm_backward_dx_columns(DX_PARAMETERS) {
  const size_t left = get_global_id(0) * COLUMN_LINE, right = min(left + COLUMN_LINE, (size_t)C);
  const size_t first = get_global_id(1) * linesPerItem, last = min(first + linesPerItem, (size_t)outer);
  const REAL m = outer;
  REAL8 highs[COLUMN_LINE / 8], lows[COLUMN_LINE / 8], rstds[COLUMN_LINE / 8];
  REAL8 gains[COLUMN_LINE / 8], means[COLUMN_LINE / 8], slopes[COLUMN_LINE / 8];
  for (size_t col = left; col < right; col += 8) {
    const size_t k = (col - left) / 8;
    const int lanes = min((size_t)8, right - col);
    highs[k] = load_lanes(mean + col, lanes, 0);
    lows[k] = load_lanes(residual + col, lanes, 0);
    rstds[k] = (REAL)1 / sqrt(load_lanes(variance + col, lanes, 1) + epsilon);
    gains[k] = load_lanes(scale + col, lanes, 0) * rstds[k];
    means[k] = load_lanes(dshift + col, lanes, 0) / m;
    slopes[k] = load_lanes(dscale + col, lanes, 0) / m;
  }
#define DX_LANES(lanes)                                                                           \
  {                                                                                               \
    const size_t full = row * C + col, k = (col - left) / 8;                                      \
    const REAL8 g = load_gradient(dy, lanes, full, row, col PROLOGUE_ARGUMENTS);                  \
    const REAL8 xhat = ((load_stored_lanes(x + full, lanes, 0) - highs[k]) - lows[k]) * rstds[k]; \
    store_stored_lanes(dx + full, lanes, gains[k] * (g - means[k] - xhat * slopes[k]));           \
  }
  for (size_t row = first; row < last; row++) {
    size_t col = left;
    for (; col + 8 <= right; col += 8) DX_LANES(8)
    if (col < right) DX_LANES((int)(right - col))
  }
}
