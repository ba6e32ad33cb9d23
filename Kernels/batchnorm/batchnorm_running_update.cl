// Running statistics of batch normalization after a training step.
//
//   newMean     = runningMean + weight * ((mean - runningMean) + residual)
//   newVariance = runningVariance + weight * (variance * varianceFactor - runningVariance)
//
//   all tensors [C]; the outputs may be the buffers of the running statistics
//   weight           of the new value: PyTorch's momentum, one minus Keras's
//   varianceFactor   m / (m - 1) for the unbiased running variance, 1 for the biased
//
// A channel whose batch statistics are not finite keeps its running statistics.
//
// Launch: global [C] or rounded up, any local size.

#include "real.clh"

__kernel void batchnorm_running_update(
    __global REAL* newMean, __global REAL* newVariance, __global const REAL* runningMean,
    __global const REAL* runningVariance, __global const REAL* mean, __global const REAL* residual,
    __global const REAL* variance, REAL weight, REAL varianceFactor, int C) {
  const size_t c = get_global_id(0);
  if (c >= C) return;
  const REAL old_mean = runningMean[c], old_variance = runningVariance[c];
  const bool usable = isfinite(mean[c]) && isfinite(variance[c]);
  newMean[c] = usable ? old_mean + weight * ((mean[c] - old_mean) + residual[c]) : old_mean;
  newVariance[c] = usable ? old_variance + weight * (variance[c] * varianceFactor - old_variance) : old_variance;
}
