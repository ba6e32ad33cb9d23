// Batch normalization backward in training, dx from the two sums.
//
//   g = prologue(dy)    xhat = ((x - mean) - residual) * rstd,  rstd = 1 / sqrt(variance + epsilon),  m = outer * inner
//   dx = scale * rstd * (g - dshift / m - xhat * dscale / m)
//
// On CPU devices as gain * (g - mean_g - (x - mean) * slope), with gain = scale * rstd, slope = rstd * dscale / m and
// mean_g = dshift / m - residual * slope: the difference to the mean comes first, and is exact where the mean is large.
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
#include "batchnorm_runs.clh"

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
    const REAL high = mean[col], rstd = 1 / sqrt(variance[col] + epsilon), gain = scale[col] * rstd;
    const REAL slope = dscale[col] / m * rstd, mean_g = dshift[col] / m - residual[col] * slope;
    gradient_run(
        dx, dy, x, line * inner, (line + 1) * inner, col, high, gain, mean_g, slope PROLOGUE_ARGUMENTS);
  }
}

KEEL_CPU __kernel void batchnorm_backward_dx_columns(DX_PARAMETERS) {
  OWN_CHANNELS(left, right, get_global_id(0), COLUMN_LINE)
  const size_t first = get_global_id(1) * linesPerItem, last = min(first + linesPerItem, (size_t)outer);
  const int lanes = LANES_OF(left, right);
  const REAL m = outer;
  COLUMNS highs[VECTORS(COLUMN_LINE)], gains[VECTORS(COLUMN_LINE)];
  COLUMNS means[VECTORS(COLUMN_LINE)], slopes[VECTORS(COLUMN_LINE)];
  FOR_VECTORS(k, col, left, right) {
    const COLUMNS rstd = (REAL)1 / sqrt(load_columns(variance + col, lanes, 1) + epsilon);
    highs[k] = load_columns(mean + col, lanes, 0);
    gains[k] = load_columns(scale + col, lanes, 0) * rstd;
    slopes[k] = load_columns(dscale + col, lanes, 0) / m * rstd;
    means[k] = load_columns(dshift + col, lanes, 0) / m - load_columns(residual + col, lanes, 0) * slopes[k];
  }
  gradient_columns(
      dx, dy, x, first, last, left, right, C, ROWS_AHEAD(left, right, outer, C), highs, gains, means,
      slopes PROLOGUE_ARGUMENTS);
}
