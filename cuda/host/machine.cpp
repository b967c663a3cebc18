// Fibers, barriers and the order in which threads run. Compiled without instrumentation, once for each build.
//
// Read next: memory.cpp (the checks), then cuda.h.
#include "state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#ifdef CUDA_HOST_ADDRESS
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

extern "C" void cuda_host_switch(void** from, void* to);

// ---- 1. from one stack to another
#if defined(__x86_64__)
asm(".text\n.globl cuda_host_switch\n.hidden cuda_host_switch\n.type cuda_host_switch,@function\n"
    "cuda_host_switch:\n"
    "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
    "mov %rsp,(%rdi)\nmov %rsi,%rsp\n"
    "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n"
    ".size cuda_host_switch,.-cuda_host_switch\n");
static void* primed(char* top, void (*entry)()) {        // a stack that "returns" into entry
  void** s = reinterpret_cast<void**>(top);
  *--s = nullptr;                                         // entry's own return address: it never returns
  *--s = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; i++) *--s = nullptr;
  return s;
}
#elif defined(__aarch64__)
asm(".text\n.globl cuda_host_switch\n.hidden cuda_host_switch\n.type cuda_host_switch,%function\n"
    "cuda_host_switch:\n"
    "sub sp,sp,#160\nstp x19,x20,[sp]\nstp x21,x22,[sp,#16]\nstp x23,x24,[sp,#32]\nstp x25,x26,[sp,#48]\n"
    "stp x27,x28,[sp,#64]\nstp x29,x30,[sp,#80]\nstp d8,d9,[sp,#96]\nstp d10,d11,[sp,#112]\n"
    "stp d12,d13,[sp,#128]\nstp d14,d15,[sp,#144]\nmov x2,sp\nstr x2,[x0]\nmov sp,x1\n"
    "ldp x19,x20,[sp]\nldp x21,x22,[sp,#16]\nldp x23,x24,[sp,#32]\nldp x25,x26,[sp,#48]\n"
    "ldp x27,x28,[sp,#64]\nldp x29,x30,[sp,#80]\nldp d8,d9,[sp,#96]\nldp d10,d11,[sp,#112]\n"
    "ldp d12,d13,[sp,#128]\nldp d14,d15,[sp,#144]\nadd sp,sp,#160\nret\n");
static void* primed(char* top, void (*entry)()) {
  void** s = reinterpret_cast<void**>(top) - 20;
  memset(s, 0, 160);
  s[11] = reinterpret_cast<void*>(entry);                 // x30: where ret goes
  return s;
}
#else
#error "the runner knows x86-64 and ARM64"
#endif

