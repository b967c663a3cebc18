// What machine.cpp and memory.cpp share: the fibers, the block that runs, and the report.
#pragma once
#include "machine.h"

namespace cuda_host {
enum State : uint8_t { READY, AT_BLOCK, AT_WARP, DONE };

struct Fiber {
  void* stack_pointer;
  char* stack;
  Index thread;
  unsigned number, lane, warp;
  State state;
  const char* what;              // what it waits for
  Place at;
  unsigned mask;
  bool fence;
  Exchange exchange;
  const void* offer;
  void* answer;
  int predicate;
  uint32_t clock[32];            // vector clock over the lanes of the warp: what this lane has seen of each
  uint32_t fence_epoch, fence_clock[32];      // what was before the last __threadfence; epoch 0: there was none
  uintptr_t heard_at;            // where the last atomic was, and how many releases it could hear of; 0 after a fence
  int heard;
  bool waited;                   // for the kernels in front of this one
  void* fake_stack;              // AddressSanitizer's
};

struct Machine {
  Index grid, block, block_index;
  unsigned block_number, threads;
  uint32_t epoch;                // counts barriers of the block: what was before one happened before
  Fiber* fibers;
  unsigned made;
  char* dynamic;
  uint64_t dynamic_bytes, random;
  Schedule schedule;
  void* main_pointer;
  void (*run)(void**);
  void** arguments;
  const Launch* launch;
  Report* report;
  bool failed;
  void* main_fake;
  const void* main_bottom;
  size_t main_size;
};

constexpr size_t STACK = 256 * 1024;
extern Machine machine;
extern Fiber* current;           // null while the scheduler itself runs

Report* fail(Kind kind);         // the report to fill, with block and thread; the first failure counts
void leave();                    // back to the scheduler, for ever

// memory.cpp, in the checking build; empty elsewhere
void begin_launch(const Launch&);
}  // namespace cuda_host
