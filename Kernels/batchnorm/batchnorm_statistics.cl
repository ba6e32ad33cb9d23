// Batch statistics of x [outer, C, inner].
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
// Four forms of `partial`:
//   batchnorm_statistics_partial   any layout and device: a work-item per channel and slice; global [C, slices] or
//                                  rounded up, any local size
//   batchnorm_statistics_groups    GPU, any layout: a work-group per slice and as many channels as it is wide; global
//                                  [C rounded up to whole groups, slices * height of a group], local [width, height]:
//                                  256 items, width 1 where inner > 1, else a power of two up to 32
//   batchnorm_statistics_rows      CPU, inner >= 8: a work-item per channel and slice; global [C, slices], local [1, 1]
//   batchnorm_statistics_columns   CPU, inner = 1: a work-item per COLUMN_CHUNK channels and slice; global
//                                  [max(ceil((C - 15) / COLUMN_CHUNK), 1), slices], local [1, 1]
// Two forms of `merge` with the same arguments:
//   batchnorm_statistics_merge         any device: global [C] or rounded up, any local size
//   batchnorm_statistics_merge_lanes   CPU: a work-item per MERGE_CHANNELS channels; global [ceil(C / MERGE_CHANNELS)],
//                                      local [1]

#include "batchnorm_columns.clh"
#include "batchnorm_groups.clh"
#include "batchnorm_runs.clh"

__kernel void batchnorm_statistics_partial(
    __global REAL* restrict workspace, __global const STORED* restrict x, int outer, int C, int inner, int slices,
    long sliceLength) {
  const size_t c = get_global_id(0), slice = get_global_id(1);
  if (c >= C || slice >= slices) return;
  const size_t end = min((slice + 1) * (size_t)sliceLength, (size_t)outer * inner);
  LEADING_BITS(REAL, origin, LOAD1_STORED(x, c * inner));

  long count = 0;
  REAL centre = 0, rest = 0, M2 = 0, lost = 0;
  for (size_t first = slice * sliceLength; first < end; first += BLOCK) {
    const size_t last = min(first + BLOCK, end);
    const int n = last - first;
    REAL sum = 0;
    FOR_VALUES_OF_CHANNEL(index, first, last, c, C, inner) sum += LOAD1_STORED(x, index) - origin;
    const REAL rough = sum / n;
    // The deviations from a rounded mean do not quite add up to 0: what is left corrects mean and squares.
    REAL drift = 0, squares = 0;
    FOR_VALUES_OF_CHANNEL(index, first, last, c, C, inner) {
      const REAL d = (LOAD1_STORED(x, index) - origin) - rough;
      drift += d;
      squares = fma(d, d, squares);
    }
    MERGE_MOMENTS(REAL, count, centre, rest, M2, lost, n, rough, drift / n, squares - drift * drift / n);
  }
  workspace[slice * C + c] = centre;
  workspace[(slices + slice) * C + c] = rest;
  workspace[(2 * slices + slice) * C + c] = M2 + lost;
}

__kernel void batchnorm_statistics_groups(
    __global REAL* restrict workspace, __global const STORED* restrict x, int outer, int C, int inner, int slices,
    long sliceLength) {
  __local REAL counts[GROUP_ITEMS], centres[GROUP_ITEMS], rests[GROUP_ITEMS], squares[GROUP_ITEMS];
  const size_t c = get_global_id(0), slice = get_group_id(1);
  const size_t item = get_local_id(1) * get_local_size(0) + get_local_id(0);
  const size_t end = min((slice + 1) * (size_t)sliceLength, (size_t)outer * inner);
  const size_t step = get_local_size(1);

  long count = 0;
  REAL centre = 0, rest = 0, M2 = 0, lost = 0;
  if (c < C) {
    LEADING_BITS(REAL, origin, LOAD1_STORED(x, c * inner));
    ChannelCursor at = cursor_at(slice * sliceLength + get_local_id(1), step, c, C, inner);
    while (at.value < end) {
      REAL value[GROUP_BLOCK], sum = 0;
      int n = 0;
#pragma unroll
      for (int k = 0; k < GROUP_BLOCK; k++) {
        const bool isInside = at.value < end;
        value[k] = isInside ? LOAD1_STORED(x, at.index) - origin : 0;
        sum += value[k];
        n += isInside;
        advance(&at, step, C, inner);
      }
      const REAL rough = sum / n;
      REAL drift = 0, around = 0;
#pragma unroll
      for (int k = 0; k < GROUP_BLOCK; k++) {
        const REAL d = k < n ? value[k] - rough : 0;
        drift += d;
        around = fma(d, d, around);
      }
      MERGE_MOMENTS(REAL, count, centre, rest, M2, lost, n, rough, drift / n, around - drift * drift / n);
    }
  }
  counts[item] = count, centres[item] = centre, rests[item] = rest, squares[item] = M2 + lost;

  // A tree over the items of a channel: each step merges the upper half of what is left into the lower.
  for (size_t reach = GROUP_ITEMS / 2; reach > 0; reach /= 2) {
    barrier(CLK_LOCAL_MEM_FENCE);
    const size_t other = item + reach * get_local_size(0);
    if (get_local_id(1) < reach && get_local_id(1) + reach < step && counts[other] > 0) {
      REAL n = counts[item], mean = centres[item], low = rests[item], M2 = squares[item], lost = 0;
      MERGE_MOMENTS(REAL, n, mean, low, M2, lost, counts[other], centres[other], rests[other], squares[other]);
      counts[item] = n, centres[item] = mean, rests[item] = low, squares[item] = M2 + lost;
    }
  }
  if (get_local_id(1) > 0 || c >= C) return;
  workspace[slice * C + c] = centres[item];
  workspace[(slices + slice) * C + c] = rests[item];
  workspace[(2 * slices + slice) * C + c] = squares[item];
}

