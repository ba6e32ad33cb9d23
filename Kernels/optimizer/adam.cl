// One step of Adam over a flat buffer of parameters; adam.clh has the formula.
//
//   parameter, m, v, gradient   [n]; the first three are updated in place
//
// Parameter: GUARDED 1 adds the argument `asked` behind the cursor, and nothing changes unless asked[0] is finite.
//
// Two forms with the same arguments:
//   adam_blocks   CPU: a work-item owns `block` parameters; global [ceil(n / block)], local [1]
//   adam_each     any device: one work-item per parameter; global [n] or rounded up, any local size

#include "adam.clh"
#include "flat_update.clh"

KEEL_CPU __kernel void adam_blocks(FLAT_UPDATE_PARAMETERS) {
  UPDATE_BEGIN
  UPDATE_BLOCK
}

__kernel void adam_each(FLAT_UPDATE_PARAMETERS) {
  const size_t i = get_global_id(0);
  if (i >= n) return;
  UPDATE_BEGIN
  UPDATE_FLAT(REAL, LOAD1, STORE1, i)
}