namespace cuda_host {
Machine machine;
Fiber* current = nullptr;

static uint64_t drawn() {                                 // xorshift: the schedule is the seed's alone
  uint64_t& r = machine.random;
  r ^= r << 13, r ^= r >> 7, r ^= r << 17;
  return r;
}

static void to_scheduler() {
  Fiber* me = current;
#ifdef CUDA_HOST_ADDRESS
  __sanitizer_start_switch_fiber(me->state == DONE ? nullptr : &me->fake_stack, machine.main_bottom,
                                 machine.main_size);
#endif
  cuda_host_switch(&me->stack_pointer, machine.main_pointer);
#ifdef CUDA_HOST_ADDRESS
  __sanitizer_finish_switch_fiber(me->fake_stack, nullptr, nullptr);
#endif
}

static void to_fiber(Fiber* fiber) {
  current = fiber;
#ifdef CUDA_HOST_ADDRESS
  __sanitizer_start_switch_fiber(&machine.main_fake, fiber->stack, STACK);
#endif
  cuda_host_switch(&machine.main_pointer, fiber->stack_pointer);
#ifdef CUDA_HOST_ADDRESS
  __sanitizer_finish_switch_fiber(machine.main_fake, nullptr, nullptr);
#endif
  current = nullptr;
}

static void entry() {
#ifdef CUDA_HOST_ADDRESS
  __sanitizer_finish_switch_fiber(nullptr, &machine.main_bottom, &machine.main_size);
#endif
  machine.run(machine.arguments);
  if (!current->waited) fail(TOO_EARLY);                  // so the next one waits for this one alone
  current->state = DONE;
  to_scheduler();
  __builtin_trap();
}

void leave() {
  to_scheduler();
  __builtin_trap();                                       // nobody comes back here
}

// ---- 2. what a kernel asks

Index thread_index() { return current->thread; }
Index block_index() { return machine.block_index; }
Index block_size() { return machine.block; }
Index grid_size() { return machine.grid; }
unsigned lane_index() { return current->lane; }
void* dynamic_shared() { return machine.dynamic; }

Report* fail(Kind kind) {
  static Report ignored;
  Report* report = machine.failed ? &ignored : machine.report;
  machine.failed = true;
  memset(report, 0, sizeof *report);
  report->kind = kind;
  report->region = -1;
  report->block = machine.block_index;
  if (current) report->thread = current->thread;
  return report;
}

static void copied(char* to, size_t room, const char* from) { snprintf(to, room, "%s", from ? from : ""); }

static void wait(State state, const char* what, Place at) {
  current->state = state;
  current->what = what;
  current->at = at;
  to_scheduler();
}

int meet_block(const char* what, Place at, Vote vote, int predicate) {
  current->predicate = predicate;
  wait(AT_BLOCK, what, at);
  if (vote == NONE) return 0;
  int count = 0;
  for (unsigned i = 0; i < machine.threads; i++) count += machine.fibers[i].predicate != 0;
  wait(AT_BLOCK, what, at);                               // so that nobody overwrites before all have counted
  return vote == COUNT ? count : vote == AND ? count == (int)machine.threads : count > 0;
}

void wait_for_former() { current->waited = true; }

unsigned whole_warp() {
  unsigned left = machine.threads - current->warp * 32;
  return left < 32 ? (1u << left) - 1 : ~0u;
}

void meet_warp(const char* what, Place at, unsigned mask, bool fence, Exchange exchange, const void* offer,
               void* answer) {
  if (!(mask >> current->lane & 1)) {
    Report* report = fail(NOT_IN_MASK);
    copied(report->what, sizeof report->what, what);
    copied(report->file, sizeof report->file, at.file);
    report->line = at.line;
    report->mask = mask;
    leave();
  }
  current->mask = mask & whole_warp();
  current->fence = fence;
  current->exchange = exchange;
  current->offer = offer;
  current->answer = answer;
  wait(AT_WARP, what, at);
}

void trap(const char* what, Place at) {
  Report* report = fail(TRAP);
  copied(report->what, sizeof report->what, what);
  copied(report->file, sizeof report->file, at.file);
  report->line = at.line;
  leave();
  __builtin_unreachable();
}

// ---- 3. barriers open

static bool same_meeting(const Fiber& a, const Fiber& b) {
  return a.state == AT_WARP && b.state == AT_WARP && a.mask == b.mask && a.what == b.what && a.at.line == b.at.line;
}

// Lanes of a mask that all wait at the same place go on together.
static bool open_meeting(Fiber* warp, unsigned lanes, const Fiber& one) {
  unsigned here = 0;
  for (unsigned l = 0; l < lanes; l++)
    if (same_meeting(warp[l], one)) here |= 1u << l;
  if ((here & one.mask) != one.mask) return false;
  Lanes met = {};
  met.mask = one.mask;
  for (unsigned l = 0; l < lanes; l++)
    if (one.mask >> l & 1) met.offer[l] = warp[l].offer, met.answer[l] = warp[l].answer;
  if (one.exchange) one.exchange(met);
  uint32_t seen[32] = {};
  const unsigned mask = one.mask;
  const bool fence = one.fence;
  for (unsigned l = 0; fence && l < lanes; l++)
    for (int q = 0; mask >> l & 1 && q < 32; q++)
      if (warp[l].clock[q] > seen[q]) seen[q] = warp[l].clock[q];
  for (unsigned l = 0; l < lanes; l++) {
    if (!(mask >> l & 1)) continue;
    warp[l].state = READY;
    if (fence) memcpy(warp[l].clock, seen, sizeof seen), warp[l].clock[l]++;
  }
  return true;
}

static bool open_block() {
  const Fiber* f = machine.fibers;
  for (unsigned i = 0; i < machine.threads; i++)
    if (f[i].state != AT_BLOCK || f[i].at.line != f[0].at.line || f[i].what != f[0].what) return false;
  machine.epoch++;
  for (unsigned i = 0; i < machine.threads; i++) machine.fibers[i].state = READY;
  return true;
}

// No thread can go on: say where each group of threads stands.
static void deadlock() {
  Report* report = fail(DEADLOCK);
  for (unsigned i = 0; i < machine.threads; i++) {
    const Fiber& f = machine.fibers[i];
    const char* what = f.state == DONE ? "has ended" : f.what;
    int line = f.state == DONE ? 0 : f.at.line;
    unsigned mask = f.state == AT_WARP ? f.mask : 0;
    int g = 0;
    while (g < report->groups && (strcmp(report->group[g].what, what) || report->group[g].line != line
                                  || report->group[g].mask != mask)) g++;
    if (g == 8) continue;
    Group& group = report->group[g];
    if (g == report->groups) {
      report->groups++;
      copied(group.what, sizeof group.what, what);
      copied(group.file, sizeof group.file, f.state == DONE ? "" : f.at.file);
      group.line = line, group.mask = mask, group.first = f.thread;
    }
    group.threads++;
  }
}

// ---- 4. the order in which threads run

static void shuffled(unsigned* order, unsigned n) {
  for (unsigned i = 0; i < n; i++) order[i] = i;
  if (machine.schedule == REVERSE)
    for (unsigned i = 0; i < n; i++) order[i] = n - 1 - i;
  if (machine.schedule == RANDOM)
    for (unsigned i = n; i-- > 1;) {
      unsigned j = drawn() % (i + 1), t = order[i];
      order[i] = order[j], order[j] = t;
    }
}

// Run each lane of a warp until it waits, then open what can be opened. Whether anything happened.
static bool run_warp(unsigned number, unsigned* alive) {
  Fiber* warp = machine.fibers + number * 32;
  unsigned lanes = machine.threads - number * 32, order[32];
  if (lanes > 32) lanes = 32;
  bool ran = false;
  shuffled(order, lanes);
  for (unsigned k = 0; k < lanes && !machine.failed; k++) {
    Fiber& fiber = warp[order[k]];
    if (fiber.state != READY) continue;
    to_fiber(&fiber);
    ran = true;
    if (fiber.state == DONE) --*alive;
  }
  for (unsigned l = 0; l < lanes && !machine.failed; l++)
    if (warp[l].state == AT_WARP) ran |= open_meeting(warp, lanes, warp[l]);
  return ran;
}

static __attribute__((noinline)) void fill(char* from, char* to) {
  for (volatile char* p = from; p < to; p++) *p = (char)0xff;           // NaN as float, -1 as integer
}

static void begin() {
  machine.epoch++;
  fill(machine.dynamic, machine.dynamic + machine.dynamic_bytes);
  for (int i = 0; i < machine.launch->regions; i++) {
    const Region& r = machine.launch->region[i];
    if (r.kind == 2) fill(reinterpret_cast<char*>(r.start), reinterpret_cast<char*>(r.start + r.bytes));
  }
  for (unsigned i = 0; i < machine.threads; i++) {
    Fiber& f = machine.fibers[i];
    const Index& b = machine.block;
    f.number = i, f.lane = i & 31, f.warp = i >> 5, f.state = READY;
    f.thread = {i % b.x, i / b.x % b.y, i / (b.x * b.y)};
    memset(f.clock, 0, sizeof f.clock);
    f.clock[f.lane] = 1;
    f.fence_epoch = 0, f.heard = 0, f.waited = !machine.launch->early;
    f.stack_pointer = primed(f.stack + STACK, entry);
  }
}

// A warp runs ahead as far as it can, up to the next barrier of the block; in a random schedule warps
// take turns now and then, too.
static void run_block() {
  begin();
  const unsigned warps = (machine.threads + 31) / 32;
  unsigned alive = machine.threads, order[32], stalled = 0, at = 0;
  shuffled(order, warps);
  while (alive && !machine.failed) {
    if (machine.schedule == RANDOM && !stalled && !(drawn() & 7)) at = drawn() % warps;
    if (run_warp(order[at], &alive)) { stalled = 0; continue; }
    at = (at + 1) % warps;
    if (++stalled < warps) continue;
    stalled = 0;
    if (alive == machine.threads && open_block()) {
      shuffled(order, warps);
      at = 0;
    } else if (alive) {
      deadlock();
    }
  }
}

// ---- 5. a launch

static void make_fibers(unsigned n) {
  if (machine.made >= n) return;
  machine.fibers = static_cast<Fiber*>(realloc(machine.fibers, n * sizeof(Fiber)));
  for (; machine.made < n; machine.made++) {
    Fiber& f = machine.fibers[machine.made];
    memset(&f, 0, sizeof f);
    char* page = static_cast<char*>(mmap(nullptr, STACK + 4096, PROT_READ | PROT_WRITE,
                                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    mprotect(page, 4096, PROT_NONE);                       // a stack that overflows meets this page
    f.stack = page + 4096;
  }
}

static unsigned stride(unsigned n) {                       // one that meets every block
  for (unsigned s = drawn() % n + 1;; s++) {
    unsigned a = s, b = n;
    while (b) { unsigned t = a % b; a = b, b = t; }
    if (a == 1) return s;
  }
}

static void run_grid(unsigned blocks) {
  const bool random = machine.schedule == RANDOM;
  const uint64_t step = random ? stride(blocks) : 1, start = random ? drawn() % blocks : 0;
  for (unsigned i = 0; i < blocks && !machine.failed; i++) {
    unsigned b = machine.schedule == REVERSE ? blocks - 1 - i : (start + i * step) % blocks;
    machine.block_number = b;
    machine.block_index = {b % machine.grid.x, b / machine.grid.x % machine.grid.y,
                           b / (machine.grid.x * machine.grid.y)};
    run_block();
  }
}

#ifdef CUDA_HOST_ADDRESS
// AddressSanitizer ends the process; these words tell which thread it was (child.py reads them).
static void told() {
  if (!current) return;
  fprintf(stderr, "\nCUDA_HOST block %u %u %u thread %u %u %u\n", machine.block_index.x, machine.block_index.y,
          machine.block_index.z, current->thread.x, current->thread.y, current->thread.z);
}
#endif
}  // namespace cuda_host

using namespace cuda_host;

// 0 when the kernel ran, else the kind of what went wrong; `report` says the rest.
extern "C" int cuda_host_launch(void (*run)(void**), void** arguments, const Launch* launch, Report* report) {
  machine.grid = launch->grid, machine.block = launch->block;
  machine.threads = launch->block.x * launch->block.y * launch->block.z;
  machine.schedule = static_cast<Schedule>(launch->schedule);
  machine.random = launch->seed * 0x9E3779B97F4A7C15ull + 1;
  machine.launch = launch;
  machine.run = run, machine.arguments = arguments, machine.report = report, machine.failed = false;
  report->kind = FINE;
  make_fibers(machine.threads);
  machine.dynamic_bytes = launch->shared;
  free(machine.dynamic);
  machine.dynamic = nullptr;
#ifdef CUDA_HOST_ADDRESS
  const size_t slack = 0;                                  // the byte behind the last belongs to nobody
  __sanitizer_set_death_callback(told);
#else
  const size_t slack = 1 << 16;                            // who writes too far tears down nothing of Python's
#endif
  void** dynamic = reinterpret_cast<void**>(&machine.dynamic);
  if (posix_memalign(dynamic, 1024, launch->shared + slack ? launch->shared + slack : 1)) return -1;
  begin_launch(*launch);
  run_grid(launch->grid.x * launch->grid.y * launch->grid.z);
#ifdef CUDA_HOST_ADDRESS
  for (unsigned i = 0; machine.failed && i < machine.made; i++)          // fibers that were left in the middle
    __asan_unpoison_memory_region(machine.fibers[i].stack, STACK);
#endif
  fflush(stdout);                                          // what a kernel printed
  return report->kind;
}

// Which thread runs, for whoever catches a signal.
extern "C" void cuda_host_where(unsigned* six) {
  Index b = machine.block_index, t = current ? current->thread : Index{};
  six[0] = b.x, six[1] = b.y, six[2] = b.z, six[3] = t.x, six[4] = t.y, six[5] = t.z;
}

// So that Python can tell whether its picture of the two structures is right.
extern "C" unsigned cuda_host_report_bytes() { return sizeof(Report); }
extern "C" unsigned cuda_host_launch_bytes() { return sizeof(Launch); }

#ifndef CUDA_HOST_CHECK
namespace cuda_host {
void begin_launch(const Launch&) {}
void before_atomic(void*, unsigned, bool) {}
void fence() {}
void before_prefetch(const void*, unsigned) {}
}
#endif
