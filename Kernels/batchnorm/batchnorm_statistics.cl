// Batch statistics of any layout: valid on every device and for every shape. x is [outer, C, inner].
//
//   mean + residual = sum(x) / m      variance = sum((x - mean)^2) / m    (biased)      m = outer * inner
//
// Two launches. `partial` takes each channel in `slices` slices of sliceLength values (the last may be shorter, none
// may be empty) and leaves their means, relative to the channel's origin, and M2 = sum of squares around them;
// `merge` merges the slices in index order. Numerics: see batchnorm.clh.
//
//   workspace   [3, slices, C]: mean and its rest, M2
//   mean, residual, variance   [C]
//
// Launch: partial [C, slices], merge [C], or rounded up; any local size.

#include "batchnorm.clh"

__kernel void batchnorm_statistics_partial(
    __global REAL* restrict workspace, __global const REAL* restrict x, int outer, int C, int inner, int slices,
    long sliceLength) {
  const size_t c = get_global_id(0), slice = get_global_id(1);
  if (c >= C || slice >= slices) return;
  const size_t end = min((slice + 1) * (size_t)sliceLength, (size_t)outer * inner);
  LEADING_BITS(REAL, origin, x[c * inner]);

  long count = 0;
  REAL centre = 0, rest = 0, M2 = 0, lost = 0;
  for (size_t first = slice * sliceLength; first < end; first += BLOCK) {
    const size_t last = min(first + BLOCK, end);
    const int n = last - first;
    REAL sum = 0;
    FOR_VALUES_OF_CHANNEL(index, first, last, c, C, inner) sum += x[index] - origin;
    const REAL rough = sum / n;
    // The deviations from a rounded mean do not quite add up to 0: what is left corrects mean and squares.
    REAL drift = 0, squares = 0;
    FOR_VALUES_OF_CHANNEL(index, first, last, c, C, inner) {
      const REAL d = (x[index] - origin) - rough;
      drift += d;
      squares = fma(d, d, squares);
    }
    MERGE_MOMENTS(REAL, count, centre, rest, M2, lost, n, rough, drift / n, squares - drift * drift / n);
  }
  workspace[slice * C + c] = centre;
  workspace[(slices + slice) * C + c] = rest;
  workspace[(2 * slices + slice) * C + c] = M2 + lost;
}

__kernel void batchnorm_statistics_merge(
    __global REAL* restrict mean, __global REAL* restrict residual, __global REAL* restrict variance,
    __global const REAL* restrict x, __global const REAL* restrict workspace, int outer, int C, int inner, int slices,
    long sliceLength) {
  const size_t c = get_global_id(0);
  if (c >= C) return;
  const long m = (long)outer * inner;

  long count = 0;
  REAL centre = 0, rest = 0, M2 = 0, lost = 0;
  for (size_t slice = 0; slice < slices; slice++) {
    const long n = min(sliceLength, m - (long)slice * sliceLength);
    MERGE_MOMENTS(
        REAL, count, centre, rest, M2, lost, n, workspace[slice * C + c], workspace[(slices + slice) * C + c],
        workspace[(2 * slices + slice) * C + c]);
  }

  LEADING_BITS(REAL, origin, x[c * inner]);
  SPLIT_SUM(REAL, high, low, origin, centre, rest);
  mean[c] = high;
  residual[c] = low;
  variance[c] = (M2 + lost) / m;
}
