// One step of stochastic gradient descent over a flat buffer of parameters; sgd.clh has the formula.
//
//   parameter, velocity, gradient   [n]; the first two are updated in place
//
// Parameters: those of the formula, and GUARDED 1 adds the argument `asked` behind the cursor, and nothing changes unless
// asked[0] is finite.
//
// Two forms with the same arguments:
//   sgd_blocks   CPU: a work-item owns `block` parameters; global [ceil(n / block)], local [1]
//   sgd_each     any device: one work-item per parameter; global [n] or rounded up, any local size

#include "sgd.clh"
#include "flat_update.clh"

KEEL_CPU __kernel void sgd_blocks(FLAT_UPDATE_PARAMETERS) {
  UPDATE_BEGIN
  UPDATE_BLOCK
}

__kernel void sgd_each(FLAT_UPDATE_PARAMETERS) {
  const size_t i = get_global_id(0);
  if (i >= n) return;
  UPDATE_BEGIN
  UPDATE_FLAT(REAL, LOAD1, STORE1, i)
}
