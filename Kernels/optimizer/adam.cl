// One step of Adam (Kingma & Ba 2015, as PyTorch computes it) over a flat buffer of parameters.
//
//   g  = gradient + weightDecay * p
//   m  = beta1 * m + (1 - beta1) * g
//   v  = beta2 * v + (1 - beta2) * g^2
//   p -= lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon)
//
//   parameter, m, v, gradient   [n]; the first three are updated in place
//   learningRates               one rate per step of the epoch: lr = learningRates[cursor[1]]
//   cursor                      counters of the training loop: t = cursor[2] + 1
//   logBeta1, logBeta2          natural logarithms, rounded from a wider type
//
// Parameter: GUARDED 1 adds the argument `asked` behind the cursor, and nothing changes unless asked[0] is finite.
//
// 1 - beta^t is taken as -expm1(t * log beta): subtracting a rounded beta from 1 would keep four digits of 1 - 0.999.
//
// Two forms with the same arguments:
//   adam_blocks   CPU: a work-item owns `block` parameters; global [ceil(n / block)], local [1]
//   adam_each     any device: one work-item per parameter; global [n] or rounded up, any local size

#include "guard.clh"
#include "real.clh"

#define ADAM_PARAMETERS                                                                                            \
  __global REAL *restrict parameter, __global REAL *restrict m, __global REAL *restrict v,                         \
      __global const REAL *restrict gradient, __global const REAL *restrict learningRates,                         \
      __global const int *restrict cursor GUARD_PARAMETER, REAL beta1, REAL beta2, REAL epsilon, REAL logBeta1,    \
      REAL logBeta2, REAL weightDecay, long n, long block

// What all parameters of a step share.
#define ADAM_SCALARS                                                              \
  const REAL lr = learningRates[cursor[1]], t = (REAL)cursor[2] + 1;              \
  const REAL complement1 = -expm1(logBeta1), complement2 = -expm1(logBeta2);      \
  const REAL step = lr / -expm1(t * logBeta1);                                    \
  const REAL root = 1 / sqrt(-expm1(t * logBeta2));

#define ADAM_UPDATE(V, LOAD, STORE, i)                                            \
  {                                                                               \
    const V p = LOAD(parameter, i), g = LOAD(gradient, i) + weightDecay * p;      \
    const V first = beta1 * LOAD(m, i) + complement1 * g;                         \
    const V second = beta2 * LOAD(v, i) + complement2 * g * g;                    \
    STORE(m, i, first);                                                           \
    STORE(v, i, second);                                                          \
    STORE(parameter, i, p - step * first / (sqrt(second) * root + epsilon));      \
  }

KEEL_CPU __kernel void adam_blocks(ADAM_PARAMETERS) {
  if (!IS_ALLOWED) return;
  ADAM_SCALARS
  size_t i = get_global_id(0) * block;
  const size_t end = min(i + (size_t)block, (size_t)n);
  for (; i + 16 <= end; i += 16) ADAM_UPDATE(REAL16, LOAD16, STORE16, i)
  for (; i < end; i++) ADAM_UPDATE(REAL, LOAD1, STORE1, i)
}

__kernel void adam_each(ADAM_PARAMETERS) {
  const size_t i = get_global_id(0);
  if (i >= n) return;
  if (!IS_ALLOWED) return;
  ADAM_SCALARS
  ADAM_UPDATE(REAL, LOAD1, STORE1, i)
}
