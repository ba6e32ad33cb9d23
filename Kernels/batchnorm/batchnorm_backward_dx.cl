// Batch normalization backward in training, dx from the two sums, any layout: valid on every device and for every
// shape.
//
//   g = prologue(dy)    xhat = ((x - mean) - residual) * rstd,  rstd = 1 / sqrt(variance + epsilon),  m = outer * inner
//   dx = scale * rstd * (g - dshift / m - xhat * dscale / m)
//
//   dx, dy, x                                               [outer, C, inner]
//   scale, mean, residual, variance, dscale, dshift         [C]
//
// Two forms:
//   batchnorm_backward_dx       any device; global [outer * C * inner] or rounded up, any local size
//   batchnorm_backward_dx_rows  CPU, inner >= 8: a work-item per row of inner values; global [outer * C], local [1]
//
// Slot PROLOGUE(V, LOAD, value, full, row, col): full the offset in dy, row the index in outer, col the channel. The
// rows form cannot serve an operand that is loaded at col: its eight values share a channel.

#include "batchnorm.clh"

#ifndef PROLOGUE
#define PROLOGUE_PARAMETERS
#define PROLOGUE(V, LOAD, value, full, row, col)
#endif

#define STATISTICS_PARAMETERS                                                         \
  __global const REAL *restrict scale, __global const REAL *restrict mean,            \
      __global const REAL *restrict residual, __global const REAL *restrict variance, \
      __global const REAL *restrict dscale, __global const REAL *restrict dshift

__kernel void batchnorm_backward_dx(
    __global REAL* restrict dx, __global const REAL* restrict dy, __global const REAL* restrict x,
    STATISTICS_PARAMETERS PROLOGUE_PARAMETERS, REAL epsilon, int outer, int C, int inner) {
  const size_t full = get_global_id(0), m = (size_t)outer * inner;
  if (full >= m * C) return;
  const size_t row = full / ((size_t)C * inner), col = full / inner % C;
  const REAL rstd = 1 / sqrt(variance[col] + epsilon);
  const REAL xhat = ((x[full] - mean[col]) - residual[col]) * rstd;
  REAL g = dy[full];
  PROLOGUE(REAL, LOAD1, g, full, row, col);
  dx[full] = scale[col] * rstd * (g - dshift[col] / m - xhat * (dscale[col] / m));
}

KEEL_CPU __kernel void batchnorm_backward_dx_rows(
    __global REAL* restrict dx, __global const REAL* restrict dy, __global const REAL* restrict x,
    STATISTICS_PARAMETERS PROLOGUE_PARAMETERS, REAL epsilon, int outer, int C, int inner) {
  const size_t row = get_global_id(0) / C, col = get_global_id(0) % C, m = (size_t)outer * inner;
  const REAL high = mean[col], low = residual[col], rstd = 1 / sqrt(variance[col] + epsilon);
  const REAL gain = scale[col] * rstd, mean_g = dshift[col] / m, slope = dscale[col] / m;
  const size_t end = (get_global_id(0) + 1) * inner;
  size_t full = get_global_id(0) * inner;
  for (; full + 8 <= end; full += 8) {
    REAL8 g = LOAD8(dy, full);
    PROLOGUE(REAL8, LOAD8, g, full, row, col);
    const REAL8 xhat = ((LOAD8(x, full) - high) - low) * rstd;
    STORE8(dx, full, gain * (g - mean_g - xhat * slope));
  }
  for (; full < end; full++) {
    REAL g = dy[full];
    PROLOGUE(REAL, LOAD1, g, full, row, col);
    const REAL xhat = ((x[full] - high) - low) * rstd;
    dx[full] = gain * (g - mean_g - xhat * slope);
  }
}
