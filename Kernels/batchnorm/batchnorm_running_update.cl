// Running statistics of batch normalization after a training step.
//
//   newMean     = runningMean + w * ((mean - runningMean) + residual)
//   newVariance = runningVariance + w * (variance * varianceFactor - runningVariance)
//   newBatches  = batches + 1
//
//   all tensors [C]; the outputs may be the buffers of the running statistics
//   w                weight, of the new value: PyTorch's momentum, one minus Keras's; or 1 / (batches + 1), which makes
//                    the running statistics averages over all batches and the first batch replace what was there
//   batches          of each channel, how many have moved it
//   varianceFactor   m / (m - 1) for the unbiased running variance, 1 for the biased
//
// A channel whose batch statistics are not finite keeps its running statistics and its count.
//
// Parameters: CUMULATIVE 1 takes w from the count and ignores weight; GUARDED 1 adds the argument `asked`, and nothing
// changes unless asked[0] is finite. Launch: global [C] or rounded up, any local size.

#include "guard.clh"
#include "real.clh"

#ifndef CUMULATIVE
#define CUMULATIVE 0
#endif

__kernel void batchnorm_running_update(
    __global REAL* newMean, __global REAL* newVariance, __global REAL* newBatches, __global const REAL* runningMean,
    __global const REAL* runningVariance, __global const REAL* batches, __global const REAL* mean,
    __global const REAL* residual, __global const REAL* variance GUARD_PARAMETER, REAL weight, REAL varianceFactor,
    int C) {
  const size_t c = get_global_id(0);
  if (c >= C) return;
  const REAL old_mean = runningMean[c], old_variance = runningVariance[c], count = batches[c];
  const REAL batch_variance = variance[c] * varianceFactor;
  const REAL w = CUMULATIVE ? 1 / (count + 1) : weight;
  const bool is_usable = IS_ALLOWED && isfinite(mean[c]) && isfinite(batch_variance);
  REAL moved_mean = old_mean + w * ((mean[c] - old_mean) + residual[c]);
  REAL moved_variance = old_variance + w * (batch_variance - old_variance);
  if (w == 1) {
    // old + (new - old) would round a variance far below the old one.
    moved_mean = mean[c] + residual[c];
    moved_variance = batch_variance;
  }
  newMean[c] = is_usable ? moved_mean : old_mean;
  newVariance[c] = is_usable ? moved_variance : old_variance;
  newBatches[c] = is_usable ? count + 1 : count;
}
