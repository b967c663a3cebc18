// A process that runs launches for Python (minivl/kernels/cuda/child.py), so that a kernel that crashes, never ends, or
// is ended by AddressSanitizer takes nothing else with it.
//
//     serve KERNEL.so FD SECONDS        requests on stdin, replies on FD; SECONDS of processor time for each
//
// A request: u32 length and "?" with a kernel's name, which asks for its parameters; or u32 length and the kernel's name; Launch up to `seed`, schedule; the regions, each with its bytes if it is
// an argument; the arguments. A reply: the report, and the bytes of the regions that may have been written.
#include "machine.h"

#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

using namespace cuda_host;

static void* library;
static void (*where)(unsigned*);
static uintptr_t base;                                    // where the file was loaded

static void read_all(void* to, size_t n) {
  for (char* p = static_cast<char*>(to); n;) {
    ssize_t got = read(0, p, n);
    if (got <= 0) _exit(0);                               // Python is gone, or wants no more
    p += got, n -= got;
  }
}
static void write_all(int fd, const void* from, size_t n) {
  for (const char* p = static_cast<const char*>(from); n;) {
    ssize_t put = write(fd, p, n);
    if (put <= 0) _exit(0);
    p += put, n -= put;
  }
}
template <class T> static T read_one() {
  T value;
  read_all(&value, sizeof value);
  return value;
}

static void on_signal(int number, siginfo_t* about, void* context) {
  ucontext_t* c = static_cast<ucontext_t*>(context);
#if defined(__x86_64__)
  uintptr_t pc = c->uc_mcontext.gregs[REG_RIP];
#else
  uintptr_t pc = c->uc_mcontext.pc;
#endif
  unsigned w[6];
  where(w);
  char line[200];
  int n = snprintf(line, sizeof line, "\nCUDA_HOST block %u %u %u thread %u %u %u\nCUDA_HOST signal %d pc %lx\n", w[0],
                   w[1], w[2], w[3], w[4], w[5], number, static_cast<unsigned long>(pc - base));
  (void)about;
  if (write(2, line, n) < 0) _exit(1);
  _exit(128 + number);
}

static void catch_signals() {
  static char stack[1 << 16];
  stack_t other = {};
  other.ss_sp = stack, other.ss_size = sizeof stack;
  sigaltstack(&other, nullptr);
  struct sigaction action = {};
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
#if defined(__SANITIZE_ADDRESS__)
  const int all[] = {SIGVTALRM};                            // the others are AddressSanitizer's to tell
#else
  const int all[] = {SIGVTALRM, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
#endif
  for (int number : all) sigaction(number, &action, nullptr);
}

static void allow(double seconds) {                       // of processor time; a process that sleeps uses none
  itimerval timer = {};
  timer.it_value.tv_sec = static_cast<time_t>(seconds);
  timer.it_value.tv_usec = static_cast<suseconds_t>((seconds - timer.it_value.tv_sec) * 1e6);
  setitimer(ITIMER_VIRTUAL, &timer, nullptr);
}

struct Memory { char *whole, *start; size_t all, bytes; };

// An array that lies `offset` bytes behind a multiple of 512, with nothing of ours close to either end.
static Memory make(size_t bytes, size_t offset) {
  Memory m = {};
  m.bytes = bytes;
#if defined(__SANITIZE_ADDRESS__)
  void* p = nullptr;
  if (posix_memalign(&p, 512, offset + bytes ? offset + bytes : 1)) _exit(1);
  m.whole = static_cast<char*>(p);
  m.start = m.whole + offset;
  __asan_poison_memory_region(m.whole, offset);
#else
  size_t gap = (2 * bytes + (1 << 20)) & ~4095ul, room = (offset + bytes + 4095) & ~4095ul;
  m.all = gap + room + gap;
  m.whole = static_cast<char*>(mmap(nullptr, m.all, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  mprotect(m.whole + gap, room ? room : 4096, PROT_READ | PROT_WRITE);
  m.start = m.whole + gap + offset;
#endif
  return m;
}
static void release(Memory& m) {
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(m.whole, m.start - m.whole);
  free(m.whole);
#else
  munmap(m.whole, m.all);
#endif
}

// What a kernel takes: how many parameters, the threads that its block may have, the parameters.
static void describe(int out, const char* kernel) {
  char name[256] = "cuda_host_parameters_";
  strcat(name, kernel);
  auto ask = reinterpret_cast<int (*)(void*, int*)>(dlsym(library, name));
  static char parameters[256 * 12];
  int two[2];
  two[0] = ask(parameters, two + 1);
  write_all(out, two, sizeof two);
  write_all(out, parameters, sizeof parameters);
}

static void serve_one(int out, double seconds) {
  char kernel[256] = {}, name[256] = "cuda_host_run_";
  unsigned length = read_one<unsigned>();
  if (length > 200) _exit(1);
  read_all(kernel, length);
  if (kernel[0] == '?') return describe(out, kernel + 1);
  strcat(name, kernel);
  Launch launch = {};
  read_all(&launch, offsetof(Launch, region));
  static Region region[256];
  static Memory memory[256];
  if (launch.regions > 256) _exit(1);
  launch.region = region;
  for (int i = 0; i < launch.regions; i++) {
    region[i] = read_one<Region>();
    if (region[i].kind == 2) region[i].start += base;
    if (region[i].kind) continue;
    memory[i] = make(region[i].bytes, region[i].start);
    region[i].start = reinterpret_cast<uint64_t>(memory[i].start);
    read_all(memory[i].start, region[i].bytes);
  }
  int count = read_one<int>();
  static char value[256][32];
  void* argument[256];
  for (int i = 0; i < count && i < 256; i++) {            // region and offset, or -1 and the bytes of a number
    int from = read_one<int>();
    read_all(value[i], 32);
    if (from >= 0) {
      uint64_t offset;
      memcpy(&offset, value[i], 8);
      uint64_t address = region[from].start + offset;
      memcpy(value[i], &address, 8);
    }
    argument[i] = value[i];
  }
  auto run = reinterpret_cast<void (*)(void**)>(dlsym(library, name));
  auto go = reinterpret_cast<int (*)(void (*)(void**), void**, const Launch*, Report*)>(dlsym(library, "cuda_host_launch"));
  static Report report;
  allow(seconds);
  go(run, argument, &launch, &report);
  allow(0);
  write_all(out, &report, sizeof report);
  for (int i = 0; i < launch.regions; i++) {
    if (region[i].kind) continue;
    if (!region[i].read_only) write_all(out, memory[i].start, memory[i].bytes);
    release(memory[i]);
  }
}

int main(int count, char** words) {
  if (count != 4) return 2;
  library = dlopen(words[1], RTLD_NOW | RTLD_LOCAL);
  if (!library) { fprintf(stderr, "%s\n", dlerror()); return 1; }
  where = reinterpret_cast<void (*)(unsigned*)>(dlsym(library, "cuda_host_where"));
  Dl_info about;
  dladdr(reinterpret_cast<void*>(where), &about);
  base = reinterpret_cast<uintptr_t>(about.dli_fbase);
  catch_signals();
  for (;;) serve_one(atoi(words[2]), atof(words[3]));
}
