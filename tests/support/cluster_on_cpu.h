// What topk_cluster.cuh says in CUDA's words, over cuda_on_cpu.h.
#pragma once

#include <math.h>

#include <bit>
#include <cstring>

#include "cuda_on_cpu.h"

struct alignas(8) int2 {
    int x, y;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};

constexpr int THREADS = 128;  // of a block: few, for a switch of fibers is slow

namespace cluster_on_cpu {

template <class Args>
void run(void (*kernel)(Args), int rows, int blocks, const Args& args) {
    std::memset(cuda_on_cpu::dynamic_shared, 0x7f, sizeof cuda_on_cpu::dynamic_shared);  // nothing may count on zeros
    cuda_on_cpu::run_grid(kernel, dim3(rows * blocks), THREADS, args, blocks);
}

}  // namespace cluster_on_cpu

inline int thread_index() { return threadIdx.x; }
inline void sync_block() { __syncthreads(); }
inline void wait_for_kernels_before() {}

struct Cluster {
    int blocks() const { return __clusterSizeInBlocks(); }
    int rank() const { return __clusterRelativeBlockRank(); }
    int index() const { return blockIdx.x / __clusterSizeInBlocks(); }
    void arrive() const { __cluster_barrier_arrive(); }
    void wait() const { __cluster_barrier_wait(); }
    void sync() const { arrive(), wait(); }

    template <class T>
    T* of(T* own, int rank) const {
        return static_cast<T*>(__cluster_map_shared_rank(own, rank));
    }
};

template <class T>
T& block_shared() {
    DYNAMIC_SHARED(T, memory);
    return *memory;
}

inline float __shfl_xor_sync(unsigned mask, float value, int step) {
    const int lane = cuda_on_cpu::lane();
    return cuda_on_cpu::among_lanes(mask, std::bit_cast<int>(value), [=](const long long* all) {
        return std::bit_cast<float>(static_cast<int>(all[lane ^ step]));
    });
}
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }

template <class T>
T atomicExch(T* address, T value) {
    T old = *address;
    *address = value;
    return old;
}
