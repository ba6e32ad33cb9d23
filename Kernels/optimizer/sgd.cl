// One step of stochastic gradient descent, as PyTorch computes it, over a flat buffer of parameters.
//
//   g        = gradient + weightDecay * p
//   velocity = momentum * velocity + g       (0 before the first step)
//   p       -= lr * velocity                 (NESTEROV 1: lr * (g + momentum * velocity))
//
//   parameter, velocity, gradient   [n]; the first two are updated in place
//   learningRates                   one rate per step of the epoch: lr = learningRates[cursor[1]]
//   cursor                          counters of the training loop
//
// Parameters: MOMENTUM 0 drops the velocity, as an argument too, and p -= lr * g; NESTEROV 1; GUARDED 1 adds the argument
// `asked` behind the cursor, and nothing changes unless asked[0] is finite.
//
// Two forms with the same arguments:
//   sgd_blocks   CPU: a work-item owns `block` parameters; global [ceil(n / block)], local [1]
//   sgd_each     any device: one work-item per parameter; global [n] or rounded up, any local size

#include "guard.clh"
#include "real.clh"

#ifndef MOMENTUM
#define MOMENTUM 1
#endif
#ifndef NESTEROV
#define NESTEROV 0
#endif

#if MOMENTUM
#define VELOCITY_PARAMETER , __global REAL *restrict velocity
#define SGD_DIRECTION(V, LOAD, STORE, i, g)                                                         \
  {                                                                                                 \
    const V moved = momentum * LOAD(velocity, i) + (g);                                             \
    STORE(velocity, i, moved);                                                                      \
    (g) = NESTEROV ? (g) + momentum * moved : moved;                                                \
  }
#else
#define VELOCITY_PARAMETER
#define SGD_DIRECTION(V, LOAD, STORE, i, g)
#endif

#define SGD_PARAMETERS                                                                                      \
  __global REAL *restrict parameter VELOCITY_PARAMETER, __global const REAL *restrict gradient,             \
      __global const REAL *restrict learningRates, __global const int *restrict cursor GUARD_PARAMETER,     \
      REAL momentum, REAL weightDecay, long n, long block

#define SGD_SCALARS const REAL lr = learningRates[cursor[1]];

#define SGD_UPDATE(V, LOAD, STORE, i)                        \
  {                                                          \
    const V p = LOAD(parameter, i);                          \
    V g = LOAD(gradient, i) + weightDecay * p;               \
    SGD_DIRECTION(V, LOAD, STORE, i, g)                      \
    STORE(parameter, i, p - lr * g);                         \
  }

KEEL_CPU __kernel void sgd_blocks(SGD_PARAMETERS) {
  if (!IS_ALLOWED) return;
  SGD_SCALARS
  size_t i = get_global_id(0) * block;
  const size_t end = min(i + (size_t)block, (size_t)n);
  for (; i + 16 <= end; i += 16) SGD_UPDATE(REAL16, LOAD16, STORE16, i)
  for (; i < end; i++) SGD_UPDATE(REAL, LOAD1, STORE1, i)
}

__kernel void sgd_each(SGD_PARAMETERS) {
  const size_t i = get_global_id(0);
  if (i >= n) return;
  if (!IS_ALLOWED) return;
  SGD_SCALARS
  SGD_UPDATE(REAL, LOAD1, STORE1, i)
}
