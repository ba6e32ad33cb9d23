// The two sums of batch normalization backward, any layout: valid on every device and for every shape.
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
// Launch: partial [C, slices], merge [C], or rounded up; any local size.
// Slot PROLOGUE(V, LOAD, value, full, row, col): full the offset in dy, row the index in outer, col the channel.

#include "batchnorm.clh"

#ifndef PROLOGUE
#define PROLOGUE_PARAMETERS
#define PROLOGUE(V, LOAD, value, full, row, col)
#endif

__kernel void batchnorm_backward_reduce_partial(
    __global REAL* restrict workspace, __global const REAL* restrict dy, __global const REAL* restrict x,
    __global const REAL* restrict mean, __global const REAL* restrict residual,
    __global const REAL* restrict variance PROLOGUE_PARAMETERS, REAL epsilon, int outer, int C, int inner, int slices,
    long sliceLength) {
  const size_t c = get_global_id(0), slice = get_global_id(1);
  if (c >= C || slice >= slices) return;
  const size_t end = min((slice + 1) * (size_t)sliceLength, (size_t)outer * inner);
  const REAL high = mean[c], low = residual[c], rstd = 1 / sqrt(variance[c] + epsilon);

  REAL sum = 0, product = 0, sum_lost = 0, product_lost = 0;
  for (size_t first = slice * sliceLength; first < end; first += GRADIENT_BLOCK) {
    const size_t last = min(first + GRADIENT_BLOCK, end);
    REAL block_sum = 0, block_product = 0;
    FOR_VALUES_OF_CHANNEL(index, first, last, c, C, inner) {
      REAL g = dy[index];
      PROLOGUE(REAL, LOAD1, g, index, value_ / inner, c);
      block_sum += g;
      block_product = fma(g, (x[index] - high) - low, block_product);
    }
    ADD_KEEPING(REAL, sum, sum_lost, block_sum);
    ADD_KEEPING(REAL, product, product_lost, block_product);
  }
  workspace[slice * C + c] = (product + product_lost) * rstd;
  workspace[(slices + slice) * C + c] = sum + sum_lost;
}

__kernel void batchnorm_backward_reduce_merge(
    __global REAL* restrict dscale, __global REAL* restrict dshift, __global const REAL* restrict workspace, int C,
    int slices) {
  const size_t c = get_global_id(0);
  if (c >= C) return;
  REAL sum = 0, product = 0, sum_lost = 0, product_lost = 0;
  for (size_t slice = 0; slice < slices; slice++) {
    ADD_KEEPING(REAL, product, product_lost, workspace[slice * C + c]);
    ADD_KEEPING(REAL, sum, sum_lost, workspace[(slices + slice) * C + c]);
  }
  dscale[c] = product + product_lost;
  dshift[c] = sum + sum_lost;
}
