// The two sums of batch normalization backward, x of [outer, C, inner].
//
//   g = prologue(dy)    xhat = ((x - mean) - residual) * rstd,  rstd = 1 / sqrt(variance + epsilon)
//   dscale = sum(g * xhat)    dshift = sum(g)
//
// Two launches. `partial` sums each channel in `slices` slices of sliceLength of its m = outer * inner values (the
// last may be shorter), in blocks; `merge` adds the slices in index order. x is centred before it is multiplied.
//
//   dy, x                        [outer, C, inner]
//   mean, residual, variance     [C]
//   workspace                    [2, slices, C]: sum(g * xhat), sum(g)
//   dscale, dshift               [C]
//
// Four forms of `partial`, launched as those of batchnorm_statistics.cl:
//   batchnorm_backward_partial   any layout and device
//   batchnorm_backward_groups    GPU, any layout
//   batchnorm_backward_rows      CPU, inner >= 8
//   batchnorm_backward_columns   CPU, inner = 1
// Two forms of `merge`, batchnorm_backward_merge and batchnorm_backward_merge_lanes, launched as those of
// batchnorm_statistics.cl.
//
// Slot PROLOGUE(V, LOAD, value, full, row, col): full the offset in dy; operands of dy's shape or one element.

// A line of the cache at a time: four sums of a vector leave registers for that, the values of a block do not.
#define WIDE_COLUMNS
#include "batchnorm_columns.clh"
#include "batchnorm_groups.clh"
#include "batchnorm_runs.clh"

#define PARTIAL_PARAMETERS                                                                                   \
  __global REAL *restrict workspace, __global const STORED *restrict dy, __global const STORED *restrict x,  \
      __global const REAL *restrict mean, __global const REAL *restrict residual,                            \
      __global const REAL *restrict variance PROLOGUE_PARAMETERS, REAL epsilon, int outer, int C, int inner, \
      int slices, long sliceLength

__kernel void batchnorm_backward_partial(PARTIAL_PARAMETERS) {
  const size_t c = get_global_id(0), slice = get_global_id(1);
  if (c >= C || slice >= slices) return;
  const size_t end = min((slice + 1) * (size_t)sliceLength, (size_t)outer * inner);
  const REAL high = mean[c], low = residual[c], rstd = 1 / sqrt(variance[c] + epsilon);

  REAL sum = 0, product = 0, sum_lost = 0, product_lost = 0;
  for (size_t first = slice * sliceLength; first < end; first += GRADIENT_BLOCK) {
    const size_t last = min(first + GRADIENT_BLOCK, end);
    REAL block_sum = 0, block_product = 0;
    FOR_VALUES_OF_CHANNEL(index, first, last, c, C, inner) {
      REAL g = LOAD1_STORED(dy, index);
      PROLOGUE(REAL, LOAD1_STORED, g, index, 0, c);
      block_sum += g;
      block_product = fma(g, (LOAD1_STORED(x, index) - high) - low, block_product);
    }
    ADD_KEEPING(REAL, sum, sum_lost, block_sum);
    ADD_KEEPING(REAL, product, product_lost, block_product);
  }
  workspace[slice * C + c] = (product + product_lost) * rstd;
  workspace[(slices + slice) * C + c] = sum + sum_lost;
}

__kernel void batchnorm_backward_groups(PARTIAL_PARAMETERS) {
  __local REAL sums[GROUP_ITEMS], products[GROUP_ITEMS];
  const size_t c = get_global_id(0), slice = get_group_id(1), step = get_local_size(1);
  const size_t item = get_local_id(1) * get_local_size(0) + get_local_id(0);
  const size_t end = min((slice + 1) * (size_t)sliceLength, (size_t)outer * inner);

  REAL sum = 0, product = 0, sum_lost = 0, product_lost = 0;
  if (c < C) {
    const REAL high = mean[c], low = residual[c];
    ChannelCursor at = cursor_at(slice * sliceLength + get_local_id(1), step, c, C, inner);
    while (at.value < end) {
      REAL block_sum = 0, block_product = 0;
#pragma unroll
      for (int k = 0; k < GROUP_BLOCK; k++) {
        if (at.value < end) {
          REAL g = LOAD1_STORED(dy, at.index);
          PROLOGUE(REAL, LOAD1_STORED, g, at.index, 0, c);
          block_sum += g;
          block_product = fma(g, (LOAD1_STORED(x, at.index) - high) - low, block_product);
        }
        advance(&at, step, C, inner);
      }
      ADD_KEEPING(REAL, sum, sum_lost, block_sum);
      ADD_KEEPING(REAL, product, product_lost, block_product);
    }
  }
  sums[item] = sum + sum_lost, products[item] = product + product_lost;

  // A tree over the items of a channel: each step adds the upper half of what is left to the lower.
  for (size_t reach = GROUP_ITEMS / 2; reach > 0; reach /= 2) {
    barrier(CLK_LOCAL_MEM_FENCE);
    const size_t other = item + reach * get_local_size(0);
    if (get_local_id(1) < reach && get_local_id(1) + reach < step)
      sums[item] += sums[other], products[item] += products[other];
  }
  if (get_local_id(1) > 0 || c >= C) return;
  workspace[slice * C + c] = products[item] * (1 / sqrt(variance[c] + epsilon));
  workspace[(slices + slice) * C + c] = sums[item];
}

