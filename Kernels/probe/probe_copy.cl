// A copy that does nothing else: the roof of everything that waits for memory.
//
//   to[i] = from[i]
//
//   to, from  [items · block · 16]
//
// A work-item copies `block` vectors of 16. On CPU devices they lie side by side. Elsewhere neighbouring work-items copy
// neighbouring quarters of a vector.
//
// Launch: global [items], local [1] for CPU devices; global [items · 4] with block 1, any local size, elsewhere.
// Parameters: PROBE_CPU 1 for CPU devices; PROBE_STREAMS 1 for stores that bypass their caches where the compiler can
// say so: a line that is written whole need not be read before, but what fits a cache is slower so.

#include "real.clh"

#ifndef PROBE_CPU
#define PROBE_CPU 0
#endif

#ifndef PROBE_STREAMS
#define PROBE_STREAMS 0
#endif

#if PROBE_STREAMS && defined(__has_builtin)
#if __has_builtin(__builtin_nontemporal_store)
#define STREAM(p, i, v) __builtin_nontemporal_store(v, (__global REAL16*)(p) + (i))
#endif
#endif
#ifndef STREAM
#define STREAM(p, i, v) STORE16(p, (i) * 16, v)
#endif

__kernel void probe_copy(__global REAL* restrict to, __global const REAL* restrict from, int block) {
#if PROBE_CPU
  const size_t first = get_global_id(0) * block;
  for (size_t i = first; i < first + block; i++) STREAM(to, i, LOAD16(from, i * 16));
#else
  const size_t i = get_global_id(0);
  ((__global REAL4*)to)[i] = ((__global const REAL4*)from)[i];
#endif
}