KEEL_CPU __kernel void batchnorm_statistics_rows(
    __global REAL* restrict workspace, __global const STORED* restrict x, int outer, int C, int inner, int slices,
    long sliceLength) {
  const size_t c = get_global_id(0), slice = get_global_id(1);
  const size_t end = min((slice + 1) * (size_t)sliceLength, (size_t)outer * inner);
  LEADING_BITS(REAL, origin, LOAD1_STORED(x, c * inner));
  const RunMoments moments = moments_of_runs(x, origin, slice * sliceLength, end, c, C, inner);
  workspace[slice * C + c] = moments.mean;
  workspace[(slices + slice) * C + c] = moments.rest;
  workspace[(2 * slices + slice) * C + c] = moments.M2;
}

KEEL_CPU __kernel void batchnorm_statistics_columns(
    __global REAL* restrict workspace, __global const STORED* restrict x, int outer, int C, int inner, int slices,
    long sliceLength) {
  OWN_CHANNELS(left, right, get_global_id(0), COLUMN_CHUNK)
  const size_t slice = get_global_id(1);
  const size_t begin = slice * sliceLength, end = min(begin + sliceLength, (size_t)outer);
  const size_t ahead = ROWS_AHEAD(left, right, outer, C);
  const int lanes = LANES_OF(left, right);
  ColumnMoments moments[VECTORS(COLUMN_CHUNK)];
  FOR_VECTORS(k, col, left, right) begin_columns(&moments[k], x + col, lanes);

  for (size_t row = begin; row < end; row += ROW_BLOCK) {
    const int n = min((size_t)ROW_BLOCK, end - row);
    const REAL share = (REAL)n / (REAL)(row - begin + n), seen = (REAL)(row - begin) * share;
    FOR_VECTORS(k, col, left, right)
      add_column_block(&moments[k], x + row * C + col, lanes, C, n, share, seen, ahead);
  }

  FOR_VECTORS(k, col, left, right) {
    store_columns(workspace + slice * C + col, lanes, moments[k].mean);
    store_columns(workspace + (slices + slice) * C + col, lanes, moments[k].rest);
    store_columns(workspace + (2 * slices + slice) * C + col, lanes, moments[k].M2 + moments[k].lost);
  }
}

#define MERGE_PARAMETERS                                                                           \
  __global REAL *restrict mean, __global REAL *restrict residual, __global REAL *restrict variance, \
      __global const STORED *restrict x, __global const REAL *restrict workspace, int outer, int C, \
      int inner, int slices, long sliceLength

// Merges the slices of the channels from c on; LOAD(p) and STORE(p, v) move their values, `leader` is the first of each.
#define MERGE_SLICES(V, LOAD, STORE, leader)                                                                     \
  {                                                                                                              \
    const long m = (long)outer * inner;                                                                          \
    long count = 0;                                                                                              \
    V centre = 0, rest = 0, M2 = 0, lost = 0;                                                                    \
    for (size_t slice = 0; slice < slices; slice++) {                                                            \
      const long n = min(sliceLength, m - (long)slice * sliceLength);                                            \
      __global const REAL* part = workspace + slice * C + c;                                                     \
      const size_t next = (size_t)slices * C;                                                                    \
      MERGE_MOMENTS(V, count, centre, rest, M2, lost, n, LOAD(part), LOAD(part + next), LOAD(part + 2 * next));  \
    }                                                                                                            \
    LEADING_BITS(V, origin, leader);                                                                             \
    SPLIT_SUM(V, high, low, origin, centre, rest);                                                               \
    STORE(mean + c, high);                                                                                       \
    STORE(residual + c, low);                                                                                    \
    STORE(variance + c, (M2 + lost) / (REAL)m);                                                                  \
  }

__kernel void batchnorm_statistics_merge(MERGE_PARAMETERS) {
  const size_t c = get_global_id(0);
  if (c >= C) return;
#define LOAD_ONE(p) (*(p))
#define STORE_ONE(p, v) (*(p) = (v))
  MERGE_SLICES(REAL, LOAD_ONE, STORE_ONE, LOAD1_STORED(x, c * inner))
}

KEEL_CPU __kernel void batchnorm_statistics_merge_lanes(MERGE_PARAMETERS) {
  const size_t left = get_global_id(0) * MERGE_CHANNELS, right = min(left + MERGE_CHANNELS, (size_t)C);
  for (size_t c = left; c < right; c += 8) {
    const int lanes = min((size_t)8, right - c);
    REAL leaders[8];
    for (int l = 0; l < 8; l++) leaders[l] = LOAD1_STORED(x, (c + min(l, lanes - 1)) * inner);
#define LOAD_SOME(p) load_lanes(p, lanes, 0)
#define STORE_SOME(p, v) store_lanes(p, lanes, v)
    MERGE_SLICES(REAL8, LOAD_SOME, STORE_SOME, LOAD8(leaders, 0))
  }
}
