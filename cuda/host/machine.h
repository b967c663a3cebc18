// The machine that a kernel runs on when there is no GPU: what a compiled kernel asks of it.
//
// One fiber stands for one CUDA thread. A fiber runs until it waits: at a barrier of its block, or at a
// meeting of lanes of its warp (__syncwarp, a shuffle, a vote, a tensor-core instruction). The scheduler
// (machine.cpp) then runs another. Blocks run one after another.
//
// Not here: CUDA's own words (cuda.h). Read next: machine.cpp.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace cuda_host {

struct Index { unsigned x, y, z; };

// Where in the source something stands.
struct Place { const char* file; int line; };

// Lanes of one warp that have met: what each offers, and where each wants its answer.
struct Lanes {
  unsigned mask;                 // lanes that the meeting names
  const void* offer[32];         // null for lanes that are not there
  void* answer[32];
};
typedef void (*Exchange)(const Lanes&);

// Constant for the fiber that asks, so the compiler may ask once.
__attribute__((const)) Index thread_index();
__attribute__((const)) Index block_index();
__attribute__((const)) Index block_size();
__attribute__((const)) Index grid_size();
__attribute__((const)) unsigned lane_index();
__attribute__((const)) void* dynamic_shared();

// Wait until the whole block is here. `vote` counts, ands or ors a predicate over the block.
enum Vote { NONE, COUNT, AND, OR };
int meet_block(const char* what, Place at, Vote vote = NONE, int predicate = 0);

// Wait until all lanes of the mask are here, then exchange. Orders memory only where `fence` says so.
void meet_warp(const char* what, Place at, unsigned mask, bool fence, Exchange exchange, const void* offer,
               void* answer);

unsigned whole_warp();                                  // the mask of all lanes that the warp was born with
void before_atomic(void* address, unsigned bytes, bool reads);      // told to the checks (memory.cpp)
void fence();                                           // __threadfence, told to the checks too
void wait_for_former();                                 // what a kernel that began early does before it touches memory
void before_prefetch(const void* address, unsigned bytes);     // advice for the cache: it must lie inside an array
[[noreturn]] void trap(const char* what, Place at);     // assert, __trap

// ---- what Python reads and writes (minivl/kernels/cuda/machine.py mirrors these)

enum Kind { FINE, DEADLOCK, NOT_IN_MASK, OUT_OF_BOUNDS, WILD, RACE, UNINITIALISED, MISALIGNED, UNDEFINED, TRAP,
            READ_ONLY, TOO_EARLY };

struct Group { char what[40], file[200]; int line; unsigned mask, threads; Index first; };

struct Report {
  int kind, line, other_line, region, groups;
  unsigned bytes, writes, other_writes, atomic, mask;
  int64_t byte;                                         // from the start of the region
  uint64_t pc, other_pc;                                // places in the image, for addr2line
  Index block, thread, other_block, other_thread;
  char what[200], file[200];
  Group group[8];
};

// A piece of memory that a kernel may touch. kind: 0 an argument, 1 dynamic, 2 static shared memory
struct Region { uint64_t start, bytes; int kind, read_only; };

// early: the kernel may begin before the one in front of it has ended (programmatic dependent launch).
struct Launch {
  Index grid, block;
  uint64_t shared, seed;
  int schedule, regions;                                // 0 forward, 1 reverse, 2 random
  int early, unused;
  const Region* region;
};

enum Schedule { FORWARD, REVERSE, RANDOM };
}  // namespace cuda_host
