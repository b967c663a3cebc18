// How Python calls a kernel, and what it takes: one entry and one list of parameters for each kernel, made from the
// kernel's own type. (minivl/kernels/cuda/build.py writes CUDA_HOST_KERNEL(name) behind the text.)
#pragma once
#include "cuda_bf16.h"
#include "cuda_fp16.h"

namespace cuda_host {
// kind: f float, i integer, u unsigned, b bool, B bfloat16, H float16, v void, p pointer, s anything else
struct Parameter { char kind, pointee, constant, unused; unsigned size, pointee_size; };

template <class T> struct Kind_of { static constexpr char value = 's'; };
#define KIND(type, letter) template <> struct Kind_of<type> { static constexpr char value = letter; };
KIND(float, 'f') KIND(double, 'f') KIND(bool, 'b') KIND(void, 'v') KIND(__nv_bfloat16, 'B') KIND(__half, 'H')
KIND(char, 'i') KIND(signed char, 'i') KIND(short, 'i') KIND(int, 'i') KIND(long, 'i') KIND(long long, 'i')
KIND(unsigned char, 'u') KIND(unsigned short, 'u') KIND(unsigned, 'u') KIND(unsigned long, 'u')
KIND(unsigned long long, 'u')
#undef KIND

template <class T> struct Size_of { static constexpr unsigned value = sizeof(T); };
template <> struct Size_of<void> { static constexpr unsigned value = 0; };
template <class T> struct Bare { typedef T type; static constexpr char constant = 0; };
template <class T> struct Bare<const T> { typedef T type; static constexpr char constant = 1; };

template <class T> struct Described {
  static constexpr Parameter value = {Kind_of<typename Bare<T>::type>::value, 0, 0, 0, sizeof(T), 0};
};
template <class T> struct Described<T*> {
  static constexpr Parameter value = {'p', Kind_of<typename Bare<T>::type>::value, Bare<T>::constant, 0,
                                      sizeof(T*), Size_of<typename Bare<T>::type>::value};
};
template <class T> struct Described<T* const> : Described<T*> {};

template <int... I> struct Numbers {};
template <int N, int... I> struct Count : Count<N - 1, N - 1, I...> {};
template <int... I> struct Count<0, I...> { typedef Numbers<I...> type; };

template <class... A, int... I>
__attribute__((noinline, no_sanitize("thread", "undefined", "address")))
void call(void (*kernel)(A...), void** arguments, Numbers<I...>) {
  kernel(*static_cast<typename Bare<A>::type*>(arguments[I])...);
}
template <class... A> void call(void (*kernel)(A...), void** arguments) {
  call(kernel, arguments, typename Count<sizeof...(A)>::type{});
}
template <class... A> int describe(void (*)(A...), Parameter* out) {
  const Parameter all[] = {Described<A>::value..., Parameter{}};
  for (unsigned i = 0; i < sizeof...(A); i++) out[i] = all[i];
  return sizeof...(A);
}
}  // namespace cuda_host

#define CUDA_HOST_KERNEL(name, bounds)                                                               \
  extern "C" __attribute__((visibility("default"), no_sanitize("thread"))) void cuda_host_run_##name(void** a) { \
    cuda_host::call(name, a);                                                                        \
  }                                                                                                  \
  extern "C" __attribute__((visibility("default"), no_sanitize("thread")))                           \
  int cuda_host_parameters_##name(cuda_host::Parameter* out, int* most) {                            \
    *most = bounds;                                                                                  \
    return cuda_host::describe(name, out);                                                           \
  }
