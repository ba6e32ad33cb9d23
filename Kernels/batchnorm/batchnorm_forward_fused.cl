// Batch normalization in training, statistics and result in one launch, for CPU devices.
//
//   mean + residual = sum(x) / m      variance = sum((x - mean)^2) / m    (biased)
//   y = epilogue(scale * ((x - mean) - residual) * rstd + shift),  rstd = 1 / sqrt(variance + epsilon)
//
//   y, x                            [rows, C], m = rows, or [outer, C, inner], m = outer * inner
//   mean, residual, variance        [C], outputs; mean + residual is the mean to twice the digits
//   scale, shift                    [C]
//
// A work-item owns channels over all of their values, so what fits its cache is read from memory once. Numerics: see
// batchnorm.clh and batchnorm_normalize.cl. A constant channel gives exactly y = shift. m >= 1 (with one value the
// variance is 0).
//
// Two forms:
//   batchnorm_forward_fused    small [rows, C]: COLUMNS_OWNED channels; global [max(ceil((C - 15) / COLUMNS_OWNED), 1)],
//                              local [1]
//   batchnorm_forward_planes   inner >= 8: one channel; global [C], local [1]
//
// Slot EPILOGUE(V, LOAD, value, full, row, col): full the offset in y; operands of y's shape or one element.

#include "batchnorm_columns.clh"
#include "batchnorm_runs.clh"

KEEL_CPU __kernel void batchnorm_forward_fused(
    __global STORED* restrict y, __global REAL* restrict mean, __global REAL* restrict residual,
    __global REAL* restrict variance, __global const STORED* restrict x, __global const REAL* restrict scale,
    __global const REAL* restrict shift EPILOGUE_PARAMETERS, REAL epsilon, int rows, int C) {
  OWN_CHANNELS(left, right, get_global_id(0), COLUMNS_OWNED)
  normalize_channels(y, mean, residual, variance, x, scale, shift EPILOGUE_ARGUMENTS, epsilon, rows, C, left, right);
}

KEEL_CPU __kernel void batchnorm_forward_planes(
    __global STORED* restrict y, __global REAL* restrict mean, __global REAL* restrict residual,
    __global REAL* restrict variance, __global const STORED* restrict x, __global const REAL* restrict scale,
    __global const REAL* restrict shift EPILOGUE_PARAMETERS, REAL epsilon, int outer, int C, int inner) {
  const size_t c = get_global_id(0), m = (size_t)outer * inner;
  LEADING_BITS(REAL, origin, LOAD1_STORED(x, c * inner));
  const RunMoments moments = moments_of_runs(x, origin, 0, m, c, C, inner);
  SPLIT_SUM(REAL, high, low, origin, moments.mean, moments.rest);
  const REAL spread = moments.M2 / (REAL)m;
  mean[c] = high;
  residual[c] = low;
  variance[c] = spread;

  const REAL gain = scale[c] * (1 / sqrt(spread + epsilon)), offset = shift[c] - low * gain;
  // From behind: what was read last is the nearest. Meanwhile values of the next channel come, which are probably the
  // next that this core wants: the time of reading and that of writing would add up.
  for (size_t o = outer; o-- > 0;) {
    const size_t full = (o * C + c) * inner;
    normalize_run(y, x, full, full + inner, c, inner, high, gain, offset EPILOGUE_ARGUMENTS);
  }
}
