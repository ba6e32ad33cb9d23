// Many launches as one, for CPU devices: phases that follow each other, each of tiles that any worker may take.
//
// What is done stands in `table`; the program has the functions for it. A phase's tiles touch nothing of each other, so
// they may run in any order and on any core. A work-item is a worker. It claims one tile after the other; the one that
// ends a phase's last tile opens the next phase, and after the last phase the first one again, `runs` times in all.
//
// A worker waits only for tiles that others have claimed, and who has claimed a tile is running: no worker counts on
// another being started. One that starts late joins in, one that starts after the end finds nothing to do, and one alone
// does everything. One that has waited for long, because another was held up, leaves the rest of the launch to the others.
// (The model of Sorensen, Donaldson, Batty, Gopalakrishnan, Rakamarić, "Portable Inter-workgroup Barrier
// Synchronisation for GPUs", OOPSLA 2016, asks no more: what has begun goes on.)
//
//   table     [0] phases, then of each: where it begins. There: its tiles, the patience of those who wait for it, and its
//             entries: function, tiles, work-items a tile, work-items, their extents on axes 0, 1 and 2, numbers in the
//             entry, the arguments. An entry of 0 tiles belongs to the tile before it; one of -1 tiles is no entry.
//   sync      two sets of LINES lines of 64 bytes, all 0 before the first launch: claims, ended tiles, ended runs.
//             A launch uses the set `parity`, the next launch the other one, and each leaves that to the next as 0.
//   claims    phase << 20 | tiles taken from behind << 10 | tiles taken from the front. Every other worker takes from
//             behind, so that a core has the same part of a tensor in many phases.
//
// Launch: global [workers], local [1]; at most 255 workers, 512 tiles a phase and 4,094 phases.
// Slots: MERGED_PARAMETERS and MERGED_BUFFERS, the buffers; MERGED_CASES, a case a function: it runs the items from
// `begin` to `end` of `entry`.

#include "real.clh"

#ifndef MERGED_PARAMETERS
#define MERGED_PARAMETERS , __global uchar* b0
#define MERGED_BUFFERS b0
#define MERGED_CASES default: buffers[0][begin] = 0;
#endif

#define LINES 3
#define LINE 16
#define END 0xfffu
// Numbers of an entry.
#define FUNCTION 0
#define TILES 1
#define ITEMS_A_TILE 2
#define ITEMS 3
#define EXTENT 4
#define LENGTH 7

#if defined(__x86_64__)
#define KEEL_RELAX() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define KEEL_RELAX() __builtin_arm_yield()
#else
#define KEEL_RELAX()
#endif

// PoCL's mem_fence is empty on CPUs.
#if defined(__x86_64__) || defined(__aarch64__)
#define KEEL_FENCE() __atomic_thread_fence(__ATOMIC_ACQ_REL)
#else
#define KEEL_FENCE() mem_fence(CLK_GLOBAL_MEM_FENCE)
#endif

static inline uint phase_of(uint claims) { return claims >> 20; }
static inline long claimed(uint claims) { return (claims & 1023) + (claims >> 10 & 1023); }

KEEL_CPU __kernel void merged(
    __global const long* table, volatile __global uint* sync, int parity, int runs MERGED_PARAMETERS) {
  __global uchar* const buffers[] = {MERGED_BUFFERS};
  volatile __global uint* claims = sync + parity * LINES * LINE;
  volatile __global uint* ended_tiles = claims + LINE;
  volatile __global uint* ended_runs = claims + 2 * LINE;
  const bool from_behind = get_global_id(0) & 1;

  for (;;) {
    const uint seen = atomic_add(claims, from_behind ? 1u << 10 : 1u);
    const uint phase = phase_of(seen);
    if (phase == END) return;
    __global const long* entry = table + table[1 + phase];
    const long tiles = entry[0], patience = entry[1];
    if (claimed(seen) >= tiles) {
      uint now = seen;
      for (long turn = 0; phase_of(now) == phase && claimed(now) >= tiles; turn++) {
        if (turn == patience) return;
        KEEL_RELAX();
        now = *claims;
      }
      continue;
    }

    KEEL_FENCE();
    long tile = from_behind ? tiles - 1 - (seen >> 10 & 1023) : seen & 1023;
    for (entry += 2; tile >= entry[TILES]; entry += entry[LENGTH]) tile -= entry[TILES];
    do {
      const long begin = tile * entry[ITEMS_A_TILE], end = min(begin + entry[ITEMS_A_TILE], entry[ITEMS]);
      switch (entry[FUNCTION]) { MERGED_CASES }
      // What one launch wrote under one type the next may read or write under another.
      KEEL_FENCE();
      tile = 0;
      entry += entry[LENGTH];
    } while (entry[TILES] == 0);

    if (atomic_add(ended_tiles, 1u) + 1 < tiles) continue;
    KEEL_FENCE();
    atomic_xchg(ended_tiles, 0u);
    uint next = phase + 1;
    if (next == table[0]) next = ++*ended_runs < (uint)runs ? 0 : END;
    if (next == END) {
      volatile __global uint* other = sync + (1 - parity) * LINES * LINE;
      for (int line = 0; line < LINES; line++) other[line * LINE] = 0;
    }
    KEEL_FENCE();
    atomic_xchg(claims, next << 20);
  }
}
