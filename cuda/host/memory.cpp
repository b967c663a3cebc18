// The checks of every load and store: bounds, races, reads of shared memory that nobody wrote, alignment.
//
// The kernel is compiled with -fsanitize=thread, which calls a hook before each access, and with some of
// -fsanitize=undefined. Neither library is linked: the hooks are here. This file itself is not
// instrumented, and no access of the machine's own is looked at.
//
// Races are found by happens-before, not by luck of a schedule: two accesses of one byte by two threads,
// one of them a write, must have a barrier of the block between them (the epoch), or a __syncwarp (a
// vector clock over the lanes of a warp). A shuffle orders no memory. Atomics may meet each other. Threads of two
// blocks are ordered where one made a __threadfence and then an atomic, and the other an atomic on the same place
// and then a __threadfence: what was before the one fence is seen after the other.
//
// Memory is watched in words of 4 bytes; a word in which a smaller access falls is watched byte by byte
// from then on.
#include "state.h"

#include <link.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

namespace cuda_host {
namespace {
struct Access {                  // who touched it; block 0 is nobody
  uint32_t block, epoch, clock, pc;
  uint16_t thread;
  uint8_t atomic, writes;
};
struct Cell { Access write, read, other; };              // the last write, the last reader, one of another warp
struct Word { Cell whole; Cell* bytes; };

// What a thread of a block made known by an atomic at `place`: all that its block did before the barrier that opened
// `epoch`, and what its warp's clocks say.
struct Release { uintptr_t place; uint32_t block, epoch, clock[32]; uint16_t thread; };
// That the block which runs has heard of one: since the fence of this thread in this epoch.
struct Heard { int release; uint32_t epoch; uint16_t thread; };
constexpr int MOST_RELEASES = 1 << 12;                    // atomics after a fence in one launch; later ones order nothing
Release released[MOST_RELEASES];
Heard heard[MOST_RELEASES];
int releases = 0, hearings = 0;
uint32_t hearing_block = 0;                               // whose `heard` is

struct Watched { Region region; Word* words; };
constexpr int MOST = 256;
Watched watched[MOST];
int regions = 0, last = 0;
uintptr_t image_start = 0, image_end = 0;
char* pool = nullptr;
size_t pool_bytes = 0, pool_used = 0;

void* pages(size_t bytes) {
  return mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

size_t words_of(const Region& r) { return (r.bytes + 3 + (r.start & 3)) / 4; }

int find_image(dl_phdr_info* info, size_t, void*) {
  uintptr_t here = reinterpret_cast<uintptr_t>(&machine), from = ~0ul, to = 0;
  for (int i = 0; i < info->dlpi_phnum; i++) {
    const ElfW(Phdr)& part = info->dlpi_phdr[i];
    if (part.p_type != PT_LOAD) continue;
    uintptr_t a = info->dlpi_addr + part.p_vaddr, b = a + part.p_memsz;
    from = a < from ? a : from, to = b > to ? b : to;
  }
  if (here < from || here >= to) return 0;
  image_start = from, image_end = to;
  return 1;
}

void add(const Region& region) {
  const size_t bytes = words_of(region) * sizeof(Word);
  watched[regions++] = {region, bytes ? static_cast<Word*>(pages(bytes)) : nullptr};
}

Cell* split(Word& word) {
  if (word.bytes) return word.bytes;
  if (pool_used + 4 * sizeof(Cell) > pool_bytes) return &word.whole;      // never: the pool has room for all
  word.bytes = reinterpret_cast<Cell*>(pool + pool_used);
  pool_used += 4 * sizeof(Cell);
  for (int i = 0; i < 4; i++) word.bytes[i] = word.whole;
  return word.bytes;
}

// Does the current thread know of an access of another block?
bool known(const Access& o, const Access& me) {
  if (hearing_block != me.block) return false;
  for (int i = 0; i < hearings; i++) {
    const Heard& h = heard[i];
    const Release& r = released[h.release];
    if (r.block != o.block) continue;
    if (!(me.thread == h.thread || me.epoch > h.epoch)) continue;
    if (o.epoch < r.epoch || (o.thread / 32 == r.thread / 32 && o.clock <= r.clock[o.thread & 31])) return true;
  }
  return false;
}

// Did this access happen before what the current thread does now?
bool before(const Access& o, const Access& me) {
  if (o.block == 0) return true;
  if (o.block != me.block) return known(o, me);
  if (o.thread == me.thread || o.epoch < me.epoch) return true;
  return o.thread / 32 == me.thread / 32 && o.clock <= current->clock[o.thread & 31];
}

void describe(Report* report, const Access& me, const Region& region, uintptr_t address, unsigned bytes) {
  report->pc = me.pc, report->bytes = bytes, report->writes = me.writes, report->atomic = me.atomic;
  report->byte = static_cast<int64_t>(address - region.start);
}

Index thread_of(unsigned number) {
  const Index& b = machine.block;
  return {number % b.x, number / b.x % b.y, number / (b.x * b.y)};
}

void race(const Access& me, const Access& other, int region, uintptr_t address) {
  Report* report = fail(RACE);
  describe(report, me, watched[region].region, address, 1);
  report->region = region;
  report->other_pc = other.pc, report->other_writes = other.writes;
  report->other_thread = thread_of(other.thread);
  unsigned b = other.block - 1;
  report->other_block = {b % machine.grid.x, b / machine.grid.x % machine.grid.y,
                         b / (machine.grid.x * machine.grid.y)};
  leave();
}

// The latest reader, and beside it one of another warp if there is one: whoever writes is held against both.
void note_reader(Cell& c, const Access& me) {
  if (c.read.block == me.block && c.read.thread == me.thread) { c.read = me; return; }
  const bool other_warp = c.read.block != me.block || c.read.thread / 32 != me.thread / 32;
  const bool other_old = c.other.block != me.block || c.other.epoch != me.epoch;
  if (c.read.block && (other_warp || other_old)) c.other = c.read;
  c.read = me;
}

void check_cell(Cell& c, const Access& me, int region, uintptr_t address, bool reads) {
  if (watched[region].region.kind && c.write.block != me.block) {         // shared memory is the block's own
    c = Cell{};
    if (reads) {
      Report* report = fail(UNINITIALISED);
      describe(report, me, watched[region].region, address, 1);
      report->region = region;
      leave();
    }
  }
  if (!(me.atomic && c.write.atomic) && !before(c.write, me)) race(me, c.write, region, address);
  if (me.writes && !before(c.read, me)) race(me, c.read, region, address);
  if (me.writes && !before(c.other, me)) race(me, c.other, region, address);
  if (me.writes) c.write = me; else note_reader(c, me);
}

int region_of(uintptr_t p, unsigned n) {
  const Region& again = watched[last].region;
  if (last < regions && p >= again.start && p + n <= again.start + again.bytes) return last;
  for (int i = 0; i < regions; i++) {
    const Region& r = watched[i].region;
    if (p >= r.start && p + n <= r.start + r.bytes) return last = i;
  }
  return -1;
}

bool own(uintptr_t p) {                                   // the thread's own variables, constants, globals
  uintptr_t stack = reinterpret_cast<uintptr_t>(current->stack);
  return (p >= stack && p < stack + STACK) || (p >= image_start && p < image_end);
}

// Which array was meant: the one that ends or begins nearest.
void outside(const Access& me, uintptr_t p, unsigned n) {
  int nearest = -1;
  uint64_t best = 1 << 20;
  for (int i = 0; i < regions; i++) {
    const Region& r = watched[i].region;
    uint64_t far = p + n <= r.start ? r.start - p - n : p >= r.start + r.bytes ? p - r.start - r.bytes : 0;
    if (far < best) best = far, nearest = i;
  }
  Report* report = fail(nearest < 0 ? WILD : OUT_OF_BOUNDS);
  describe(report, me, nearest < 0 ? Region{} : watched[nearest].region, p, n);
  report->region = nearest;
  leave();
}

void check(uintptr_t p, unsigned n, bool writes, bool atomic, bool reads, void* pc) {
  if (!current || machine.failed) return;
  int region = region_of(p, n);
  if (region < 0 && own(p)) return;
  Access me{machine.block_number + 1, machine.epoch, current->clock[current->lane],
            static_cast<uint32_t>(reinterpret_cast<uintptr_t>(pc) - image_start),
            static_cast<uint16_t>(current->number), atomic, writes};
  if (region < 0) return outside(me, p, n);
  const Region& r = watched[region].region;
  if (!current->waited && !r.kind) {
    Report* report = fail(TOO_EARLY);
    describe(report, me, r, p, n);
    report->region = region;
    leave();
  }
  if (writes && r.read_only) {
    Report* report = fail(READ_ONLY);
    describe(report, me, r, p, n);
    report->region = region;
    leave();
  }
  const uintptr_t base = r.start & ~3ul;
  for (uintptr_t a = p; a < p + n;) {
    Word& word = watched[region].words[(a - base) / 4];
    if (!(a & 3) && a + 4 <= p + n && !word.bytes) {
      check_cell(word.whole, me, region, a, reads);
      a += 4;
    } else {
      check_cell(split(word)[a & 3], me, region, a, reads);
      a++;
    }
  }
}

void undefined(Kind kind, const char* what, const char* file, int line) {
  if (!current) __builtin_trap();
  Report* report = fail(kind);
  snprintf(report->what, sizeof report->what, "%s", what);
  snprintf(report->file, sizeof report->file, "%s", file);
  report->line = line;
  leave();
}
}  // namespace

void begin_launch(const Launch& launch) {
  if (!image_end) dl_iterate_phdr(find_image, nullptr);
  for (int i = 0; i < regions; i++)
    if (watched[i].words) munmap(watched[i].words, words_of(watched[i].region) * sizeof(Word));
  if (pool) munmap(pool, pool_bytes);
  regions = last = 0, pool_used = pool_bytes = 0;
  releases = hearings = 0, hearing_block = 0;
  for (int i = 0; i < launch.regions && i < MOST; i++) {
    Region region = launch.region[i];
    if (region.kind == 1) region.start = reinterpret_cast<uint64_t>(machine.dynamic);
    add(region);
    pool_bytes += words_of(region) * 4 * sizeof(Cell);
  }
  pool = pool_bytes ? static_cast<char*>(pages(pool_bytes)) : nullptr;
}

__attribute__((noinline)) void before_atomic(void* p, unsigned n, bool reads) {
  uintptr_t a = reinterpret_cast<uintptr_t>(p);
  check(a, n, true, true, reads, __builtin_return_address(0));
  if (!current || machine.failed) return;
  current->heard = releases;                              // what was released there so far, once a fence follows
  current->heard_at = a;
  if (!current->fence_epoch || releases == MOST_RELEASES) return;
  Release& mine = released[releases++];
  mine.place = a, mine.block = machine.block_number + 1, mine.epoch = current->fence_epoch;
  mine.thread = static_cast<uint16_t>(current->number);
  memcpy(mine.clock, current->fence_clock, sizeof mine.clock);
}

void before_prefetch(const void* address, unsigned bytes) {
  uintptr_t a = reinterpret_cast<uintptr_t>(address);
  if (!current || machine.failed || region_of(a, bytes) >= 0) return;
  outside(Access{machine.block_number + 1, machine.epoch, 0,
                 static_cast<uint32_t>(reinterpret_cast<uintptr_t>(__builtin_return_address(0)) - image_start),
                 static_cast<uint16_t>(current->number), 0, 0}, a, bytes);
}

void fence() {
  if (!current) return;
  // 1. for others: what is before this fence is known to who hears of the next atomic
  current->fence_epoch = machine.epoch;
  memcpy(current->fence_clock, current->clock, sizeof current->clock);
  current->clock[current->lane]++;
  // 2. of others: what they had made known where the last atomic was
  const uint32_t block = machine.block_number + 1;
  if (hearing_block != block) hearing_block = block, hearings = 0;
  for (int i = 0; i < current->heard && hearings < MOST_RELEASES; i++)
    if (released[i].place == current->heard_at && released[i].block != block)
      heard[hearings++] = {i, machine.epoch, static_cast<uint16_t>(current->number)};
  current->heard = 0;
}
}  // namespace cuda_host

// ---- what the compiler calls

using cuda_host::check;
#define HIDDEN extern "C" __attribute__((visibility("hidden"), noinline)) void
#define ACCESS(name, n, writes)                                                            \
  HIDDEN name(void* p) {                                                                   \
    check(reinterpret_cast<uintptr_t>(p), n, writes, false, !writes, __builtin_return_address(0)); \
  }
#define BOTH(n) ACCESS(__tsan_read##n, n, false) ACCESS(__tsan_write##n, n, true)
#define UNALIGNED(n) ACCESS(__tsan_unaligned_read##n, n, false) ACCESS(__tsan_unaligned_write##n, n, true)
BOTH(1) BOTH(2) BOTH(4) BOTH(8) BOTH(16)
UNALIGNED(2) UNALIGNED(4) UNALIGNED(8) UNALIGNED(16)
HIDDEN __tsan_read_range(void* p, long n) {
  check(reinterpret_cast<uintptr_t>(p), n, false, false, true, __builtin_return_address(0));
}
HIDDEN __tsan_write_range(void* p, long n) {
  check(reinterpret_cast<uintptr_t>(p), n, true, false, false, __builtin_return_address(0));
}
HIDDEN __tsan_init() {}
HIDDEN __tsan_func_entry(void*) {}
HIDDEN __tsan_func_exit() {}
HIDDEN __tsan_vptr_update(void*, void*) {}

namespace {
struct Source { const char* file; uint32_t line, column; };
struct Type { uint16_t kind, info; char name[1]; };
struct Mismatch { Source at; Type* type; unsigned char log_alignment, kind; };
struct OutOfArray { Source at; Type *array, *index; };
struct Plain { Source at; };

long small(Type* type, uintptr_t value) {                 // a number that fits a register, with its sign
  int bits = 1 << (type->info >> 1);
  if (!(type->info & 1) || bits >= 64) return static_cast<long>(value);
  return static_cast<long>(value << (64 - bits)) >> (64 - bits);
}
}  // namespace

HIDDEN __ubsan_handle_type_mismatch_v1_abort(Mismatch* data, uintptr_t p) {
  using namespace cuda_host;
  if (!current) __builtin_trap();
  Report* report = fail(MISALIGNED);
  report->bytes = 1u << data->log_alignment;
  int region = region_of(p, 1);
  report->region = region;
  report->byte = region < 0 ? 0 : static_cast<int64_t>(p - watched[region].region.start);
  report->line = data->at.line;
  snprintf(report->file, sizeof report->file, "%s", data->at.file);
  snprintf(report->what, sizeof report->what, "%s", data->type->name);
  leave();
}
HIDDEN __ubsan_handle_out_of_bounds_abort(OutOfArray* data, uintptr_t index) {
  char words[200];
  snprintf(words, sizeof words, "takes element %ld of an array of type %s", small(data->index, index), data->array->name);
  cuda_host::undefined(cuda_host::OUT_OF_BOUNDS, words, data->at.file, data->at.line);
}
#define OVERFLOWS(name, words)                                                            \
  HIDDEN __ubsan_handle_##name##_abort(Plain* data, uintptr_t, uintptr_t) {               \
    cuda_host::undefined(cuda_host::UNDEFINED, words, data->at.file, data->at.line);      \
  }
OVERFLOWS(add_overflow, "a sum leaves the range of its signed type")
OVERFLOWS(sub_overflow, "a difference leaves the range of its signed type")
OVERFLOWS(mul_overflow, "a product leaves the range of its signed type")
OVERFLOWS(negate_overflow, "a negation leaves the range of its signed type")
OVERFLOWS(divrem_overflow, "a division by zero")
OVERFLOWS(shift_out_of_bounds, "a shift by a negative count, or by as many bits as the type has or more")