KEEL_CPU __kernel void batchnorm_backward_rows(PARTIAL_PARAMETERS) {
  const size_t c = get_global_id(0), slice = get_global_id(1);
  const size_t end = min((slice + 1) * (size_t)sliceLength, (size_t)outer * inner);
  const RunGradients gradients =
      gradients_of_runs(dy, x, mean[c], residual[c], slice * sliceLength, end, c, C, inner PROLOGUE_ARGUMENTS);
  workspace[slice * C + c] = gradients.product / sqrt(variance[c] + epsilon);
  workspace[(slices + slice) * C + c] = gradients.sum;
}

KEEL_CPU __kernel void batchnorm_backward_columns(PARTIAL_PARAMETERS) {
  OWN_CHANNELS(left, right, get_global_id(0), COLUMN_CHUNK)
  const size_t slice = get_global_id(1);
  const size_t begin = slice * sliceLength, end = min(begin + sliceLength, (size_t)outer);
  const size_t ahead = GRADIENT_ROWS_AHEAD(left, right, outer, C);
  const int lanes = LANES_OF(left, right);
  ColumnGradients gradients[VECTORS(COLUMN_CHUNK)];
  FOR_VECTORS(k, col, left, right) begin_gradients(&gradients[k], mean + col, residual + col, lanes);

  for (size_t row = begin; row < end; row += ROW_BLOCK) {
    const int n = min((size_t)ROW_BLOCK, end - row);
    FOR_VECTORS(k, col, left, right)
      add_gradient_block(&gradients[k], dy, x, lanes, row, col, C, n, ahead PROLOGUE_ARGUMENTS);
  }

  FOR_VECTORS(k, col, left, right) {
    const ColumnGradients* result = &gradients[k];
    const COLUMNS rstd = (REAL)1 / sqrt(load_columns(variance + col, lanes, 1) + epsilon);
    store_columns(workspace + slice * C + col, lanes, (result->product + result->product_lost) * rstd);
    store_columns(workspace + (slices + slice) * C + col, lanes, result->sum + result->sum_lost);
  }
}

#define MERGE_PARAMETERS                                                                                   \
  __global REAL *restrict dscale, __global REAL *restrict dshift, __global const REAL *restrict workspace, int C, \
      int slices
#define MERGE_SLICES(V, LOAD, STORE)                                             \
  {                                                                              \
    V sum = 0, product = 0, sum_lost = 0, product_lost = 0;                      \
    for (size_t slice = 0; slice < slices; slice++) {                            \
      __global const REAL* part = workspace + slice * C + c;                     \
      ADD_KEEPING(V, product, product_lost, LOAD(part));                         \
      ADD_KEEPING(V, sum, sum_lost, LOAD(part + (size_t)slices * C));            \
    }                                                                            \
    STORE(dscale + c, product + product_lost);                                   \
    STORE(dshift + c, sum + sum_lost);                                           \
  }

__kernel void batchnorm_backward_merge(MERGE_PARAMETERS) {
  const size_t c = get_global_id(0);
  if (c >= C) return;
#define LOAD_ONE(p) (*(p))
#define STORE_ONE(p, v) (*(p) = (v))
  MERGE_SLICES(REAL, LOAD_ONE, STORE_ONE)
}

KEEL_CPU __kernel void batchnorm_backward_merge_lanes(MERGE_PARAMETERS) {
  const size_t left = get_global_id(0) * MERGE_CHANNELS, right = min(left + MERGE_CHANNELS, (size_t)C);
  for (size_t c = left; c < right; c += 8) {
    const int lanes = min((size_t)8, right - c);
#define LOAD_SOME(p) load_lanes(p, lanes, 0)
#define STORE_SOME(p, v) store_lanes(p, lanes, v)
    MERGE_SLICES(REAL8, LOAD_SOME, STORE_SOME)
  }
}
